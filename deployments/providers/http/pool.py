"""The connections of one provider's replica that may be used again, and the bytes of a request's head. No Ray."""

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping

from yarl import URL

from deployments.providers.http.answer import HttpAnswer
from deployments.providers.http.connection import HttpConnection

IDLE_SECONDS = 15.0  # then an unused connection is closed; vendors close theirs after 60 and more
MOST_HEADS = 64  # that are kept
_WRONG = re.compile(r"[\r\n\0]")

Place = tuple[str, str | None, int | None]  # scheme, host and port


class HttpPool:
    """`connect` opens a connection to a URL's host: it gives the transport to the protocol that it gets."""

    def __init__(self, connect: Callable[[URL, HttpConnection], Awaitable[None]]):
        self._connect = connect
        self._idle: defaultdict[Place, deque[HttpConnection]] = defaultdict(deque)
        self._places: dict[HttpConnection, Place] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._heads: dict[URL, tuple[Mapping[str, str], bytes]] = {}

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """Send a request, and return its answer once its head has arrived. Raises aiohttp's errors."""
        request = b"%b%d\r\n\r\n%b" % (self._head(url, headers), len(body), body)
        place = url.scheme, url.raw_host, url.port
        connection = self._take(place)
        if connection is None:
            connection = HttpConnection(self._free, self._gone)
            self._places[connection] = place
            try:
                await self._connect(url, connection)
            except BaseException:
                connection.abort()
                raise
        answer = connection.ask(url, request)
        try:
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def _take(self, place: Place) -> HttpConnection | None:
        """Return the connection that was used last: so those that are not needed end."""
        idle = self._idle.get(place)
        while idle:
            if not (connection := idle.pop()).closing:
                return connection
            connection.abort()
        return None

    def _free(self, connection: HttpConnection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[self._places[connection]].append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._close_unused)

    def _gone(self, connection: HttpConnection) -> None:
        place = self._places.pop(connection, None)
        if place is not None and (idle := self._idle.get(place)) is not None:
            if connection in idle:
                idle.remove(connection)
            if not idle:
                del self._idle[place]

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        now, oldest = loop.time(), None
        for connection in [c for idle in self._idle.values() for c in idle]:
            if now - connection.idle_since >= IDLE_SECONDS:
                connection.abort()
            else:
                oldest = min(oldest or now, connection.idle_since)
        self._sweep = None if oldest is None else loop.call_at(oldest + IDLE_SECONDS, self._close_unused)

    def _head(self, url: URL, headers: Mapping[str, str]) -> bytes:
        """Return the head of a request up to the length of its body. Adapters mostly give the same headers again."""
        known = self._heads.get(url)
        if known is not None and known[0] is headers:
            return known[1]
        head = head_of(url, headers)
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
        self._heads[url] = headers, head
        return head

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in [*self._places]:
            connection.abort()


def head_of(url: URL, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request up to the length of its body. Raises ValueError for a header with a line break."""
    named = {name.lower() for name in headers}
    fields = [*headers.items()]
    if "host" not in named:
        fields.insert(0, ("Host", url.host_port_subcomponent or ""))
    for name, value in (("Accept", "*/*"), ("Accept-Encoding", "gzip")):
        if name.lower() not in named:
            fields.append((name, value))
    lines = [f"POST {url.raw_path_qs} HTTP/1.1"]
    for name, value in fields:
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            continue
        if _WRONG.search(name) or _WRONG.search(value):
            raise ValueError(f"The header '{name[:100]!r}' holds a line break.")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "Content-Length: "]).encode("utf-8")
