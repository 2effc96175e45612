"""One API key's holder, and the hash by which a key is known. Pure: no key itself is kept anywhere."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, get_args

from deployments.errors import ConfigError, ExpiredKey, Forbidden

# chat: completions and embeddings; usage: sums; rows: single requests, explained.
KeyScope = Literal["chat", "usage", "rows"]
SCOPES: frozenset[KeyScope] = frozenset(get_args(KeyScope))
LONGEST_NAME = 128
_SENDABLE = re.compile(r"[!-~]+")  # in a header, without a blank: RFC 6750, 2.1


@dataclass(frozen=True, slots=True)
class Key:
    """An API key's holder; not the key itself."""

    name: str  # in usage records and limits; `TENANT:NAME` where another tenant has a key of this name
    tenant: str | None  # the only tenant that the key may name; None: any
    scopes: frozenset[KeyScope] = SCOPES
    expires: float | None = None  # seconds since 1970; None: never
    tags: frozenset[str] = frozenset()  # a target must have all of them to serve it

    def speaks_for(self, tenant: str | None) -> str | None:
        """Return the tenant who pays. Raises Forbidden if the key is bound to another."""
        if self.tenant is not None and tenant not in (None, self.tenant):
            raise Forbidden("This API key is bound to another tenant.")
        return self.tenant or tenant

    def check(self, scope: KeyScope | None, now: float) -> None:
        """Raise ExpiredKey or Forbidden if the key may not be used for this. `now`: seconds since 1970."""
        if self.expires is not None and now >= self.expires:
            raise ExpiredKey("This API key has expired.")
        if scope is not None and scope not in self.scopes:
            raise Forbidden(f"This API key lacks the scope '{scope}'.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as one source names it. `place` says where, and never holds the key."""

    place: str
    digest: bytes
    key: Key
    filed: bool = False  # the keys file names it, which may change while the application runs


def digest_of(key: str) -> bytes:
    """Return the hash of a key. Keys are looked up by it, so the time of a look-up reveals nothing of a key."""
    return hashlib.sha256(key.encode()).digest()


def check_secret(key: str, place: str) -> None:
    """Raise ConfigError if no client can send the key. The message does not repeat it."""
    if not key:
        raise ConfigError(f"{place}: an API key is empty")
    if _SENDABLE.fullmatch(key) is None:
        raise ConfigError(f"{place}: a key has a blank, a line break or another sign that no client can send in it")


def check_name(name: str | None, place: str) -> None:
    """Raise ConfigError if this can't be the name of a key or a tenant. The message does not repeat it."""
    if name is not None and not (name.isprintable() and ":" not in name and len(name) <= LONGEST_NAME):
        raise ConfigError(f"{place}: a name has a colon, a sign that can't be printed, or over {LONGEST_NAME} letters")
