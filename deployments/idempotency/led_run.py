"""A run that this replica leads: one request that is answered once, for all who ask with its key. No Ray.

It goes on for a while when all its clients have left: one that has lost its connection comes back for the answer, and
that is paid for already.
"""

import asyncio
import contextvars
from collections.abc import Callable

from actors.answers.messages import Item
from deployments.idempotency.recording import Recording, Run


class LedRun:
    """`name` is the run's own, `key` and `fingerprint` are those of its request; a key may be given to it later.

    `left` is called when its last reader here has left before the answer had ended.
    """

    def __init__(self, name: str, key: str, fingerprint: str, run: Run, left: Callable[["LedRun"], None]):
        self.name, self.key, self.fingerprint = name, key, fingerprint
        self.recording = Recording()
        self.began = asyncio.get_running_loop().time()
        self.delivered = False  # to one client at least, as a whole
        self.relayed: asyncio.Task[None] | None = None  # to readers at other replicas
        self._readers = 0
        self._alone = asyncio.Event()
        self._left = left
        self._timer: asyncio.TimerHandle | None = None
        # Serve cancels what a request has called by handle when its client leaves, and knows it by its context.
        self._task = asyncio.get_running_loop().create_task(self._answer(run), context=contextvars.Context())

    def join(self) -> "LedRun":
        """Count one more reader, who must leave at its end."""
        self._readers += 1
        self._alone.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self

    def at_end(self, call: Callable[["LedRun"], None]) -> None:
        """Have it called once the answer has ended."""
        self._task.add_done_callback(lambda _: call(self))

    async def read(self, index: int) -> tuple[list[Item], bool]:
        return await self.recording.read(index)

    def leave(self, *, delivered: bool) -> None:
        self.delivered = self.delivered or delivered
        self._readers -= 1
        if self._readers == 0:
            self._alone.set()
            if not self.recording.ended:
                self._left(self)

    async def over(self) -> None:
        """Wait until its answer has ended, and who reads it here has left."""
        await asyncio.wait([self._task])
        if self._readers:
            await self._alone.wait()

    def stop(self) -> None:
        """Let go of the provider, as for a client that has left."""
        self._task.cancel()

    def stop_after(self, seconds: float) -> None:
        """Stop unless somebody joins within so many seconds, here or at another replica."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._stop_if_alone)

    def _stop_if_alone(self) -> None:
        if self.relayed is None:
            self.stop()

    async def _answer(self, run: Run) -> None:
        whole = False
        try:
            whole = await run(self.recording.send)
        finally:
            self.recording.end(whole=whole)
            if self._timer is not None:
                self._timer.cancel()
