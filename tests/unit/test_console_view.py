"""What the console's first page shows: words, reasons, figures, and the order in force."""

from typing import Any

import pytest

from actors.breaker.circuit import Policy
from actors.breaker.history import SLOT_SECONDS
from actors.breaker.plan import plan, received
from actors.breaker.registry import Registry
from deployments.breaker_client.last_seen import last_seen
from deployments.config.resolved import ResolvedConfig
from deployments.console.view import StatusData, build_status
from tests.unit.world import ARGS, layout_of

ROWS = {"default": ["aws/haiku", "openai/gpt", "local/smol"], "solo": ["openai/gpt"]}
LEASE = Policy().lease


class Scene:
    """A board, and what a page would show of it."""

    def __init__(self, layout: ResolvedConfig | None = None, **more: Any):
        self.layout = layout or layout_of(ARGS)
        self.rows = self.layout.rows()
        self.board = Registry(Policy())
        self.board.expect(t for row in self.rows.values() for t in row)
        self.more = more

    def report(self, now: float, target: str, verdict: str = "ok", times: int = 1, **item: Any) -> None:
        for _ in range(times):
            epoch = self.board.breakers[target].epoch
            self.board.report(now, {"target": target, "epoch": epoch, "verdict": verdict, "kind": verdict, **item})

    def fail(self, now: float, target: str) -> None:
        self.report(now, target, "failed_start", 3, kind="server_error", status=500, message="no", at=7.0)

    def at(self, now: float) -> dict[str, Any]:
        seen = received(self.board.snapshot(now), now)
        plans = {("chat", name): plan(row, seen, now, draw=0.5) for name, row in self.rows.items()}
        health, trends = self.board.health(now), self.board.histories(now)
        return build_status(self.layout, StatusData(9.0, health, trends, False, plans, **self.more))

    def tier(self, name: str, now: float) -> dict[str, Any]:
        return next(tier for tier in self.at(now)["tiers"] if tier["name"] == name)


def said(tier: dict[str, Any]) -> tuple[str, str]:
    return tier["word"], tier["why"]


def test_a_healthy_service_is_in_its_own_order() -> None:
    shown = Scene().at(10.0)
    assert (shown["health"], shown["why"]) == ("healthy", "every row asks its first choice")
    assert [(t["name"], *said(t)) for t in shown["tiers"]] == [
        ("aws", "healthy", "takes calls"),
        ("openai", "healthy", "takes calls"),
        ("local", "healthy", "takes calls"),
    ]
    assert {r["name"]: [c["target"] for c in r["order"]] for r in shown["rows"]} == ROWS


def test_an_open_circuit_says_why_and_when_it_is_tried() -> None:
    scene = Scene()
    scene.fail(10.0, "aws/haiku")
    shown = scene.at(30.0)
    aws = shown["tiers"][0]
    assert said(aws) == ("open", "its calls failed (3 in a row)")
    assert (aws["retry_in_seconds"], aws["since_seconds"], aws["available"]) == (40.0, 20.0, False)
    assert aws["last_error"] == {"kind": "server_error", "status": 500, "message": "no", "at": 7.0}
    assert (shown["health"], shown["why"]) == ("degraded", "openai answers first for default")
    default = shown["rows"][0]
    assert [c["target"] for c in default["order"]] == ["openai/gpt", "local/smol"]
    assert default["skipped"] == [{"target": "aws/haiku", "why": "open", "retry_in_seconds": 40.0}]
    assert (default["health"], shown["rows"][1]["health"]) == ("degraded", "healthy")


@pytest.mark.parametrize(
    ("verdict", "word", "why"),
    [
        ("throttled", "resting", "it told us to wait"),
        ("misconfigured", "open", "it refused our key, our quota or the model's id"),
    ],
)
def test_a_target_that_is_shut_for_another_reason_says_which(verdict: str, word: str, why: str) -> None:
    scene = Scene()
    scene.report(10.0, "aws/haiku", verdict)
    aws = scene.tier("aws", 10.0)
    assert said(aws) == (word, why)
    assert aws["retry_in_seconds"] > 0


def test_a_probe_is_told_from_the_time_that_it_is_due_to_a_growing_share() -> None:
    scene = Scene()
    scene.fail(0.0, "aws/haiku")
    assert scene.at(60.0)["rows"][0]["order"][0] == {"target": "aws/haiku", "note": "probe"}
    permit = scene.board.ask(60.0, "aws/haiku", "one")
    assert permit is not None
    assert said(scene.tier("aws", 61.0)) == ("probing", "one request probes it")
    scene.report(62.0, "aws/haiku", lease=permit["lease"])
    assert said(scene.tier("aws", 64.0)) == ("ramping", "slow start: it is asked first for 19% of its requests")
    young, grown = scene.at(64.0), scene.at(76.0)
    assert young["rows"][0]["order"][-1] == {"target": "aws/haiku", "note": "first for 19%"}
    assert (young["health"], grown["health"]) == ("degraded", "healthy"), "most requests ask the first again"
    assert said(scene.tier("aws", 82.0)) == ("healthy", "takes calls")


def test_a_probe_that_never_came_back_and_one_that_is_asked_for_by_hand() -> None:
    scene = Scene()
    scene.fail(0.0, "aws/haiku")
    scene.board.ask(60.0, "aws/haiku", "one")
    scene.board.tick(60.0 + LEASE)
    assert said(scene.tier("aws", 60.0 + LEASE)) == ("half-open", "the next request probes it")
    for n in range(1, 5):
        scene.board.ask(60.0 + n * LEASE, "aws/haiku", f"{n}")
    scene.board.tick(60.0 + 5 * LEASE)
    assert said(scene.tier("aws", 60.0 + 5 * LEASE)) == ("open", "its probe was lost")
    scene.board.command(300.0, "recover", "aws")
    assert said(scene.tier("aws", 300.0)) == ("half-open", "the next request probes it")


def test_an_isolated_provider_says_for_how_long() -> None:
    scene = Scene()
    scene.board.command(0.0, "isolate", "openai", 900.0)
    openai = scene.tier("openai", 100.0)
    assert (*said(openai), openai["isolated_for_seconds"]) == ("isolated", "an operator has isolated it", 800.0)
    shown = scene.at(100.0)
    assert (shown["health"], shown["why"]) == ("unhealthy", "no provider can be asked for solo")
    assert shown["rows"][1]["first"] is None


def test_with_nobody_but_an_early_probe_the_service_is_unhealthy() -> None:
    scene = Scene()
    for target in ROWS["default"]:
        scene.fail(0.0, target)
    shown = scene.at(1.0)
    assert (shown["health"], shown["why"]) == ("unhealthy", "no provider can be asked")
    assert [c["note"] for c in shown["rows"][0]["order"]] == ["early probe (panic)"] * 3


def test_a_provider_whose_circuits_differ_is_partly_open() -> None:
    args = {**ARGS, "models": {**ARGS["models"], "smart": {"aws": "sonnet", "openai": "gpt"}}}
    scene = Scene(layout_of(args))
    scene.fail(0.0, "aws/sonnet")
    aws = scene.tier("aws", 1.0)
    assert said(aws) == ("partly open", "1 of 2 circuits: its calls failed (3 in a row)")
    assert {c["model"]: c["word"] for c in aws["targets"]} == {"haiku": "healthy", "sonnet": "open"}
    assert scene.at(1.0)["why"] == "only openai answers for smart"


def test_who_is_left_out_is_shown_with_the_reason_in_every_row_that_names_it() -> None:
    scene = Scene(layout_of(ARGS, {"aws": "AWS_REGION is not set"}))
    shown = scene.at(0.0)
    assert said(shown["tiers"][0]) == ("left out", "AWS_REGION is not set")
    assert shown["rows"][0]["skipped"] == [
        {"target": "aws/haiku", "why": "AWS_REGION is not set", "retry_in_seconds": None}
    ]
    assert shown["health"] == "healthy", "its order is of those that can be called"


def test_a_row_of_which_all_are_left_out_is_unhealthy() -> None:
    shown = Scene(layout_of(ARGS, {"openai": "OPENAI_API_KEY is not set"})).at(0.0)
    assert (shown["health"], shown["why"]) == ("unhealthy", "no provider can be asked for solo")
    assert (shown["rows"][1]["order"], shown["rows"][1]["first"]) == ([], None)


def test_the_local_model_stands_in_where_a_cloud_was_meant() -> None:
    args = {**ARGS, "models": {"default": ARGS["models"]["default"]}}
    gone = {"aws": "no key", "openai": "no key"}
    alone = Scene(layout_of(args, gone)).at(0.0)
    assert (alone["health"], alone["why"]) == ("degraded", "only local answers")
    meant = Scene(layout_of({**args, "mode": "local_only"})).at(0.0)
    assert meant["health"] == "healthy"


def test_a_provider_that_no_row_names_is_unused() -> None:
    args = {**ARGS, "models": {"solo": {"openai": "gpt"}}}
    assert said(Scene(layout_of(args)).tier("aws", 0.0)) == ("unused", "no model row names it")


def test_streams_that_have_fallen_silent_are_the_reason_that_it_stands_behind() -> None:
    scene = Scene(stalled=frozenset({"aws/haiku"}))
    assert said(scene.tier("aws", 0.0)) == ("silent", "its streams have fallen silent, so others are asked first")


def test_so_is_that_it_takes_far_longer_than_it_usually_does() -> None:
    scene = Scene(slow=frozenset({"aws/haiku"}))
    why = "it takes far longer than it usually does, so others are asked first"
    assert said(scene.tier("aws", 0.0)) == ("slow", why)
    assert scene.at(0.0)["rows"][0]["order"][0]["note"] == "slow"


def test_figures_are_of_the_last_five_minutes_and_of_all_circuits_of_a_provider() -> None:
    args = {**ARGS, "models": {**ARGS["models"], "smart": {"aws": "sonnet", "openai": "gpt"}}}
    scene = Scene(layout_of(args))
    scene.report(1000.0, "aws/haiku", count=6, ms=600.0)
    scene.report(1005.0, "aws/sonnet", count=2, ms=1000.0)
    scene.report(1005.0, "aws/haiku", "failed_start")
    aws = scene.tier("aws", 1010.0)
    assert aws["trend"] == {"ok": [6, 2, 0], "failed": [0, 1, 0], "latency_ms": [100.0, 500.0, None]}
    assert (aws["calls"], aws["success_rate"], aws["avg_latency_ms"]) == (9, 88.9, 200.0)
    assert aws["calls_per_second"] == 9 / (2 * SLOT_SECONDS)
    later = scene.tier("aws", 2000.0)
    assert (later["calls"], later["success_rate"], later["avg_latency_ms"]) == (0, None, None)


def test_functions_of_others_have_circuits_that_do_not_count_for_ours() -> None:
    scene = Scene()
    scene.board.expect(["openai/functions/agent", "theirs/functions"])
    scene.fail(0.0, "openai/functions/agent")
    assert scene.tier("openai", 0.0)["word"] == "healthy"
    assert said(scene.tier("theirs", 0.0)) == ("healthy", "takes calls")


def test_without_the_actor_states_are_the_last_seen_and_there_are_no_figures() -> None:
    scene = Scene()
    scene.fail(0.0, "aws/haiku")
    seen = received(scene.board.snapshot(1.0), 1.0)
    plans = {("chat", name): plan(row, seen, 1.0) for name, row in scene.rows.items()}
    shown = build_status(scene.layout, StatusData(9.0, last_seen(seen, 1.0), {}, True, plans))
    aws = shown["tiers"][0]
    assert shown["breaker_actor"] == "away"
    assert said(aws) == ("open", "the reason is unknown on this replica")
    assert (aws["retry_in_seconds"], aws["calls"], aws["success_rate"]) == (59.0, 0, None)


def test_whoever_is_left_alone_is_named_as_the_only_one() -> None:
    scene = Scene()
    for target in ("aws/haiku", "openai/gpt"):
        scene.fail(0.0, target)
    assert scene.at(0.0)["why"] == "only local answers for default; no provider can be asked for solo"


def test_many_rows_are_counted_not_listed() -> None:
    names = {f"row-{n}": {"aws": "haiku", "openai": "gpt"} for n in range(5)}
    scene = Scene(layout_of({**ARGS, "models": {**names, "solo": {"openai": "gpt"}}}))
    scene.fail(0.0, "aws/haiku")
    assert scene.at(0.0)["why"] == "only openai answers for 5 of 6 rows"
