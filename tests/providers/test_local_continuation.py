"""The real local model goes on with its own answers, cut anywhere: does it say what it would have said?

A long run: `uv run pytest -m simulation -s tests/providers/test_local_continuation.py`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from deployments.continuation.methods import FORCED
from deployments.continuation.rest import body_for_rest
from deployments.continuation.stitch import Stitch, cut_for
from deployments.openai_api.chat import frames_to_chunks
from deployments.providers.base import Call, Frames
from deployments.providers.local.adapter import LocalProvider
from deployments.providers.time_limits import TimeLimits

LIMITS = TimeLimits(10, 60, 60, 60)
QUESTIONS = (
    "Tell me about computer networks.",
    "Write a short poem about the sea.",
    "List five fruits with a sentence each.",
    "What is the capital of France, and why?",
)
COMPARED = 8  # characters


async def told(model: LocalProvider, body: Mapping[str, Any], must: str | None = None) -> str:
    frames = b""
    async for item in model.stream(Call(body, "smollm2-135m", "m", LIMITS, must=must)):
        frames += item.data if isinstance(item, Frames) else b""
    chunks = frames_to_chunks(frames)
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def followed(model: LocalProvider, question: str, step: int) -> list[bool]:
    """Return for each cut whether the next characters are those of the answer that was not cut."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 60}
    whole, found = await told(model, body), []
    for at in range(step, len(whole) - 2 * COMPARED, step):
        delivered = whole[:at]
        cut = cut_for(delivered, trusted=True)
        asked, _ = body_for_rest({**body, "max_tokens": 12}, cut, "", FORCED, 0)
        stitch = Stitch(delivered, cut, trusted=True, repeats=False)
        rest = stitch.add(await told(model, asked, cut.must if cut.begun else None))
        found.append(rest is not None and rest[:COMPARED] == whole[at : at + COMPARED])
    return found


@pytest.mark.simulation
def test_the_next_characters_are_right_at_nearly_all_cuts() -> None:
    async def main() -> list[bool]:
        model = LocalProvider()
        try:
            return [right for question in QUESTIONS for right in await followed(model, question, 7)]
        finally:
            await model.close()

    found = asyncio.run(main())
    print(f"\n{sum(found)} of {len(found)} cuts: the next {COMPARED} characters are right")
    assert len(found) > 80
    assert sum(found) >= 0.95 * len(found)


def test_it_finishes_the_word_in_which_a_text_was_cut() -> None:
    async def main() -> None:
        model = LocalProvider()
        body = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 24}
        try:
            whole = await told(model, body)
            at = whole.index("Paris") + 2
            cut = cut_for(whole[:at], trusted=True)
            assert cut.must.strip() == "Pa"
            asked, _ = body_for_rest(body, cut, "", FORCED, 0)
            rest = await told(model, asked, cut.must)
            stitch = Stitch(whole[:at], cut, trusted=True, repeats=False)
            assert (stitch.add(rest) or "").startswith("ris")
        finally:
            await model.close()

    asyncio.run(main())
