"""Tells the answers actor of the runs that this replica leads, and hands their answers over to who joins. No Ray."""

import asyncio
import contextlib

from actors.answers.messages import LedRun as Told
from deployments.idempotency.answers_client import AGAIN_SECONDS, AnswersAway, AnswersClient
from deployments.idempotency.led_run import LedRun

BATCH_SECONDS = 0.1  # of a stream, handed over at once
MOST_KEPT = 1024 * 1024  # bytes of one answer
TRIES = 40  # to hand over what is kept


class Leading:
    """`keep` and `linger` are seconds: of each whole answer, and of one whose client did not get it."""

    def __init__(self, answers: AnswersClient, keep: float, linger: float):
        self._answers, self._keep, self._linger = answers, keep, linger
        self._runs: dict[str, LedRun] = {}
        self._watching: asyncio.Task[None] | None = None
        self._finishing = set[asyncio.Task[None]]()

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
                if run.relayed is None:
                    run.relayed = asyncio.create_task(self._relay(run))

    async def _relay(self, run: LedRun) -> None:
        """Hand a run's answer over as it comes."""
        index, recording = 0, run.recording
        while True:
            await recording.read(index)
            if not recording.ended:
                await asyncio.sleep(BATCH_SECONDS)  # more of it may come
            items, ended = recording.items[index:], recording.ended
            try:
                taken = await self._answers.put(run.name, index, items, ended=ended, keep=self._seconds(run, True))
            except AnswersAway:
                taken = False
                await asyncio.sleep(AGAIN_SECONDS)
            if taken and ended:
                return
            if not taken and run.name not in self._runs:
                return
            index = index + len(items) if taken else 0  # a younger actor has nothing of it
            if not taken:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _finish(self, run: LedRun) -> None:
        try:
            await run.over()
            if run.relayed is None and not await self._hand_over(run):
                return
            if run.relayed is None:  # somebody waits who was not heard of yet
                run.relayed = asyncio.create_task(self._relay(run))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIES * AGAIN_SECONDS):
                    await run.relayed
        finally:
            self._runs.pop(run.name, None)

    async def _hand_over(self, run: LedRun) -> bool:
        """Give the actor what is to be kept of an answer. Return whether somebody waits for it who got nothing yet."""
        keep = self._seconds(run, not run.delivered)
        with contextlib.suppress(AnswersAway):
            if keep > 0:
                await self._answers.put(run.name, 0, run.recording.items, ended=True, keep=keep)
                return False
            return await self._answers.end(run.name)
        return False

    def _seconds(self, run: LedRun, may_be_missed: bool) -> float:
        """Return for how long a run's answer is kept. `may_be_missed`: a client may come back for it."""
        if not run.recording.whole or run.recording.size > MOST_KEPT:
            return 0.0
        return max(self._keep, self._linger if may_be_missed else 0.0)
