"""Who may ask: Bearer keys from the environment, kept as hashes. Pure."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from deployments.config.settings import Auth
from deployments.errors import ConfigError, Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Key:
    """`tenant` is whom it is bound to, None if to nobody."""

    name: str
    tenant: str | None

    def speaks_for(self, tenant: str | None) -> str | None:
        """The tenant who pays. Raises Forbidden for one that the key is not bound to."""
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
    """Who calls: the holder of a key, an operator, or nobody in particular."""

    key: Key | None = None
    admin: bool = False


NOBODY, OPERATOR = Identity(), Identity(admin=True)


class Authenticator:
    """Without `api_keys_env` every caller passes: the server is for this machine then."""

    def __init__(self, auth: Auth, environ: Mapping[str, str] = os.environ):
        self._keys: dict[bytes, Key] | None = None
        if auth.api_keys_env:
            self._keys = dict(_entry(text) for text in _set(auth.api_keys_env, environ).split(",") if text.strip())
        admin = _set(auth.admin_key_env, environ) if auth.admin_key_env else None
        self._admin = _digest(admin) if admin else None

    @property
    def open(self) -> bool:
        """Does every caller pass?"""
        return self._keys is None

    def admit(self, access: Access, authorization: str | None) -> Identity:
        """Return who calls. Raises Unauthorized or Forbidden for somebody who may not."""
        match access:
            case Access.ANYONE:
                return NOBODY
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
        try:
            self.admit_admin(authorization)
        except (Forbidden, Unauthorized):
            return False
        return True

    def admit_admin(self, authorization: str | None) -> None:
        """Raises Forbidden if no admin key is configured, Unauthorized if it is not this one."""
        if self._admin is None:
            raise Forbidden("Operators' routes need auth.admin_key_env in the configuration.")
        if not hmac.compare_digest(_digest(_bearer(authorization)), self._admin):
            raise Unauthorized("Incorrect admin key provided.")


def _entry(text: str) -> tuple[bytes, Key]:
    key, tenant, name = [part.strip() for part in f"{text}::".split(":")][:3]
    if not key:
        raise ConfigError("auth: an API key is empty")
    # A name for accounts and limits, where none is given: it must not tell the key.
    return _digest(key), Key(name or f"key-{_digest(key).hex()[:8]}", tenant or None)


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("You didn't provide an API key: send 'Authorization: Bearer KEY'.")
    return key.strip()


def _digest(key: str) -> bytes:
    # A dict of hashes: a look-up by hash tells nothing of the key by its time.
    return hashlib.sha256(key.encode()).digest()


def _set(variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "")
    if not value.strip():
        raise ConfigError(f"auth: {variable} is not set")
    return value
