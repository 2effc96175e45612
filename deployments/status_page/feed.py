"""What the status page is fed with: one poll of the breaker actor for all pages that are open here.

Nothing is polled while no page is open. A stream ends by itself before it could hold up a replica that
is to stop, and holds no more than its own next frame, so a slow reader costs nothing. No Ray.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from actors.breaker.plan import of_functions
from deployments.errors import Unavailable
from deployments.openai_api.chat import dump
from deployments.service.service import Service
from deployments.status_page.view import Known, status

STREAM_SECONDS = 30.0
BEAT_SECONDS = 0.9  # how long nothing need have changed until the next frame
POLL_SECONDS = 1.5  # no request waits for it; with the beat less than the page takes for a lost line
CALM_SECONDS = 0.05  # changes come in twos and threes
MOST = 64  # pages of one replica; a stream takes the place of a request there
_AS_MOST_SEE_IT = 0.5  # where one stands whose share still grows


class Feed:
    def __init__(self, service: Service):
        self._service = service
        self._readers = 0
        self._moved = service.breaker.moved
        self._next: asyncio.Task[bytes] | None = None

    async def snapshot(self) -> dict[str, Any]:
        service, away = self._service, False
        try:
            async with asyncio.timeout(POLL_SECONDS):
                answer = await service.breaker.call("status")
        except Exception:
            answer, away = {"targets": service.breaker.last_seen(), "trends": {}}, True
        mine = service.targets
        targets = {name: t for name, t in answer["targets"].items() if name in mine or of_functions(name)}
        now, rows = service.breaker.now(), {"chat": service.failover.rows, "embeddings": service.embedder.rows}
        known = Known(
            at=time.time(),
            targets=targets,
            trends=answer["trends"],
            away=away,
            plans={
                (kind, name): service.breaker.plan(of.of(name), draw=_AS_MOST_SEE_IT)
                for kind, of in rows.items()
                for name in of.names
            },
            quiet=frozenset(name for name in targets if service.breaker.silence.quiet(name, now)),
            ledger=None if service.ledger is None else service.ledger.health(),
        )
        return status(service.resolved, known)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A page is open. The last that closes ends the poll."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers and self._next is not None:
                self._next.cancel()
                self._next = None

    def admit(self) -> None:
        """Raises Unavailable where as many pages are open as may be."""
        if self._readers >= MOST:
            raise Unavailable(f"{MOST} status pages are open on this replica.")

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events, each a snapshot: at once, when something has moved, and each second."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + STREAM_SECONDS
        yield _event(await self.snapshot())
        while loop.time() < ends:
            if self._next is None or self._next.done():
                self._next = asyncio.create_task(self._after_a_move())
            yield await asyncio.shield(self._next)

    async def _after_a_move(self) -> bytes:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS):
                await self._moved.wait()
        await asyncio.sleep(CALM_SECONDS)
        self._moved = self._service.breaker.moved  # before we ask: what moves meanwhile is asked for again
        return _event(await self.snapshot())


def _event(snapshot: dict[str, Any]) -> bytes:
    return b"data: " + dump(snapshot) + b"\n\n"
