"""Who may ask: Bearer keys from the environment, kept as hashes. Pure."""

import hashlib
import hmac
import os
from collections.abc import Mapping

from deployments.errors import ConfigError, Forbidden, Unauthorized
from deployments.settings import Auth


class Gate:
    """Without `api_keys_env` every caller passes: the server is for this machine then."""

    def __init__(self, auth: Auth, environ: Mapping[str, str] = os.environ):
        self._tenants: dict[bytes, str | None] | None = None
        if auth.api_keys_env:
            self._tenants = dict(_entry(text) for text in _set(auth.api_keys_env, environ).split(",") if text.strip())
        admin = _set(auth.admin_key_env, environ) if auth.admin_key_env else None
        self._admin = _digest(admin) if admin else None

    def tenant(self, authorization: str | None) -> str | None:
        """The tenant that the caller's key is bound to, if any. Raises Unauthorized."""
        if self._tenants is None:
            return None
        key = _digest(_bearer(authorization))
        if key not in self._tenants:
            raise Unauthorized("Incorrect API key provided.")
        return self._tenants[key]

    def admit_admin(self, authorization: str | None) -> None:
        """Raises Forbidden if no admin key is configured, Unauthorized if it is not this one."""
        if self._admin is None:
            raise Forbidden("Operators' routes need auth.admin_key_env in the configuration.")
        if not hmac.compare_digest(_digest(_bearer(authorization)), self._admin):
            raise Unauthorized("Incorrect admin key provided.")


def _entry(text: str) -> tuple[bytes, str | None]:
    key, _, tenant = text.strip().partition(":")
    return _digest(key), tenant or None


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
