"""The feed of the console: one poll of the breaker actor for all pages that are open on this replica. No Ray.

Nothing is polled while no page is open. A stream ends by itself before it could hold up a replica that stops. It holds
no more than its own next frame, so a slow reader costs nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING

from actors.breaker.plan import of_functions
from deployments.console.view import Status, StatusData, build_status
from deployments.errors import Unavailable
from deployments.openai_api.chat import dump

if TYPE_CHECKING:
    from deployments.service.service import Service

STREAM_SECONDS = 30.0
BEAT_SECONDS = 0.9  # the longest time between two frames while nothing changes
POLL_SECONDS = 1.5  # how long the actor may take; with the beat it is less than the page's limit for a lost connection
SETTLE_SECONDS = 0.05  # changes come in twos and threes, and one frame shows them together
MOST_PAGES = 64  # of one replica: each stream takes the place of a request
_MEDIAN_DRAW = 0.5  # decides the place of a target in slow start: the page shows that of most requests


class Feed:
    """The snapshots of one ingress replica, once or as a stream of server-sent events."""

    def __init__(self, service: "Service"):
        self._service = service
        self._readers = 0
        self._moved = service.breaker.moved
        self._next: asyncio.Task[bytes] | None = None

    async def snapshot(self) -> Status:
        """Return what the page shows now. Without the breaker actor it is the last that this replica saw."""
        service, away = self._service, False
        try:
            async with asyncio.timeout(POLL_SECONDS):
                answer = await service.breaker.call("status")
        except Exception:
            answer, away = {"targets": service.breaker.last_seen(), "trends": {}}, True
        mine = service.targets
        targets = {name: t for name, t in answer["targets"].items() if name in mine or of_functions(name)}
        now, rows = service.breaker.now(), {"chat": service.failover.rows, "embeddings": service.embedder.rows}
        data = StatusData(
            at=time.time(),
            targets=targets,
            trends=answer["trends"],
            away=away,
            plans={
                (kind, name): service.breaker.plan(model_rows.of(name), draw=_MEDIAN_DRAW)
                for kind, model_rows in rows.items()
                for name in model_rows.names
            },
            stalled=frozenset(name for name in targets if service.breaker.silence.quiet(name, now)),
            slow=frozenset(filter(service.breaker.is_slow, targets)),
            ledger=None if service.ledger is None else service.ledger.health(),
        )
        return build_status(service.resolved, data)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Count a page that is open. The last that closes ends the poll."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers and self._next is not None:
                self._next.cancel()
                self._next = None

    def admit(self) -> None:
        """Raise Unavailable if as many pages are open as may be."""
        if self._readers >= MOST_PAGES:
            raise Unavailable(f"This replica already serves {MOST_PAGES} consoles. Close one, or try again.")

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events, each a snapshot: at once, when something has changed, and each second."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + STREAM_SECONDS
        yield _event(await self.snapshot())
        while loop.time() < ends:
            if self._next is None or self._next.done():
                self._next = asyncio.create_task(self._after_change())
            yield await asyncio.shield(self._next)

    async def _after_change(self) -> bytes:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS):
                await self._moved.wait()
        await asyncio.sleep(SETTLE_SECONDS)
        self._moved = self._service.breaker.moved  # set before the poll: a change during the poll causes another
        return _event(await self.snapshot())


def _event(snapshot: Status) -> bytes:
    return b"data: " + dump(snapshot) + b"\n\n"
