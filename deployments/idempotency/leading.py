"""Tells the answers actor of the runs that this replica leads, and hands their answers over to who joins. No Ray."""

import asyncio
import contextlib

from actors.answers.messages import LedRun as Told
from deployments.idempotency.answers_client import AGAIN_SECONDS, AnswersAway, AnswersClient
from deployments.idempotency.led_run import LedRun

BATCH_SECONDS = 0.1  # of a stream, handed over at once
MOST_KEPT = 1024 * 1024  # bytes of one answer
OVER_SECONDS = 10.0  # to hand over what is to be kept, however often the actor is away


class Leading:
    """`keep` and `linger` are seconds: of each whole answer with a key, and of one whose client did not get it."""

    def __init__(self, answers: AnswersClient, keep: float, linger: float):
        self._answers, self._keep, self._linger = answers, keep, linger
        self._runs: dict[str, LedRun] = {}
        self._watching: asyncio.Task[None] | None = None
        self._finishing = set[asyncio.Task[None]]()

    def __contains__(self, run: LedRun) -> bool:
        return run.name in self._runs

    def add(self, run: LedRun) -> None:
        """Watch over a run that was claimed, until its answer has ended and is handed over."""
        self._runs[run.name] = run
        task = asyncio.create_task(self._finish(run))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._runs:
            leading = {r.key: Told(fingerprint=r.fingerprint, run=r.name) for r in self._runs.values()}
            try:
                wanted = await self._answers.watch(leading, [r.name for r in self._runs.values() if r.relayed])
            except AnswersAway:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for run in filter(None, map(self._runs.get, wanted)):
                run.note_wanted()
                if run.relayed is None:
                    run.relayed = asyncio.create_task(self._relay(run))

    async def _relay(self, run: LedRun) -> None:
        """Hand a run's answer over as it comes, until its end is there."""
        index, recording = 0, run.recording
        while run.name in self._runs:
            await recording.wait_beyond(index)
            if not recording.ended:
                await asyncio.sleep(BATCH_SECONDS)  # more of it may come
            items, ended = recording.items[index:], recording.ended
            try:
                if ended and recording.broken:
                    return await self._answers.drop(run.name)
                taken = await self._answers.put(run.name, index, items, ended=ended, keep=self._seconds(run))
            except AnswersAway:
                taken = False
            if taken and ended:
                return None
            if not taken:
                await asyncio.sleep(AGAIN_SECONDS)
            index = index + len(items) if taken else 0  # a younger actor has nothing of it
        return None

    async def _finish(self, run: LedRun) -> None:
        try:
            await run.over()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OVER_SECONDS):
                    await self._hand_over(run)
        finally:
            self._runs.pop(run.name, None)

    async def _hand_over(self, run: LedRun) -> None:
        while True:
            if await self._is_handed_over(run):
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _is_handed_over(self, run: LedRun) -> bool:
        """Give the actor what is to be kept of an answer. Return whether nothing is left to be done."""
        if run.relayed is not None:
            await asyncio.shield(run.relayed)
        with contextlib.suppress(AnswersAway):
            if run.recording.broken:
                await self._answers.drop(run.name)
                return True
            if (keep := self._seconds(run)) > 0:
                return await self._answers.put(run.name, 0, run.recording.items, ended=True, keep=keep)
            if not await self._answers.end(run.name):
                return True
            if run.relayed is None:  # somebody waits who was not heard of yet
                run.relayed = asyncio.create_task(self._relay(run))
        return False

    def _seconds(self, run: LedRun) -> float:
        """Return for how long a run's answer is kept: for its own client too, if that has left without it."""
        if not run.recording.whole or run.recording.size > MOST_KEPT:
            return 0.0
        return max(self._keep if run.keyed else 0.0, 0.0 if run.delivered else self._linger)
