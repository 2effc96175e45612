"""The clients: who asks when, and what they do with an answer. When they ask does not hang on how they fare."""

import asyncio
import contextlib
import heapq
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from deployments.errors import BreakwaterError
from deployments.openai_api.chat import DONE, check_request
from deployments.service.service import Service
from deployments.usage.caller import Caller
from tests.model.drawn import log_uniform
from tests.model.figures import Figures, Wrong
from tests.model.script import Script
from tests.model.terms.terms import PRIORITIES
from tests.model.truth import Asked

LONGEST_PAUSE = 3600.0  # then a provider must have been let go
_CALLER = Caller("handle")
_SAID = re.compile(rb"<(\w)>")
READ = 2  # frames after which a reader that pauses does


def requests(script: Script) -> Iterator[Asked]:
    """Every request of a run, in order."""
    load, rng = script.load, random.Random(f"{script.seed}/clients")
    plain = [(0.0, script.seconds, load.rate), *((b.begin, b.end, b.rate) for b in load.bursts)]
    streams = [_times(random.Random(f"{script.seed}/{i}"), *p, load.even, None) for i, p in enumerate(plain)]
    odd_times = _times(random.Random(f"{script.seed}/odd"), 0.0, script.seconds, load.odd_rate, False, load.odd)
    odd = (each for each in odd_times for _ in range(load.odd_together))
    for number, (at, kind) in enumerate(heapq.merge(*streams, odd)):
        if number >= load.most:
            return
        yield _drawn(rng, script, number, at, kind or None)


def _times(
    rng: random.Random, at: float, end: float, rate: float, even: bool, odd: str | None
) -> Iterator[tuple[float, str]]:
    while rate > 0:
        at += 1 / rate if even else rng.expovariate(rate)
        if at >= end:
            return
        yield at, odd or ""


def _drawn(rng: random.Random, script: Script, number: int, at: float, odd: str | None) -> Asked:
    load, rows = script.load, [r for r in script.rows if odd is None or len(script.rows[r]) > 1]
    row = rng.choices(rows, [load.shares.get(r, 1.0) for r in rows])[0]
    stream = rng.random() < load.streams
    length = log_uniform(rng, 60, load.longest) if rng.random() < load.long else log_uniform(rng, *load.lengths)
    hurried, leaving, pausing = rng.random() < load.hurried, rng.random() < load.leaving, rng.random() < load.pausing
    deadline, leaves, pauses = log_uniform(rng, *load.deadlines), log_uniform(rng, 0.05, 8.0), rng.uniform(*load.pauses)
    return Asked(
        number=number,
        replica=rng.randrange(script.replicas),
        row=row,
        tiers=script.rows[row],
        stream=stream,
        began=at,
        luck=rng.random(),
        length=min(length, max(10.0, script.seconds - at)),
        deadline=deadline if hurried and odd is None else None,
        odd=odd,
        leaves=1 + leaves / 2 if odd == "silent" else leaves if leaving else None,
        pauses=pauses if pausing else 0.0,
        **_by_terms(script, number, plain=odd is None and not (hurried or leaving or pausing)),
    )


def _by_terms(script: Script, number: int, *, plain: bool) -> dict[str, Any]:
    """What the world's terms say of one request. They draw by themselves, so that a world without them is as it was."""
    if script.terms is None:
        return {}
    rng = random.Random(f"{script.seed}/{number}/terms")
    keyed = plain and rng.random() < script.terms.keyed
    return {"keyed": keyed, "priority": rng.choices(PRIORITIES, (0.2, 0.5, 0.3))[0]}


class Client:
    """One client of one service: puts one request to it."""

    def __init__(
        self, services: list[Service], figures: Figures, now: Callable[[], float], open_calls: Mapping[int, float]
    ):
        self._services, self._figures, self._now, self._open = services, figures, now, open_calls

    async def ask(self, asked: Asked) -> None:
        asked.began = self._now()
        try:
            if asked.leaves is None:
                await self._ask(asked)
            else:
                await self._ask_and_leave(asked, asked.leaves)
        except BreakwaterError as error:
            asked.end, asked.why = "failed", f"{type(error).__name__} {error.status}"
            asked.status, asked.story = error.status, getattr(error, "attempts", None)
        except asyncio.CancelledError:
            asked.end = "stuck"
            raise
        except Exception as error:
            asked.end, asked.why = "error", repr(error)
            self._figures.wrong(Wrong("errors", self._now(), asked.replica, asked.number, repr(error)))
        if asked.end != "stuck":
            asked.ended = self._now()

    async def _ask_and_leave(self, asked: Asked, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ask(asked)
                return
        asked.end = "cancelled"

    async def _ask(self, asked: Asked) -> None:
        service = self._services[asked.replica]
        request = check_request({**self._body(asked), "messages": [{"role": "user", "content": str(asked.number)}]})
        deadline, trail = service.deadline(asked.deadline), service.begin(self._caller(asked), request)
        asked.request_id = trail.request_id
        if asked.stream:
            answer = await service.failover.stream(request, deadline, trail)
            self._answered(asked, answer.target, answer.record)
            try:
                async with contextlib.aclosing(answer.frames()) as frames:
                    await self._read(asked, frames)
            finally:
                await answer.close()
        else:
            done = await service.failover.complete(request, deadline, trail)
            self._answered(asked, done.target, done.record)
            self._check(asked, done.body)
            asked.end = "ok"

    def _body(self, asked: Asked) -> dict[str, Any]:
        return {"model": asked.row, "stream": asked.stream}

    def _caller(self, asked: Asked) -> Caller:
        return _CALLER

    def _answered(self, asked: Asked, target: str, trail: object) -> None:
        asked.first, asked.provider, asked.story = self._now(), target.partition("/")[0], trail
        asked.made, asked.hedged = getattr(trail, "made", 0), getattr(trail, "hedged", "")

    def _check(self, asked: Asked, data: bytes) -> None:
        if not any(f"{a}{asked.provider}{b}".encode() in data for a, b in ("<>", "()")):
            raise ValueError(f"content of somebody else than {asked.provider}: {data[:80]!r}")

    def _look_for_held(self, asked: Asked) -> None:
        """A reader that has stopped for so long must have lost its provider to others."""
        if asked.pauses >= LONGEST_PAUSE and asked.number in self._open:
            what = f"its reader stood still for {asked.pauses:.0f} s, and its call to {asked.provider} is open"
            self._figures.wrong(Wrong("leaks", self._now(), asked.replica, asked.number, what))

    async def _read(self, asked: Asked, frames: AsyncIterator[bytes]) -> None:
        number, data, said = 0, b"", set[bytes]()
        async for data in frames:
            number += 1
            said |= set(_SAID.findall(data))
            if number == 1:
                self._check(asked, data)
            if number == READ and asked.pauses:
                await asyncio.sleep(asked.pauses)
                self._look_for_held(asked)
        whole, failed = data.endswith(DONE), b'"error"' in data
        if whole is failed:
            raise ValueError(f"sealed as whole, or ended without a word: {data[-200:]!r}")
        if len(said) > 1:
            raise ValueError(f"two providers have made one answer: {said}")
        asked.end = "ok" if whole else "broken"
        if failed:
            asked.why = data[:300].decode(errors="replace")
