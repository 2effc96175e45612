"""What the adapter asks of a deployment, whoever carries the call. Pure."""

from dataclasses import dataclass
from typing import Any, Protocol

from deployments.openai_api.json_types import JsonDict

ENDED = object()  # in the place of an item: no more come


class Items(Protocol):
    """The items of a streamed call."""

    async def next(self) -> Any:
        """Return the next item, waiting for it; `ENDED` after the last. Raises AttemptFailed."""
        ...

    def close(self) -> None:
        """Cancel the call in the deployment, unless it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class About:
    """What Serve is told beside a request: its model, its conversation, and the id by which its logs name it."""

    model: str
    session: str | None = None
    request_id: str | None = None


class Deployment(Protocol):
    """Methods of a deployment that take one dict."""

    async def ask(self, method: str, request: JsonDict, about: About) -> Any:
        """Return what the method returns. A cancel of the task cancels it there. Raises AttemptFailed."""
        ...

    async def stream(self, method: str, request: JsonDict, about: About) -> Items: ...
