"""A run that this replica leads: one request that is answered once, for all who ask with its key. No Ray.

It goes on for a while when all its clients have left: one that has lost its connection comes back for the answer, and
that is paid for already.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable

from actors.answers.messages import Item
from deployments.idempotency.recording import Recording, Run

LOOK_SECONDS = 2.0  # since the answers actor has told of readers at other replicas, and they have left

log = logging.getLogger(f"ray.serve.{__name__}")


class LedRun:
    """`name` is the run's own, `key` and `fingerprint` are those of its request; a key may be given to it later.

    `keyed`: its client gave the key. `left` is called when its last reader here has left before the answer had ended.
    """

    def __init__(
        self, name: str, key: str, fingerprint: str, run: Run, left: Callable[["LedRun"], None], *, keyed: bool
    ):
        self.name, self.key, self.fingerprint, self.keyed = name, key, fingerprint, keyed
        self.recording = Recording()
        self.recording.forgets = not keyed
        self.began = asyncio.get_running_loop().time()
        self.delivered = False  # to one client at least, as a whole
        self.stopped = False
        self.relayed: asyncio.Task[None] | None = None  # to readers at other replicas
        self.wanted_at = -LOOK_SECONDS  # when there was last word of those
        self._readers = 0
        self._alone = asyncio.Event()
        self._left = left
        self._timer: asyncio.TimerHandle | None = None
        # Serve cancels what a request has called by handle when its client leaves, and knows it by its context.
        self._task = asyncio.get_running_loop().create_task(self._answer(run), context=contextvars.Context())

    @property
    def may_be_joined(self) -> bool:
        """Whether it gives an answer to who comes now: one that is over gives a whole one, or none."""
        return not self.stopped and (not self.recording.ended or self.recording.whole)

    @property
    def is_alone(self) -> bool:
        """Whether nobody here reads it."""
        return self._readers == 0

    def join(self) -> "LedRun":
        """Count one more reader, who must leave at its end."""
        self._readers += 1
        self._alone.clear()
        self.recording.ahead = False
        self._cancel_timer()
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
            self.recording.ahead = True  # nobody here is to be waited for
            self.recording.ring()
            if not (self.recording.ended or delivered):
                self._left(self)

    def note_wanted(self) -> None:
        """Note that somebody reads it at another replica."""
        self.wanted_at = asyncio.get_running_loop().time()
        self.recording.ahead = True  # a client here that reads slowly is not to hold up those
        self.recording.ring()

    async def over(self) -> None:
        """Wait until its answer has ended, and who reads it here has left."""
        await asyncio.wait([self._task])
        while self._readers:
            await self._alone.wait()

    def stop(self) -> None:
        """Let go of the provider, as for a client that has left."""
        self.stopped = True
        self._task.cancel()

    def stop_after(self, seconds: float) -> None:
        """Stop unless somebody joins within so many seconds, here or at another replica."""
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._stop_if_alone)

    def _stop_if_alone(self) -> None:
        if asyncio.get_running_loop().time() - self.wanted_at < LOOK_SECONDS:
            self.stop_after(LOOK_SECONDS)
        else:
            self.stop()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _answer(self, run: Run) -> None:
        whole, broken = False, True
        try:
            whole, broken = await run(self.recording.send), False
        except Exception:
            log.exception("An answer broke off by a bug of Breakwater; its clients get an error")
        finally:
            self.recording.end(whole=whole, broken=broken)
            self._cancel_timer()
