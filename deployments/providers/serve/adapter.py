"""The adapter of a deployment of the same cluster, by its Serve handle: no address, no key, no port.

The contract is plain: a method takes the dict of an OpenAI chat and returns the dict of its completion. For a stream it
is an async generator of dicts, or of server-sent events as text or bytes, or of lists of these. An error is a dict with
`error` in OpenAI's shape, or an exception. What is read of the answer is what is read of a server's.
"""

from typing import Any, Protocol

from deployments.errors import failed
from deployments.openai_api.chat import dump, frame
from deployments.openai_api.json_types import JsonObject
from deployments.providers.base import Call, Completed
from deployments.providers.http.timing import note_sent
from deployments.providers.openai.compatible import Compatible, Response
from deployments.providers.serve.failures import failure_of
from deployments.providers.serve.port import ENDED, About, Deployment, Items


class ServeProvider(Compatible):
    def __init__(
        self, deployment: Deployment, *, method: str = "chat", stream_method: str = "", embeddings_method: str = ""
    ):
        super().__init__("")
        self._deployment = deployment
        self._chat, self._stream, self._embed = method, stream_method or method, embeddings_method

    def streams_whole(self, call: Call) -> bool:
        """Return False: a deployment that scales from zero needs more than a first token's time."""
        return False

    async def embed(self, call: Call) -> Completed:
        if not self._embed:
            message = "this provider makes no embeddings: it has no embeddings_method"
            raise failed("unsupported", message, status=400, param="model")
        return await super().embed(call)

    async def _request(self, operation: str, body: JsonObject, call: Call) -> Response:
        note_sent()
        asked = dict(body), About(call.model, call.cache_key, (call.caller or {}).get("request_id"))
        if body.get("stream"):
            return await begun(await self._deployment.stream(self._stream, *asked))
        method = self._embed if operation == "embeddings" else self._chat
        return Whole(_checked(await self._deployment.ask(method, *asked)))

    async def close(self) -> None:
        pass


class Whole:
    """An answer that is whole already."""

    def __init__(self, data: bytes):
        self._data = data

    @property
    def ended(self) -> bool:
        return not self._data

    async def whole(self) -> bytes:
        return self._data

    async def read(self) -> bytes:
        data, self._data = self._data, b""
        return data

    def close(self) -> None:
        pass


class Streamed:
    """The items of a stream as the bytes of server-sent events. `first` has been read."""

    def __init__(self, items: Items, first: bytes):
        self._items, self._first = items, first
        self.ended = False

    async def read(self) -> bytes:
        data, self._first = self._first, b""
        while not data:
            if (item := await self._items.next()) is ENDED:
                self.ended = True
                return b""
            data = events_of(item)
        return data

    async def whole(self) -> bytes:
        return b"".join([data async for data in self._all()])

    async def _all(self) -> Any:
        while data := await self.read():
            yield data

    def close(self) -> None:
        self._items.close()


async def begun(items: Items) -> Streamed:
    """Return the stream after its first item: an error that comes first refuses the request, as a status would."""
    try:
        item = await items.next()
        if item is ENDED:
            return Streamed(items, b"")
        one = item[0] if isinstance(item, list | tuple) and item else item
        if isinstance(one, dict) and (failure := failure_of(one)) is not None:
            raise failure
        return Streamed(items, events_of(item))
    except BaseException:
        items.close()
        raise


def events_of(item: Any) -> bytes:
    """Return an item of a stream as bytes of server-sent events. Raises AttemptFailed for what the contract lacks."""
    match item:
        case bytes():
            return item
        case str():
            return item.encode(errors="replace")
        case dict():
            return _framed(item)
        case list() | tuple():
            return b"".join(map(events_of, item))
    raise failed("malformed", f"the deployment yielded {_type_of(item)}, not a dict or server-sent events", status=200)


def _framed(item: JsonObject) -> bytes:
    try:
        return frame(item)
    except (TypeError, ValueError, RecursionError):
        raise failed("malformed", "the deployment yielded a dict that is no JSON", status=200) from None


def _checked(answer: Any) -> bytes:
    """Return an answer as JSON. Raises AttemptFailed for an error, and for what is no dict."""
    if not isinstance(answer, dict):
        raise failed("malformed", f"the deployment returned {_type_of(answer)}, not a dict", status=200)
    if (failure := failure_of(answer)) is not None:
        raise failure
    try:
        return dump(answer)
    except (TypeError, ValueError, RecursionError):
        raise failed("malformed", "the deployment returned a dict that is no JSON", status=200) from None


def _type_of(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


class ServeSettings(Protocol):
    app: str
    deployment: str | None
    method: str
    stream_method: str | None
    embeddings_method: str | None
    multiplexed: bool


def build(settings: ServeSettings, connect: float) -> ServeProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    from deployments.providers.serve.handle import HandleDeployment, Place

    return ServeProvider(
        HandleDeployment(Place(settings.app, settings.deployment, settings.multiplexed), connect),
        method=settings.method,
        stream_method=settings.stream_method or "",
        embeddings_method=settings.embeddings_method or "",
    )
