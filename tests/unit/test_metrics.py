"""What is counted of requests, attempts and circuits, and that no label is anybody's free text."""

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass, field

import pytest

from actors.breaker.circuit import Policy
from actors.breaker.outcomes import Outcome
from actors.breaker.registry import Registry
from actors.ledger.budget import Limit, Limits, Spend
from actors.metrics import METRICS, Labels
from deployments.errors import LimitReached
from deployments.service.arguments import CallOptions
from deployments.telemetry.metrics import Metrics
from deployments.telemetry.request_log import line_of
from deployments.usage.caller import Caller
from tests.unit.test_explain import asked
from tests.unit.test_failover import SERVER_ERROR, in_world
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import REQUEST, World


@dataclass
class Counting:
    """A meter that remembers; a figure that there is none of, or labels of another number, are an error."""

    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    gauges: dict[tuple[str, ...], float] = field(default_factory=dict)
    observed: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def _key(self, name: str, labels: Labels, kind: str) -> tuple[str, ...]:
        assert METRICS[name].kind == kind
        assert len(METRICS[name].labels) == len(labels)
        assert all(type(label) is str for label in labels)
        named = zip(METRICS[name].labels, labels, strict=True)
        told = [label for called, label in named if label or called != "place"]  # to Prometheus an empty label is none
        return (name.removeprefix("breakwater_"), *told)

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        self.counts[self._key(name, labels, "counter")] += amount  # type: ignore[assignment]

    def set(self, name: str, labels: Labels, value: float) -> None:
        self.gauges[self._key(name, labels, "gauge")] = value

    def observe(self, name: str, labels: Labels, value: float) -> None:
        self.observed.setdefault(self._key(name, labels, "histogram"), []).append(value)

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        return {key[1:]: value for key, value in self.counts.items() if key[0] == name and value}


def counting(w: World) -> Counting:
    meter = Counting()
    w.service.meter = w.breaker._meter = w.breaker._actor.meter = meter
    counted = Metrics(meter, w.service.models(), w.service.targets)
    w.service._observers = (*(x for x in w.service._observers if not isinstance(x, Metrics)), counted)
    return meter


@in_world
async def test_a_request_is_counted_by_its_row_who_answered_and_how_it_ended(w: World) -> None:
    meter = counting(w)
    w.provider("aws").ends, w.provider("openai").seconds = [SERVER_ERROR], 0.2
    await asked(w)
    await asked(w, stream=True)
    assert meter.of("requests_total") == {("default", "http", "openai", "ok"): 2}
    assert meter.of("attempts_total") == {
        ("aws", "haiku", "server_error", "failed_start"): 2,
        ("openai", "gpt", "ok", "ok"): 2,
    }
    assert meter.of("failovers_total") == {("aws", "openai", "server_error"): 2}
    assert meter.observed["first_token_seconds", "default", "openai"] == [0.2]
    assert meter.observed["request_seconds", "default", "openai"] == [0.2, 0.2]
    assert meter.observed["added_seconds", "http"] == [0, 0]


@in_world
async def test_a_whole_answer_that_came_as_a_stream_is_counted_as_one(w: World) -> None:
    meter = counting(w)
    w.provider("aws").ends = [Outcome("broken", content=True)]
    w.provider("aws").pieces = w.provider("openai").pieces = [0.1]
    await asked(w)
    assert meter.of("whole_streamed_total") == {("aws", "broken"): 1, ("openai", "ok"): 1}


@in_world
async def test_an_open_circuit_is_a_skip_and_a_failover_with_its_reason(w: World) -> None:
    meter = counting(w)
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await asked(w)
    await w.settle()
    await asked(w)
    assert meter.of("skips_total") == {("aws", "open"): 1}
    assert meter.of("failovers_total") == {("aws", "openai", "server_error"): 3, ("aws", "openai", "open"): 1}


@in_world
async def test_no_label_is_what_a_client_chose(w: World) -> None:
    meter = counting(w)
    for number in range(20):
        for model in (f"openai/mine-{number}", f"nonsense-{number}"):
            await w.python.chat({**REQUEST, "model": model, f"field_{number}": 1})
        scoped = CallOptions(caller=Caller("handle", scope=f"scope-{number}"))
        assert (await w.python.chat(REQUEST, scoped))["error"]["code"] == "out_of_scope"
    labels = {label for key in meter.counts for label in key}
    assert not [label for label in labels if "mine" in label or "nonsense" in label or "field" in label]
    assert not [label for label in labels if "scope-" in label]
    assert {
        ("other", "handle", "none", "model_not_found"),
        ("other", "handle", "openai", "ok"),
        ("default", "handle", "none", "out_of_scope"),
    } == set(meter.of("requests_total"))
    assert {key[1] for key in meter.of("skips_total")} == {"outside the scope"}
    assert set(meter.of("attempts_total")) == {("openai", "other", "ok", "ok")}


@in_world
async def test_what_is_under_way_is_a_gauge_and_goes_back_to_nothing(w: World) -> None:
    meter = counting(w)
    w.provider("aws").seconds = 1.0
    task = asyncio.create_task(asked(w))
    await asyncio.sleep(0.5)
    w.service.sample()
    assert meter.gauges["in_flight", "aws"] == 1
    task.cancel()
    await asyncio.wait([task])
    w.service.sample()
    assert meter.gauges["in_flight", "aws"] == 0
    assert meter.of("requests_total") == {("default", "http", "none", "cancelled"): 1}
    assert meter.gauges["provider_info", "local", "local"] == 1


@in_world
async def test_a_deadline_that_passes_is_a_miss(w: World) -> None:
    meter = counting(w)
    for script in w.hop.providers.values():
        script.seconds = 100
    assert (await w.python.chat(REQUEST, CallOptions(timeout_seconds=0.5)))["status"] == 504
    assert meter.of("deadline_misses_total") == {("default",): 1}


@in_world
async def test_the_age_of_the_order_grows_while_the_actor_is_away(w: World) -> None:
    meter = counting(w)
    await asked(w)
    await w.settle()
    w.actor.kill()
    await asyncio.sleep(30)
    w.service.sample()
    assert meter.gauges[("order_age_seconds",)] == pytest.approx(30, abs=1)
    assert meter.of("actor_calls_total")["report", "ok"] >= 1
    assert meter.of("actor_calls_total")["watch", "failed"] >= 1


def test_tokens_and_cost_are_counted_where_they_are_known_and_limits_that_refuse() -> None:
    async def test(w: Ledgered) -> None:
        meter = counting(w.w)
        await asked(w.w, stream=True)
        await asked(w.w)
        tokens = meter.of("tokens_total")
        assert set(tokens) == {("aws", "haiku", "in"), ("aws", "haiku", "out")}
        cost = tokens["aws", "haiku", "in"] * 2 + tokens["aws", "haiku", "out"] * 8
        assert meter.of("cost_usd_total")["aws", "haiku"] == pytest.approx(cost / 1e6)
        w.w.service.sample()
        assert meter.gauges[("ledger_lag_rows",)] > 0
        w.link.budget.limits = Limits({"tenant:acme": Limit(requests_per_minute=1)}, {}, False)
        w.link.budget.spent(["tenant:acme"], Spend(w.link.now(), requests=5))
        with pytest.raises(LimitReached):
            await asked(w.w)
        assert meter.of("refused_total") == {("rate_limit_exceeded",): 1}

    with_ledger(test)


def test_a_circuits_life_is_counted() -> None:
    meter = Counting()
    board = Registry(Policy(failure_threshold=1, recovery_timeout=10, slow_start=0), meter=meter)
    board.expect(["aws/haiku", "mine/functions", "aws/functions/agent-7"])
    down = {"target": "aws/haiku", "epoch": 0, "verdict": "failed_start", "kind": "connect"}
    board.report(0, down)
    board.report(0, down)
    board.ask(10, "aws/haiku", "p1")
    board.tick(50)  # its lease is over
    board.ask(70, "aws/haiku", "p2")
    board.report(71, {**down, "epoch": board.breakers["aws/haiku"].epoch, "verdict": "ok", "lease": "p2"})
    board.command(80, "isolate", "aws")
    board.command(81, "restore", "aws")
    board.report(82, {**down, "target": "mine/functions"})
    assert meter.of("transitions_total") == {
        ("aws", "haiku", "open", "failures"): 1,
        ("aws", "haiku", "half_open", "due"): 1,
        ("aws", "haiku", "closed", "recovered"): 1,
        ("aws", "haiku", "isolated", "manual"): 1,
        ("aws", "haiku", "closed", "manual"): 1,
        ("functions", "functions", "isolated", "manual"): 1,
        ("functions", "functions", "closed", "manual"): 1,
        ("functions", "functions", "open", "failures"): 1,
    }
    assert meter.of("probes_total") == {
        ("aws", "haiku", "granted"): 2,
        ("aws", "haiku", "lost"): 1,
        ("aws", "haiku", "passed"): 1,
    }
    assert meter.of("late_reports_total") == {("aws", "haiku"): 1}
    board.sample(90, ["aws/haiku"])
    assert meter.gauges["state", "aws", "haiku", "closed"] == 1
    assert sum(value for key, value in meter.gauges.items() if key[0] == "state") == 1


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("misconfigured", "misconfigured"),
        ("throttled", "throttled"),
        ("failed_stream", "failed"),
        ("unused", "released"),
    ],
)
def test_the_end_of_a_probe_is_counted_by_what_it_said(verdict: str, told: str) -> None:
    meter = Counting()
    board = Registry(Policy(failure_threshold=1, recovery_timeout=10), meter=meter)
    board.expect(["aws/haiku"])
    board.report(0, {"target": "aws/haiku", "epoch": 0, "verdict": "failed_start", "kind": "connect"})
    permit = board.ask(13, "aws/haiku", "p1")
    assert permit is not None
    board.report(14, {**permit, "verdict": verdict, "kind": verdict})
    assert meter.of("probes_total") == {("aws", "haiku", "granted"): 1, ("aws", "haiku", told): 1}


def test_an_open_circuit_whose_time_is_over_is_due_and_no_alarm() -> None:
    meter = Counting()
    board = Registry(Policy(failure_threshold=1, recovery_timeout=10), meter=meter)
    board.expect(["aws/haiku"])
    board.report(0, {"target": "aws/haiku", "epoch": 0, "verdict": "failed_start", "kind": "connect"})
    for now, state in ((9, "open"), (13, "due")):
        board.sample(now, ["aws/haiku"])
        assert {key[3] for key, value in meter.gauges.items() if key[0] == "state" and value} == {state}


def test_a_circuit_that_has_left_the_configuration_is_no_alarm() -> None:
    meter = Counting()
    board = Registry(Policy(failure_threshold=1), meter=meter)
    board.expect(["aws/gone", "aws/haiku", "aws/functions/mine"])
    board.report(0, {"target": "aws/gone", "epoch": 0, "verdict": "failed_start", "kind": "connect"})
    board.sample(1, ["aws/haiku"])
    assert {key[2] for key in meter.gauges if key[0] == "state"} == {"haiku"}


@in_world
async def test_the_log_has_one_line_of_json_a_request_without_a_word_of_it(w: World) -> None:
    w.provider("aws").ends = [Outcome("server_error", status=500, message="the prompt was: my secret question")]
    trail = await asked(w)
    line = line_of(trail.summary)
    assert "\n" not in line
    assert "secret" not in line
    told = json.loads(line)
    assert (told["event"], told["row"], told["provider"], told["outcome"]) == ("request", "default", "openai", "ok")
    assert [(a["target"], a["outcome"]) for a in told["attempts"]] == [
        ("aws/haiku", "server_error"),
        ("openai/gpt", "ok"),
    ]


@in_world
async def test_whoever_watches_and_fails_takes_no_request_with_it(w: World) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a watch is broken")

    w.service._observers = (broken,)
    logging.getLogger("ray.serve.deployments.telemetry.request_record").disabled = True
    try:
        assert (await w.python.chat(REQUEST))["object"] == "chat.completion"
    finally:
        logging.getLogger("ray.serve.deployments.telemetry.request_record").disabled = False
