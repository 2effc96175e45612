"""The wires to the providers, in the place of the hop: they do what the truth says, within a call's own limits."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed
from deployments.openai_api.chat import chunk, completion, dump
from tests.model.figures import Figures
from tests.model.truth import Act, Asked, Limits, Truth
from tests.unit.world import HEAD

Item = bytes | dict[str, Any]


def prompt(asked: Asked) -> str:
    return str(asked.number)


class Wires:
    """`now` is seconds since the run began; `asked` is request number to request."""

    def __init__(self, truth: Truth, asked: list[Asked], figures: Figures, now: Callable[[], float]):
        self._truth, self._asked, self._figures, self._now = truth, asked, figures, now
        self.open: dict[int, float] = {}  # request to when its stream began, as long as it is not closed
        self._rng = random.Random(f"{truth.script.seed}/wires")
        self._frames = {name: chunk(HEAD, {"content": f"<{name}> "}) for name in truth.tiers}
        self._thoughts = {name: chunk(HEAD, {"reasoning_content": f"({name}) "}) for name in truth.tiers}
        self._wholes = {name: dump(completion(HEAD, f"<{name}>", "stop", None)) for name in truth.tiers}

    def _begin(self, provider: str, call: Mapping[str, Any]) -> tuple[Asked, Limits, Act]:
        asked = self._asked[int(call["body"]["messages"][0]["content"])]
        limits = Limits(*call["limits"])
        self._figures.calls += 1
        if (fault := self._truth.fault(provider, self._now())) is not None:
            self._figures.calls_into_dead += 1
            self._truth.met[fault] = self._now()
            self._truth.met_first.setdefault(fault, self._now())
        return asked, limits, self._truth.act(asked, provider, self._now(), limits)

    async def complete(self, provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
        _, _, act = self._begin(provider, call)
        await asyncio.sleep(act.seconds)
        if act.outcome is None:
            return {"body": self._wholes[provider], "usage": None}
        return told_of(act.outcome)

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        began = self._now()
        asked, limits, act = self._begin(provider, call)
        self.open[asked.number] = began
        pace = self._truth.tiers[provider].pace
        try:
            await asyncio.sleep(act.seconds)
            if act.outcome is not None:
                yield told_of(act.outcome)
                return
            yield self._frame(provider, 1)
            for number in range(2, max(2, math.ceil(asked.length / pace)) + 1):
                await asyncio.sleep(pace * self._rng.uniform(0.8, 1.2))
                if (outcome := await self._interrupted(provider, act, number, began, limits)) is not None:
                    yield told_of(outcome)
                    return
                yield self._frame(provider, number)
            yield {"usage": None, "tail": b""}
        finally:
            self.open.pop(asked.number, None)

    def _frame(self, provider: str, number: int) -> bytes:
        thinks = number <= self._truth.script.load.thinking
        return self._thoughts[provider] if thinks else self._frames[provider]

    async def _interrupted(self, provider: str, act: Act, number: int, began: float, limits: Limits) -> Outcome | None:
        """A fault of the provider reaches the streams that flow, too: how one ends of it, once it has."""
        fault = self._truth.fault(provider, self._now())
        if fault is None or (fault.begin <= began and (act.frames is None or number <= act.frames)):
            return None
        self._truth.met[fault] = self._now()
        match fault.kind:
            case "mid-stream":
                return Outcome("broken", content=True)
            case "lost":
                raise AttemptFailed(Outcome("lost"))
            case "stall":
                left = fault.end - self._now()
                await asyncio.sleep(min(left, limits.idle))
                return None if left < limits.idle else Outcome("idle", content=True)
        return None


def told_of(outcome: Outcome) -> dict[str, Any]:
    """A replica that dies says nothing: the way to it fails."""
    if outcome.kind == "lost":
        raise AttemptFailed(outcome)
    return {"outcome": asdict(outcome)}
