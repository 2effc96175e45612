"""What the adapter asks of a deployment, whoever carries the call. Pure."""

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


class Deployment(Protocol):
    """Methods of a deployment that take one dict. `session` is of the request's conversation, and `model` its model."""

    async def ask(self, method: str, request: JsonDict, session: str | None, model: str) -> Any:
        """Return what the method returns. A cancel of the task cancels it there. Raises AttemptFailed."""
        ...

    async def stream(self, method: str, request: JsonDict, session: str | None, model: str) -> Items: ...
