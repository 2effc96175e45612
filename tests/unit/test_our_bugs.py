"""A bug of ours before a provider was asked: no fault of the provider nor of the client, and the next tier is asked."""

import asyncio
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import error_dict
from deployments.failover.no_answer import no_answer
from deployments.failover.tried import Tried
from deployments.openai_api.chat import check_request
from deployments.routing.model_rows import ModelRows
from deployments.routing.request_fit import RequestFit
from deployments.telemetry.request_record import RequestRecord
from tests.unit.tiers import ask, in_tiers, opened, state
from tests.unit.world import REQUEST, World

BUG = Outcome("internal_error", message="a bug (KeyError)")
REJECTED = Outcome("rejected", status=400, message="no such voice", param="voice")


@in_tiers()
async def test_the_next_tier_answers_and_no_circuit_moves_however_often_it_comes(w: World) -> None:
    w.provider("aws").ends = [BUG]
    for _ in range(20):
        assert (await ask(w)).by == "openai/gpt"
        assert (await ask(w, stream=True)).by == "openai/gpt"
    await w.settle()
    assert state(w, "aws/haiku") == "closed"
    assert w.targets()["aws/haiku"]["failed"] == 0


@in_tiers()
async def test_where_nobody_answers_it_is_a_500_that_says_whose_fault_it_was(w: World) -> None:
    for name in ("aws", "openai"):
        w.provider(name).ends = [BUG]
    answer: Any = await w.python.chat({**REQUEST, "model": "default"})
    assert (answer["status"], answer["error"]["code"], answer["error"]["type"]) == (
        500,
        "internal_error",
        "server_error",
    )
    assert "retry_after" not in answer, "to ask again would not help"
    assert [attempt["outcome"] for attempt in answer["error"]["attempts"]] == ["internal_error"] * 2


@in_tiers()
async def test_a_probe_that_meets_a_bug_of_ours_neither_opens_nor_closes_its_circuit(w: World) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(75)
    w.provider("openai").ends = [BUG]
    for _ in range(6):
        assert (await ask(w, "solo")).by == 500
        await w.settle()
    assert state(w, "openai/gpt") == "half_open"
    w.provider("openai").ends = [None]
    assert (await ask(w, "solo")).by == "openai/gpt"
    await w.settle()
    assert state(w, "openai/gpt") == "closed"


def error_of(*outcomes: Outcome, left_out: bool = False) -> dict[str, Any]:
    tried = Tried(RequestRecord())
    names = "abc"[: len(outcomes)]
    for name, outcome in zip(names, outcomes, strict=True):
        tried.fail(f"{name}/m", outcome)
    if left_out:
        tried.pass_over("c/m", "isolated")
    rows = ModelRows({"row": [f"{name}/m" for name in names]}, dict.fromkeys(names, "openai"))
    found: Any = error_dict(no_answer(tried, rows, None))
    return {"status": found["status"], "code": found["error"]["code"]}


@pytest.mark.parametrize("outcomes", [(BUG, REJECTED), (REJECTED, BUG), (BUG, Outcome("bad_request", status=400))])
def test_what_others_refuse_does_not_make_our_bug_the_clients_fault(outcomes: tuple[Outcome, ...]) -> None:
    assert error_of(*outcomes) == {"status": 500, "code": "internal_error"}


@pytest.mark.parametrize("outcomes", [(BUG, Outcome("connect")), (Outcome("timeout"), BUG)])
def test_where_a_provider_has_failed_too_to_ask_again_may_help(outcomes: tuple[Outcome, ...]) -> None:
    assert error_of(*outcomes) == {"status": 503, "code": "no_provider_available"}


def test_where_a_tier_was_out_to_ask_again_may_help() -> None:
    assert error_of(BUG, left_out=True) == {"status": 503, "code": "no_provider_available"}


class Buggy(ModelRows):
    """Rows whose translation for one kind of provider fails."""

    def _fit(self, target: str, body: Any, drop: Any, native: Any = None) -> RequestFit:
        if self.kind(target) == "bedrock":
            raise KeyError("secret of ours")
        return super()._fit(target, body, drop, native)


def break_translation(w: World) -> None:
    rows, ground = w.service.failover.rows, w.service.failover._ground
    ground.rows = Buggy(rows._rows, rows._kinds, fixed=rows._fixed, windows=rows.windows)


@in_tiers()
async def test_a_bug_in_the_ingress_own_translation_for_one_tier_costs_that_tier_alone(w: World) -> None:
    break_translation(w)
    ended = await ask(w)
    assert (ended.by, ended.steps) == ("openai/gpt", ["aws: skipped: internal_error", "openai: ok"])
    assert w.provider("aws").calls == 0


@in_tiers()
async def test_where_that_tier_is_the_only_one_the_client_gets_a_500_and_nothing_of_our_insides(w: World) -> None:
    break_translation(w)
    answer: Any = await w.python.chat({**REQUEST, "model": "second"})
    assert (answer["status"], answer["error"]["code"]) == (500, "internal_error")
    assert "secret" not in str(answer)


class Torn(Exception):
    """What our own code raises between two calls of one attempt."""


@in_tiers()
async def test_a_bug_between_two_calls_of_an_attempt_leaves_nothing_under_way(w: World) -> None:
    def learn(*_: object) -> bool:
        raise Torn

    w.service.failover.rows.may_drop_hints = learn  # type: ignore[method-assign]
    w.provider("openai").ends = [REJECTED]
    with pytest.raises(Torn):
        await w.service.failover.complete(check_request({**REQUEST, "model": "solo"}), w.service.deadline())
    assert not w.breaker.under_way.total()
