"""What the failover asks of the way to a provider's replica: two protocols, without any implementation. Pure."""

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol


class Items(Protocol):
    """A provider's stream, and the way to let go of it."""

    def __anext__(self) -> Awaitable[bytes | dict[str, Any]]: ...

    def aclose(self) -> Awaitable[None]: ...


class Hop(Protocol):
    """Raises AttemptFailed for what went wrong on the way; what the provider said comes as data."""

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]: ...

    def stream(self, provider: str, call: Mapping[str, Any]) -> Items:
        """What comes: bytes, then a last dict. It is always closed."""
        ...
