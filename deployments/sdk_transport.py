"""The HTTP client that the SDKs of OpenAI and Anthropic take, which sends each request by Serve handle. No Ray.

This file needs `httpx2` or `httpx`, which the SDK brings along, and a client of client.py: import both, or copy both.

    llm = connect("llm")
    AsyncOpenAI(http_client=async_http_client(llm), base_url="http://breakwater/v1", api_key="any")
    OpenAI(http_client=http_client(llm), base_url="http://breakwater/v1", api_key="any")
    AsyncAnthropic(http_client=async_http_client(llm), base_url="http://breakwater", api_key="any")

No port is opened. Of a URL only the path and the query count, and a key stays in this process. What goes wrong is
what the SDK knows from HTTP, so that it raises its usual errors and tries again as it usually does:

the application answers an error          the same answer
no way to the application                 a 503 in the form of both APIs: an SDK shows the text of an answer, but not
                                          that of an httpx.ConnectError
nothing comes for the SDK's read timeout  httpx.ReadTimeout
the answer breaks off                     httpx.ReadError
"""

import asyncio
import contextlib
import functools
import importlib
import importlib.util
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

# OpenAI's and Anthropic's SDKs wait for so long if nobody has named a timeout (DEFAULT_TIMEOUT in their _constants.py).
PATIENCE_OF_SDKS = 600.0
DEADLINE = "x-request-timeout-seconds"
STREAM = re.compile(rb'"stream"\s*:\s*true')  # no text looks so: JSON escapes its quotes
SECRET = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
LATIN = "latin-1"  # httpx keeps headers as bytes, and the application gets the same bytes back

Json = dict[str, Any]


class SyncCaller(Protocol):
    def call_http(self, request: Json, connect: float | None, read: float | None) -> Iterator[Any]: ...

    def call_http_whole(self, request: Json, connect: float | None, read: float | None) -> Json: ...


class Caller(Protocol):
    """What is needed of the `Client` of client.py."""

    @property
    def sync(self) -> SyncCaller: ...

    def call_http(self, request: Json, connect: float | None, read: float | None) -> AsyncGenerator[Any, None]: ...

    async def call_http_whole(self, request: Json, connect: float | None, read: float | None) -> Json: ...


def async_http_client(llm: Caller, httpx: Any = None, **options: Any) -> Any:
    """Return an `AsyncClient` of the module `httpx`, by default of httpx2, or of httpx where that is not installed.

    `options` are those of `AsyncClient`, for example `headers={"x-agent-id": "planner"}`. An HTTP client can't be
    pickled: make it in the task or the actor that uses it.
    """
    module = httpx or _installed()
    transport = _joined(AsyncTransport, module.AsyncBaseTransport)(llm, module)
    return module.AsyncClient(transport=transport, **options)


def http_client(llm: Caller, httpx: Any = None, **options: Any) -> Any:
    """Return a `Client` of the module `httpx`, for code without an event loop. Else as `async_http_client`."""
    module = httpx or _installed()
    return module.Client(transport=_joined(Transport, module.BaseTransport)(llm, module), **options)


def _installed() -> Any:
    return importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")


@functools.cache
def _joined(ours: type, theirs: type) -> Any:
    """Return a class of ours that is one of httpx's too: its clients look at the class."""
    return type(ours.__name__, (ours, theirs), {})


class AsyncTransport:
    def __init__(self, llm: Caller, httpx: Any):
        self._llm, self._httpx = llm, httpx

    async def handle_async_request(self, request: Any) -> Any:
        call = Call.of(request, await request.aread(), self._httpx)
        try:
            if not call.stream:
                return call.whole(await self._llm.call_http_whole(*call.arguments))
            items = self._llm.call_http(*call.arguments)
            begun = await anext(items, None)
        except Exception as error:
            return call.answer_of(error)
        return call.begun(begun, lambda first: _joined(AsyncBody, self._httpx.AsyncByteStream)(first, items, call))


class Transport:
    def __init__(self, llm: Caller, httpx: Any):
        self._llm, self._httpx = llm.sync, httpx

    def handle_request(self, request: Any) -> Any:
        call = Call.of(request, request.read(), self._httpx)
        try:
            if not call.stream:
                return call.whole(self._llm.call_http_whole(*call.arguments))
            items = self._llm.call_http(*call.arguments)
            begun = next(items, None)
        except Exception as error:
            return call.answer_of(error)
        return call.begun(begun, lambda first: _joined(Body, self._httpx.SyncByteStream)(first, items, call))


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and how its ends are told to the SDK.

    Attributes:
        arguments: those of `call_http`: the request, and the SDK's timeouts for a connection and for reading.
        stream: the answer is to be a stream.
        ours: the deadline was made of the SDK's timeout, and not named by its user.
    """

    arguments: tuple[Json, float | None, float | None]
    stream: bool
    ours: bool
    httpx: Any
    source: Any

    @classmethod
    def of(cls, source: Any, body: bytes, httpx: Any) -> "Call":
        limits, stream = source.extensions.get("timeout", {}), STREAM.search(body) is not None
        read = limits.get("read")
        headers = [(name.decode(LATIN), value.decode(LATIN)) for name, value in source.headers.raw]
        headers = [(name, value) for name, value in headers if name.lower() not in SECRET]
        if ours := not stream and _is_named(read) and DEADLINE not in source.headers:
            headers.append((DEADLINE, str(read)))
        url = source.url.raw_path.decode("ascii")
        request = {"method": source.method, "url": url, "headers": headers, "body": body}
        return cls((request, limits.get("connect"), read), stream, ours, httpx, source)

    def whole(self, answer: Json) -> Any:
        if self.ours and answer["status"] == 504:  # the SDK's own time is over, which has an error of its own
            message = answer["body"].decode(errors="replace")[:1000]
            raise self.httpx.ReadTimeout(message, request=self.source)
        return self.httpx.Response(answer["status"], headers=_encoded(answer["headers"]), content=answer["body"])

    def begun(self, begun: Json | None, body_of: Callable[[bytes], Any]) -> Any:
        if begun is None:
            sentence = "Breakwater has ended the call without an answer."
            raise self.httpx.RemoteProtocolError(sentence, request=self.source)
        return self.httpx.Response(begun["status"], headers=_encoded(begun["headers"]), stream=body_of(begun["body"]))

    def answer_of(self, error: Exception) -> Any:
        """Return the answer to a request that has found no way to the application, or raise the error of httpx."""
        status, message = getattr(error, "status", None), str(error)
        if status is None:
            raise error
        if status == 504:
            raise self.httpx.ReadTimeout(message, request=self.source) from error
        said = {"message": message, "type": "api_error", "code": getattr(error, "code", None), "param": None}
        headers = {"content-type": "application/json"}
        if (seconds := getattr(error, "retry_after", None)) is not None:
            headers["retry-after"] = str(max(1, round(seconds)))
        content = json.dumps({"type": "error", "error": said}).encode()  # Anthropic's form has one name more
        return self.httpx.Response(status, headers=headers, content=content)

    def closed(self) -> Exception:
        """Return the error of who reads on where others have closed the answer: it is not whole."""
        error: Exception = self.httpx.ReadError("The answer was closed while it was read.", request=self.source)
        return error

    @contextlib.contextmanager
    def told(self) -> Generator[None, None, None]:
        """Turn what ends an answer in its middle into an error of httpx."""
        try:
            yield
        except Exception as error:
            if (status := getattr(error, "status", None)) is None:
                raise
            kind = self.httpx.ReadTimeout if status == 504 else self.httpx.ReadError
            raise kind(str(error), request=self.source) from error


def _is_named(read: float | None) -> bool:
    """Return whether somebody has named an SDK's timeout. It is the deadline of a call without a stream.

    The application then divides that time among its providers. A stream has none: there the timeout is for the next
    piece, and a deadline would end a stream that flows.
    """
    return read is not None and read < PATIENCE_OF_SDKS


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(LATIN), value.encode(LATIN)) for name, value in headers]


class AsyncBody:
    """The body of an answer. Closing it cancels the call, also while another task waits for the next piece."""

    def __init__(self, first: bytes, items: AsyncGenerator[Any, None], call: Call):
        self._first, self._items, self._call = first, items, call
        self._waiting: asyncio.Timeout | None = None
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._call.told():
            async with contextlib.aclosing(self._items):
                yield self._first
                while (item := await self._next()) is not None:
                    yield item
            if self._closed:
                raise self._call.closed()

    async def _next(self) -> bytes | None:
        with contextlib.suppress(TimeoutError):  # of `aclose`
            try:
                async with asyncio.timeout(None) as self._waiting:
                    return await anext(self._items, None)
            finally:
                self._waiting = None
        return None

    async def aclose(self) -> None:
        self._closed = True
        if self._waiting is None:
            await self._items.aclose()
        else:  # a generator that runs can't be closed, but the time of its reader can be over
            self._waiting.reschedule(asyncio.get_running_loop().time())


class Body:
    """The same for a client without an event loop. What another thread waits for can't be ended: it is the last."""

    def __init__(self, first: bytes, items: Any, call: Call):
        self._first, self._items, self._call, self._closed = first, items, call, False

    def __iter__(self) -> Iterator[bytes]:
        with self._call.told(), contextlib.closing(self._items):
            yield self._first
            for item in self._items:
                if self._closed:
                    break
                yield item
            if self._closed:
                raise self._call.closed()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(ValueError):  # another thread waits for the next item
            self._items.close()
