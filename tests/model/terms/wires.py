"""Wires to providers that say texts, and that take so many calls at once; what they see of each request."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

from actors.breaker.outcomes import Outcome
from deployments.openai_api.chat import completion, dump
from tests.model.figures import Figures
from tests.model.terms.terms import Terms
from tests.model.terms.texts import PROMPT_TOKENS, Speaker, begun_in, left_of, text_of, words_of
from tests.model.truth import Act, Asked, Limits, Truth
from tests.model.wires import Item, Wires, told_of
from tests.unit.world import HEAD

FULL = Outcome("throttled", status=429, retry_after=0.5)


class TextWires(Wires):
    """`calls` is request number to how many calls it has made; `under_way` to where its calls are now."""

    def __init__(self, truth: Truth, asked: list[Asked], figures: Figures, now: Callable[[], float], terms: Terms):
        super().__init__(truth, asked, figures, now)
        self._terms = terms
        self.calls = Counter[int]()
        self.under_way = defaultdict[int, list[str]](list)
        self._at_once = Counter[str]()

    @contextlib.contextmanager
    def _call(self, provider: str, call: Mapping[str, Any]) -> Iterator[tuple[Asked, Limits, Act]]:
        asked, limits, act = self._begin(provider, call)
        self.calls[asked.number] += 1
        legs = self.under_way[asked.number]
        legs.append(provider)
        if len(legs) > (1 if self._terms.hedging is None else 2) or len(set(legs)) < len(legs):
            asked.at_once = tuple(legs)
        self._at_once[provider] += 1
        if self._at_once[provider] > self._terms.capacity.get(provider, 10**9):
            self._truth.full[provider].append(self._now())
            act = Act(0.02, FULL)
        try:
            yield asked, limits, act
        finally:
            self._at_once[provider] -= 1
            legs.remove(provider)

    async def complete(self, provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
        with self._call(provider, call) as (asked, _, act):
            await asyncio.sleep(act.seconds)
            if act.outcome is not None:
                return told_of(act.outcome)
            said = words_of(asked)
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(said)}
            usage["total_tokens"] = sum(usage.values())
            return {"body": dump(completion(HEAD, text_of(asked), "stop", usage)), "usage": usage}

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        with self._call(provider, call) as (asked, limits, act):
            began = self._now()
            self.open[asked.number] = began
            try:
                async for item in self._said(provider, asked, limits, act, call["body"], began):
                    yield item
            finally:
                self.open.pop(asked.number, None)

    async def _said(
        self, provider: str, asked: Asked, limits: Limits, act: Act, body: Mapping[str, Any], began: float
    ) -> AsyncGenerator[Item, None]:
        pace, speaker = self._truth.tiers[provider].pace, Speaker(provider, asked.row)
        await asyncio.sleep(act.seconds)
        if act.outcome is not None:
            yield told_of(act.outcome)
            return
        begun = "" if provider in self._terms.ignores else begun_in(body)
        yield speaker.role()
        for number, word in enumerate(left_of(asked, begun), 2):
            if number > 2:
                await asyncio.sleep(pace * self._rng.uniform(0.8, 1.2))
            if (outcome := await self._interrupted(provider, act, number, began, limits)) is not None:
                yield told_of(outcome)
                return
            yield speaker.says(word)
        yield speaker.finish()
        yield speaker.end()
