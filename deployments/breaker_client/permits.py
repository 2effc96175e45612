"""Permits to probe, as one ingress asks for them. No Ray.

One ask per target is under way at a time; others who need one ask another target. A permit that comes after its asker
has gone on is kept for a moment, for the next who needs it, and then given back: one that was never used says
nothing of the target. Where the actor has refused, it is not asked again before that can have changed, and then the
request that has waited longest asks.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence

from actors.breaker.messages import Permit
from actors.breaker.plan import Target
from deployments.aio.deadline_timer import DeadlineTimer

log = logging.getLogger(f"ray.serve.{__name__}")

KEEP_SECONDS = 1.0  # at least: how long a late permit waits for somebody to use it
REFUSED_SECONDS = 1.0  # as often as a panic may be granted

WAIT_MOST = 768  # at once: one row's outage must not fill the ingress

ActorAsk = Callable[[Target, str, bool], Awaitable[Permit | None]]


class Permits:
    """Permits on their way, and late ones that are kept.

    `ask(target, name, panic)` asks the actor; `unused(target, permit)` gives one back; `woken()` wakes those who wait.
    """

    def __init__(self, ask: ActorAsk, unused: Callable[[Target, Permit], None], woken: Callable[[], None]):
        self._ask = ask
        self._unused = unused
        self._woken = woken
        self._asking: set[Target] = set()
        self._kept: dict[Target, tuple[Permit, asyncio.TimerHandle]] = {}
        self._refused: dict[Target, float] = {}
        self._again: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Give back the permits that are kept."""
        if self._again is not None:
            self._again.cancel()
        for target in list(self._kept):
            self._give_back(target)

    def changed(self) -> None:
        """Let targets that were refused be asked for again: the actor has said something new."""
        self._refused.clear()

    @property
    def kept(self) -> Collection[Target]:
        """Return the targets whose permit came late, and waits for somebody."""
        return self._kept.keys()

    def awaited(self, target: Target) -> bool:
        """Return whether a permit is asked for, or is somebody else's, as the actor has said just now."""
        refused = asyncio.get_running_loop().time() < self._refused.get(target, 0.0)
        return refused or target in self._asking

    async def take(self, target: Target, wait: float, *, panic: bool = False) -> tuple[Permit | None, bool]:
        """Return a permit, if there is one, and whether that is the actor's answer. `wait` is seconds."""
        if (kept := self._kept.pop(target, None)) is not None:
            kept[1].cancel()
            return kept[0], True
        loop = asyncio.get_running_loop()
        if target in self._asking or loop.time() < self._refused.get(target, 0.0):
            return None, True
        self._asking.add(target)
        asked = asyncio.ensure_future(self._ask(target, secrets.token_hex(8), panic))
        asked.add_done_callback(lambda _: self._asking.discard(target))
        patience = DeadlineTimer()
        try:
            with patience.until(loop.time() + wait):
                permit = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(lambda done: self._late(done, target, 0.0))
            raise
        except Exception as error:
            log.info("The breaker actor gave no answer on a probe of %s in time (%s).", target, type(error).__name__)
            asked.add_done_callback(lambda done: self._late(done, target, max(KEEP_SECONDS, 2 * wait)))
            return None, False
        finally:
            patience.close()
        if permit is None:
            self._refuse(target)
        return permit, True

    def _refuse(self, target: Target) -> None:
        now = asyncio.get_running_loop().time()
        self._refused = {t: until for t, until in self._refused.items() if until > now}
        self._refused[target] = now + REFUSED_SECONDS
        if self._again is None:
            self._again = asyncio.get_running_loop().call_at(now + REFUSED_SECONDS, self._ask_again)

    def _ask_again(self) -> None:
        self._again = None
        self._woken()

    def _late(self, asked: "asyncio.Future[Permit | None]", target: Target, keep: float) -> None:
        """Take an answer that nobody waits for. Its permit may wait for `keep` seconds for another asker."""
        if asked.cancelled() or asked.exception():
            return
        if (permit := asked.result()) is None:
            self._refuse(target)
        elif keep and target not in self._kept:
            timer = asyncio.get_running_loop().call_later(keep, self._give_back, target)
            self._kept[target] = permit, timer
            self._woken()
        else:
            self._unused(target, permit)

    def _give_back(self, target: Target) -> None:
        permit, timer = self._kept.pop(target)
        timer.cancel()
        self._unused(target, permit)


class ProbeQueue:
    """Who waits for a permit of each target, the longest first: else newcomers would be the first to ask."""

    def __init__(self) -> None:
        self._waits: dict[object, Sequence[Target]] = {}
        self._lines: dict[Target, dict[object, None]] = {}

    def enter(self, who: object, targets: Sequence[Target]) -> bool:
        """Wait for these alone, at the place that it has already. Return False if the line is full."""
        if who not in self._waits and len(self._waits) >= WAIT_MOST:
            return False
        for target in set(self._waits.get(who, ())) - set(targets):
            self._leave(who, target)
        self._waits[who] = targets
        for target in targets:
            self._lines.setdefault(target, {}).setdefault(who)
        return True

    def leave(self, who: object) -> None:
        """Wait for nothing any more."""
        for target in self._waits.pop(who, ()):
            self._leave(who, target)

    def may(self, who: object, target: Target) -> bool:
        """Return whether nobody waits for it longer."""
        line = self._lines.get(target)
        return not line or next(iter(line)) is who

    def _leave(self, who: object, target: Target) -> None:
        line = self._lines[target]
        line.pop(who, None)
        if not line:
            del self._lines[target]
