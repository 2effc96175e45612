"""Authentication: Bearer keys from the environment, kept as hashes. Pure."""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from deployments.config.settings import Auth
from deployments.errors import ConfigError, Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Key:
    """An API key's holder; not the key itself."""

    name: str  # in usage records and limits; `TENANT:NAME` where another tenant has a key of this name
    tenant: str | None  # the only tenant that the key may name; None: any

    def speaks_for(self, tenant: str | None) -> str | None:
        """Return the tenant who pays. Raises Forbidden if the key is bound to another."""
        if self.tenant is not None and tenant not in (None, self.tenant):
            raise Forbidden("This API key is bound to another tenant.")
        return self.tenant or tenant


class Access(Enum):
    """Who may call a route."""

    ANYONE = "anyone"
    KEY = "key"
    ADMIN = "admin"
    KEY_OR_ADMIN = "key or admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: the holder of a key, an operator, or an anonymous caller."""

    key: Key | None = None  # None: an operator, or no key is needed
    admin: bool = False  # the caller has shown the admin key


ANONYMOUS, OPERATOR = Identity(), Identity(admin=True)


class Authenticator:
    """Checks the keys of callers.

    Without `api_keys_env` every caller passes: then the server must only be reachable from this machine.
    Raises ConfigError if a variable is not set or holds an empty key.
    """

    def __init__(self, auth: Auth, environ: Mapping[str, str] = os.environ):
        self._keys: dict[bytes, Key] | None = None
        if auth.api_keys_env:
            given = [_parse_key(text) for text in _read(auth.api_keys_env, environ).split(",") if text.strip()]
            self._keys = _distinct(given)
        admin = _read(auth.admin_key_env, environ) if auth.admin_key_env else None
        self._admin = _digest(admin) if admin else None

    @property
    def open(self) -> bool:
        """Return whether every caller passes."""
        return self._keys is None

    def admit(self, access: Access, authorization: str | None) -> Identity:
        """Return who calls. Raises Unauthorized or Forbidden if the caller may not use the route."""
        match access:
            case Access.ANYONE:
                return ANONYMOUS
            case Access.ADMIN:
                self.admit_admin(authorization)
                return OPERATOR
            case Access.KEY_OR_ADMIN if self.is_admin(authorization):
                return OPERATOR
        return Identity(self.key(authorization))

    def key(self, authorization: str | None) -> Key | None:
        """Return the caller's key, None if none is needed. Raises Unauthorized."""
        if self._keys is None:
            return None
        key = _digest(_bearer(authorization))
        if key not in self._keys:
            raise Unauthorized("Incorrect API key provided.")
        return self._keys[key]

    def is_admin(self, authorization: str | None) -> bool:
        """Return whether the header holds the admin key."""
        try:
            self.admit_admin(authorization)
        except (Forbidden, Unauthorized):
            return False
        return True

    def admit_admin(self, authorization: str | None) -> None:
        """Raise Forbidden if no admin key is configured, Unauthorized if the header does not hold it."""
        if self._admin is None:
            raise Forbidden("Operators' routes are off: the configuration has no auth.admin_key_env.")
        if not hmac.compare_digest(_digest(_bearer(authorization)), self._admin):
            raise Unauthorized("Incorrect admin key provided.")


def _parse_key(text: str) -> tuple[bytes, Key]:
    key, tenant, name = [part.strip() for part in f"{text}::".split(":")][:3]
    if not key:
        raise ConfigError("auth: an API key is empty")
    # Usage records and limits need a name. The default one must not reveal the key.
    return _digest(key), Key(name or f"key-{_digest(key).hex()[:8]}", tenant or None)


def _distinct(given: Sequence[tuple[bytes, Key]]) -> dict[bytes, Key]:
    """Return the keys by their hashes. Keys of one name are one account only if they are bound to one tenant."""
    tenants: dict[str, set[str | None]] = {}
    for _, key in given:
        tenants.setdefault(key.name, set()).add(key.tenant)
    return {
        digest: replace(key, name=f"{key.tenant}:{key.name}") if key.tenant and len(tenants[key.name]) > 1 else key
        for digest, key in given
    }


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("You didn't provide an API key: send 'Authorization: Bearer KEY'.")
    return key.strip()


def _digest(key: str) -> bytes:
    # Keys are looked up by their hashes, so the time of a look-up reveals nothing of a key.
    return hashlib.sha256(key.encode()).digest()


def _read(variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "")
    if not value.strip():
        raise ConfigError(f"auth: {variable} is not set")
    return value
