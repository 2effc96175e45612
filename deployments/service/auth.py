"""Authentication: who calls, by Bearer keys that are known by their hashes."""

import hmac
import logging
import os
import time
from collections.abc import Callable, Mapping
from enum import Enum

from msgspec import Struct

from deployments.config.settings import Auth
from deployments.errors import ConfigError, Forbidden, Unauthorized
from deployments.keys.file import stamp_of
from deployments.keys.key import Key, KeyScope, digest_of
from deployments.keys.ring import KeySources

__all__ = ["Access", "Authenticator", "Identity", "Key"]

log = logging.getLogger(f"ray.serve.{__name__}")


class Access(Enum):
    """Who may call a route."""

    ANYONE = "anyone"
    KEY = "key"
    ADMIN = "admin"
    KEY_OR_ADMIN = "key or admin"
    OPERATOR = "admin, or anyone where no key is needed"  # what is of all tenants


class Identity(Struct, frozen=True):
    """Who calls: the holder of a key, an operator, or an anonymous caller."""

    key: Key | None = None  # None: an operator, or no key is needed
    admin: bool = False  # the caller has shown the admin key


ANONYMOUS, OPERATOR = Identity(), Identity(admin=True)


class Authenticator:
    """Checks the keys of callers.

    Without `api_keys_env` and `keys_file` every caller passes: then the server must only be reachable from this
    machine. Raises ConfigError if a variable is not set, or what it or the file holds are no keys. `now` is the wall
    clock, in seconds since 1970.
    """

    def __init__(self, auth: Auth, environ: Mapping[str, str] = os.environ, now: Callable[[], float] = time.time):
        self._sources = KeySources(auth.api_keys_env, auth.admin_key_env, auth.keys_file)
        self._environ, self._now = environ, now
        self._stamp = self._look()
        self._ring = self._sources.read(environ)

    @property
    def open(self) -> bool:
        """Return whether every caller passes."""
        return self._ring.keys is None

    def _look(self) -> object:
        return None if self._sources.keys_file is None else stamp_of(self._sources.keys_file)

    def refresh(self) -> None:
        """Take the keys file as it is now, if it has changed. To be called once a second.

        A file that is wrong or gone is logged once and changes nothing: a slip must not lock everybody out.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._ring = self._sources.read(self._environ)
        except ConfigError as error:
            log.error("The keys stay as they were: %s", error)  # noqa: TRY400  no stack needed
        else:
            log.info("The keys file was read again: %d keys in all", len(self._ring.keys or ()))

    def admit(self, access: Access, authorization: str | None, scope: KeyScope | None = None) -> Identity:
        """Return who calls. Raises Unauthorized or Forbidden if the caller may not use the route.

        `scope` is what a key must be good for; None: any key will do.
        """
        match access:
            case Access.ANYONE:
                return ANONYMOUS
            case Access.OPERATOR if self.open:
                return ANONYMOUS
            case Access.ADMIN | Access.OPERATOR:
                self.admit_admin(authorization)
                return OPERATOR
            case Access.KEY_OR_ADMIN if self.is_admin(authorization):
                return OPERATOR
        return Identity(self.key(authorization, scope))

    def key(self, authorization: str | None, scope: KeyScope | None = None) -> Key | None:
        """Return the caller's key, None if none is needed. Raises Unauthorized, and Forbidden without the scope."""
        if self._ring.keys is None:
            return None
        key = self._ring.keys.get(digest_of(_bearer(authorization)))
        if key is None:
            raise Unauthorized(f"Incorrect API key provided{_slip(_bearer(authorization))}.")
        key.check(scope, self._now())
        return key

    def is_admin(self, authorization: str | None) -> bool:
        """Return whether the header holds the admin key."""
        try:
            self.admit_admin(authorization)
        except (Forbidden, Unauthorized):
            return False
        return True

    def admit_admin(self, authorization: str | None) -> None:
        """Raise Forbidden if no admin key is configured, Unauthorized if the header does not hold it."""
        if self._ring.admin is None:
            raise Forbidden("Operators' routes are off: the configuration has no auth.admin_key_env.")
        if not hmac.compare_digest(digest_of(_bearer(authorization)), self._ring.admin):
            raise Unauthorized(f"Incorrect admin key provided{_slip(_bearer(authorization))}.")

    def admit_by_handle(self, admin_key: object) -> None:
        """Raise Unauthorized if operators have a key and this is not it.

        Without `admin_key_env` a handle may do all: who holds one can run code on the cluster, as no HTTP client can.
        """
        if self._ring.admin is None:
            return
        if not (isinstance(admin_key, str) and admin_key.strip()):
            raise Unauthorized("This needs the admin key of auth.admin_key_env, as admin_key.")
        self.admit_admin(f"Bearer {admin_key}")

    def is_wrong(self, authorization: str | None) -> bool:
        """Return whether the header holds a key that nobody here has, which may be a guess."""
        try:
            digest = digest_of(_bearer(authorization))
        except Unauthorized:
            return False
        return digest not in (self._ring.keys or {}) and digest != self._ring.admin


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        raise Unauthorized("You didn't provide an API key: send 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("The header 'authorization' must be 'Bearer KEY', and the word Bearer is not there.")
    if not key.strip():
        raise Unauthorized("The header 'authorization' must be 'Bearer KEY', and the key is empty.")
    return key.strip()


def _slip(key: str) -> str:
    """Return what is likely wrong with a key that nobody has, without repeating it."""
    if key.lower().startswith("bearer"):
        return ": the word Bearer is there twice"
    if key[:1] in "\"'":
        return ": it is in quotes"
    return ": a variable was not filled in" if key[:1] in ("$", "{", "<", "%") else ""
