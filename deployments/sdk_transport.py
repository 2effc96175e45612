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
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
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


class Caller(Protocol):
    """What is needed of the `Client` of client.py."""

    @property
    def sync(self) -> SyncCaller: ...

    def call_http(self, request: Json, connect: float | None, read: float | None) -> AsyncGenerator[Any, None]: ...


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
        items = self._llm.call_http(call.request, call.connect, call.read)
        try:
            head = await anext(items, None)
            if call.is_late(head):
                call.end_late(b"".join([item async for item in items]))
        except Exception as error:
            return call.answer_of(error)
        body = _joined(AsyncBody, self._httpx.AsyncByteStream)(items, call)
        return call.answer(head, body)


class Transport:
    def __init__(self, llm: Caller, httpx: Any):
        self._llm, self._httpx = llm, httpx

    def handle_request(self, request: Any) -> Any:
        call = Call.of(request, request.read(), self._httpx)
        items = self._llm.sync.call_http(call.request, call.connect, call.read)
        try:
            head = next(items, None)
            if call.is_late(head):
                call.end_late(b"".join(items))
        except Exception as error:
            return call.answer_of(error)
        body = _joined(Body, self._httpx.SyncByteStream)(items, call)
        return call.answer(head, body)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and how its ends are told to the SDK.

    Attributes:
        request: the argument of `call_http`.
        connect, read: the SDK's timeouts, in seconds.
        ours: the deadline was made of the SDK's timeout, and not named by its user.
    """

    request: Json
    connect: float | None
    read: float | None
    ours: bool
    httpx: Any
    source: Any

    @classmethod
    def of(cls, source: Any, body: bytes, httpx: Any) -> "Call":
        limits = source.extensions.get("timeout", {})
        read = limits.get("read")
        headers = [(name.decode(LATIN), value.decode(LATIN)) for name, value in source.headers.raw]
        headers = [(name, value) for name, value in headers if name.lower() not in SECRET]
        if ours := _is_deadline(read, source.headers, body):
            headers.append((DEADLINE, str(read)))
        url = source.url.raw_path.decode("ascii")
        request = {"method": source.method, "url": url, "headers": headers, "body": body}
        return cls(request, limits.get("connect"), read, ours, httpx, source)

    def answer(self, head: Any, body: Any) -> Any:
        if head is None:
            raise self.httpx.RemoteProtocolError(
                "Breakwater has ended the call without an answer.", request=self.source
            )
        headers = [(name.encode(LATIN), value.encode(LATIN)) for name, value in head["headers"]]
        return self.httpx.Response(head["status"], headers=headers, stream=body)

    def is_late(self, head: Any) -> bool:
        """Return whether the application has answered that the SDK's own time is over."""
        return self.ours and head is not None and head["status"] == 504

    def end_late(self, body: bytes) -> None:
        """Raise what the SDK raises itself at the end of its time, with the application's words."""
        raise self.httpx.ReadTimeout(body.decode(errors="replace")[:1000], request=self.source)

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
            headers["retry-after"] = str(seconds)
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


def _is_deadline(read: float | None, headers: Any, body: bytes) -> bool:
    """Return whether the SDK's patience is the deadline of the request.

    The application then divides that time among its providers. A stream has none: there a read timeout is for the
    next piece, and a deadline would end a stream that flows.
    """
    named = read is not None and read < PATIENCE_OF_SDKS
    return named and DEADLINE not in headers and not STREAM.search(body)


class AsyncBody:
    """The body of an answer. Closing it cancels the call, also while another task waits for the next piece."""

    def __init__(self, items: AsyncGenerator[Any, None], call: Call):
        self._items, self._call = items, call
        self._waiting: asyncio.Timeout | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._call.told():
            async with contextlib.aclosing(self._items):
                while (item := await self._next()) is not None:
                    yield item

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await anext(self._items, None)
        except TimeoutError:
            raise self._call.closed() from None
        finally:
            self._waiting = None

    async def aclose(self) -> None:
        if self._waiting is None:
            await self._items.aclose()
        else:  # a generator that runs can't be closed, but the time of its reader can be over
            self._waiting.reschedule(asyncio.get_running_loop().time())


class Body:
    """The same for a client without an event loop. What another thread waits for can't be ended: it is the last."""

    def __init__(self, items: Any, call: Call):
        self._items, self._call, self._closed = items, call, False

    def __iter__(self) -> Iterator[bytes]:
        with self._call.told(), contextlib.closing(self._items):
            for item in self._items:
                if self._closed:
                    raise self._call.closed()
                yield item

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(ValueError):  # another thread waits for the next item
            self._items.close()
