"""What drawn answers, of oneself and of others in any order, do to the estimate of an answer."""

import pathlib
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.usage.ledger_client import LedgerClient
from deployments.usage.token_estimate import FURTHEST, DeliveredText

ANSWER = st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 60), st.integers(0, 10**6))
FRAME = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" wor"}}]}\n\n'


def delivered(frames: int) -> DeliveredText:
    passed = DeliveredText()
    for _ in range(frames):
        passed.add(FRAME)
    return passed


def estimate_after(answers: list[tuple[str, int, int]], caller: str) -> int:
    """Return what 50 frames to the caller are taken for, after the answers in this order."""

    async def away() -> Any:
        raise ConnectionError

    with tempfile.TemporaryDirectory() as folder:
        link = LedgerClient(away, pathlib.Path(folder))
        for whose, frames, tokens in answers:
            link.estimator("openai/gpt", (whose,)).learn(delivered(frames), tokens)
        return link.estimator("openai/gpt", (caller,)).tokens(delivered(50))


@given(st.lists(ANSWER, max_size=40))
def test_an_estimate_depends_on_the_callers_own_answers_alone_and_within_a_factor(
    answers: list[tuple[str, int, int]],
) -> None:
    own = [answer for answer in answers if answer[0] == "b"]
    estimate = estimate_after(answers, "b")
    assert estimate == estimate_after(own, "b")
    assert 50 / FURTHEST <= estimate <= 50 * FURTHEST


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_a_single_answer_moves_nothing(frames: int, tokens: int) -> None:
    assert estimate_after([("b", frames, tokens)], "b") == 50
