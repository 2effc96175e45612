"""What a cut answer is taken to have used, whatever others asked of the same target before."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from actors.ledger.messages import Used
from deployments.config.ledger import Accounting
from deployments.openai_api.chat import dump
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prices import PriceList
from deployments.usage.records import AttemptUsage
from deployments.usage.token_estimate import FURTHEST

FRAME = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" wor"}}]}\n\n'
PRICES = Accounting.model_validate({"prices": {"gpt": {"input": 2, "output": 8}}}).prices
OK, CUT = Outcome("ok", content=True), Outcome("cancelled", content=True)
LONG = {"messages": [{"role": "user", "content": "x" * 20_000}]}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
PICTURE = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, IMAGE]}]}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d" * 80_000}}]
AGENT = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}


@pytest.fixture
def link(tmp_path: pathlib.Path) -> LedgerClient:
    async def away() -> Any:
        raise ConnectionError

    return LedgerClient(away, tmp_path, prices=PriceList(PRICES, {"openai/small": 1000}))


def attempt(link: LedgerClient, body: Any, tenant: str, target: str = "openai/gpt") -> AttemptUsage:
    return link.begin(tenant=tenant, model_row="default", body=body).open(target)


def answered(link: LedgerClient, body: Any, tenant: str, *, tokens: tuple[int, int], frames: int = 1) -> None:
    entry = attempt(link, body, tenant)
    for _ in range(frames):
        entry.delivered(FRAME)
    entry.settle(OK, {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)})


def cut(link: LedgerClient, body: Any = LONG, tenant: str = "b", frames: int = 50) -> Used:
    entry = attempt(link, body, tenant)
    for _ in range(frames):
        entry.delivered(FRAME)
    return entry.settle(CUT)


@pytest.mark.parametrize(
    "before",
    [
        lambda link: None,
        lambda link: answered(link, PICTURE, "a", tokens=(1500, 20)),
        lambda link: [answered(link, PICTURE, "a", tokens=(1500, 20)) for _ in range(20)],
        lambda link: [answered(link, AGENT, "a", tokens=(20_000, 20)) for _ in range(20)],
        lambda link: [answered(link, LONG, f"a{n}", tokens=(5000, 5000), frames=50) for n in range(50)],
    ],
)
def test_what_others_asked_before_does_not_change_what_a_cut_stream_costs(
    link: LedgerClient, before: Callable[[LedgerClient], Any]
) -> None:
    before(link)
    used = cut(link)
    assert (used["tokens_in"], used["tokens_out"], used["counted"]) == (5004, 50, "estimated")
    assert used["cost"] == 5004 * 2000 + 50 * 8000


def test_a_callers_own_answers_correct_its_estimate_by_a_factor_of_two_at_most(link: LedgerClient) -> None:
    answered(link, LONG, "b", tokens=(5000, 5000), frames=50)
    assert cut(link)["tokens_out"] == 50, "no single answer moves it"
    for _ in range(20):
        answered(link, LONG, "b", tokens=(5000, 5000), frames=50)
    assert cut(link)["tokens_out"] == 50 * FURTHEST


def test_a_cut_stream_about_an_image_or_with_tools_counts_them(link: LedgerClient) -> None:
    assert cut(link, PICTURE)["tokens_in"] == pytest.approx(771, abs=2)
    assert cut(link, AGENT)["tokens_in"] == pytest.approx(20_000, rel=0.01)


@pytest.mark.parametrize("kind", ["first_token", "idle", "timeout", "deadline", "cancelled", "broken", "empty", "lost"])
def test_a_prompt_that_was_sent_is_counted_although_nothing_came(link: LedgerClient, kind: str) -> None:
    used = attempt(link, LONG, "b").settle(Outcome(kind))
    assert (used["tokens_in"], used["tokens_out"], used["counted"]) == (5004, 0, "estimated")
    assert used["cost"] == 5004 * 2000


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("connect"),
        Outcome("throttled", status=429),
        Outcome("server_error", status=500),
        Outcome("content_filter", status=400),
        Outcome("timeout", status=504),
        Outcome("rejected"),
    ],
)
def test_a_refused_connection_and_an_error_status_bill_nothing(link: LedgerClient, outcome: Outcome) -> None:
    used = attempt(link, LONG, "b").settle(outcome)
    assert (used["tokens_in"], used["counted"], used["cost"]) == (0, "none", 0)


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": 0}, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_a_whole_answer_without_usable_figures_is_estimated(link: LedgerClient, usage: Any) -> None:
    body = b'{"choices":[{"message":{"role":"assistant","content":"' + b"y" * 400 + b'"}}]}'
    used = attempt(link, LONG, "b").settle(OK, usage, body)
    assert (used["tokens_in"], used["tokens_out"], used["counted"]) == (5004, 100, "estimated")


def test_no_estimate_is_above_the_targets_window(link: LedgerClient) -> None:
    assert attempt(link, LONG, "b", "openai/small").settle(CUT)["tokens_in"] == 1000


TOLD = {"prompt_tokens": 6100, "completion_tokens": 70, "total_tokens": 6170}


@pytest.mark.parametrize(("told", "out"), [(70, 70), (7, 50)])
def test_what_the_provider_told_before_it_broke_off_is_the_least_that_counts(
    link: LedgerClient, told: int, out: int
) -> None:
    entry = attempt(link, LONG, "b")
    for _ in range(50):
        entry.delivered(FRAME)
    entry.told = {**TOLD, "completion_tokens": told, "total_tokens": 6100 + told}
    entry.count(CUT)
    used = entry.settle(CUT)
    assert (used["tokens_in"], used["tokens_out"], used["counted"]) == (6100, out, "estimated")


def test_an_answer_of_which_the_provider_counts_no_token_is_estimated(link: LedgerClient) -> None:
    usage = {"prompt_tokens": 5000, "completion_tokens": 0, "total_tokens": 5000}
    streamed = attempt(link, LONG, "b")
    for _ in range(50):
        streamed.delivered(FRAME)
    assert streamed.settle(OK, usage)["tokens_out"] == 50
    body = dump({"choices": [{"message": {"content": "x" * 400}}]})
    used = attempt(link, LONG, "b").settle(OK, usage, body)
    assert (used["tokens_in"], used["tokens_out"], used["counted"]) == (5000, 100, "estimated")
    nothing = attempt(link, LONG, "b").settle(OK, usage, dump({"choices": [{"message": {"content": ""}}]}))
    assert (nothing["tokens_out"], nothing["counted"]) == (0, "provider")
