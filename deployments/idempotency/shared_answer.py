"""A response that is read from a shared answer. No Ray.

A whole answer is sent when it is there as a whole, and a stream as it comes: so as long as nothing was sent, another
request can still take over.
"""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from actors.answers.messages import Head, Item
from deployments.idempotency.recording import Gone, Source

HEADER = b"x-breakwater-idempotent"


class SharedAnswer(Response):
    """`word` says how the request got its answer, in a header; None: nothing is said.

    `broken` returns the error frame for a stream that can't be read on. Whoever made it calls it, or `leave`.
    """

    def __init__(self, source: Source, word: str | None, broken: Callable[[], bytes]):
        self.background = None
        self._source, self._word, self._broken = source, word, broken
        self._items: list[Item] = []
        self._ended = False

    async def begin(self) -> int:
        """Wait until it can be sent; return its status. Raises Gone."""
        while not self._ended and not (len(self._items) > 1 and _is_stream(self._items[0])):
            items, self._ended = await self._source.read(len(self._items))
            self._items += items
        if not self._items:
            raise Gone
        head = self._items[0]
        assert not isinstance(head, bytes)
        return head["status"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        delivered = False
        try:
            await self.begin()
            head, *parts = self._items
            assert not isinstance(head, bytes)
            await send({"type": "http.response.start", "status": head["status"], "headers": self._told(head)})
            await send(_body(parts, more=not self._ended))
            await self._send_rest(send)
            delivered = True
        finally:
            self._source.leave(delivered=delivered)

    def leave(self) -> None:
        """Give it up without having sent it."""
        self._source.leave(delivered=False)

    async def _send_rest(self, send: Send) -> None:
        index = len(self._items)
        while not self._ended:
            try:
                items, self._ended = await self._source.read(index)
            except Gone:
                items, self._ended = [self._broken()], True
            index += len(items)
            await send(_body(items, more=not self._ended))

    def _told(self, head: Head) -> list[tuple[bytes, bytes]]:
        return head["headers"] if self._word is None else [*head["headers"], (HEADER, self._word.encode())]


def _is_stream(item: Item) -> bool:
    return not isinstance(item, bytes) and any(
        name == b"content-type" and value.startswith(b"text/event-stream") for name, value in item["headers"]
    )


def _body(items: list[Item], *, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": b"".join(i for i in items if isinstance(i, bytes)), "more_body": more}
