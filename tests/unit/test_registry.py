"""The board, what an ingress sees of it, and the plan."""

import json

import pytest

from actors.breaker.circuit import Policy, State
from actors.breaker.messages import CircuitCheckpoint
from actors.breaker.plan import Plan, plan, received
from actors.breaker.registry import GUESTS, Registry

ROW = ["aws/haiku", "openai/gpt", "local/smol"]


@pytest.fixture
def board() -> Registry:
    made = Registry(Policy())
    made.expect(ROW)
    return made


def fail(board: Registry, target: str, times: int = 3, now: float = 0.0, **more: object) -> None:
    for _ in range(times):
        epoch = board.breakers[target].epoch
        board.report(now, {"target": target, "epoch": epoch, "verdict": "failed_start", "kind": "connect", **more})


def planned(board: Registry, now: float, row: list[str] = ROW) -> Plan:
    return plan(row, received(board.snapshot(now), now), now)


def names(p: Plan) -> list[str]:
    return [c.target for c in p.candidates]


def test_a_healthy_board_plans_the_rows_own_order(board: Registry) -> None:
    assert names(planned(board, 0.0)) == ROW
    assert names(planned(board, 0.0, ROW[::-1])) == ROW[::-1]


def test_a_target_nobody_has_seen_counts_as_healthy() -> None:
    assert names(plan(ROW, {}, 0.0)) == ROW


def test_an_open_target_is_skipped_with_the_time_that_is_left(board: Registry) -> None:
    fail(board, "aws/haiku")
    p = planned(board, 20.0)
    assert names(p) == ROW[1:]
    assert [(s.target, s.why, s.retry_in) for s in p.skipped] == [("aws/haiku", "open", 40.0)]
    assert p.retry_in == 40.0


def test_whoever_is_due_has_its_place_in_the_row_and_needs_a_permit_when_its_turn_comes(board: Registry) -> None:
    fail(board, "aws/haiku")
    fail(board, "openai/gpt")
    p = planned(board, 60.0)
    assert [(c.target, c.probe) for c in p.candidates] == [
        ("aws/haiku", True),
        ("openai/gpt", True),
        ("local/smol", False),
    ]
    assert not p.skipped


def test_whoever_is_due_stands_behind_one_that_ramps_before_it_in_the_row(board: Registry) -> None:
    fail(board, "aws/haiku")
    fail(board, "openai/gpt")
    permit = board.ask(60.0, "aws/haiku", "one")
    assert permit is not None
    board.report(60.0, {**permit, "verdict": "ok", "kind": "ok", "ms": 1.0})
    p = plan(ROW, received(board.snapshot(61.0), 61.0), 61.0, draw=0.9)
    assert [(c.target, c.probe) for c in p.candidates] == [
        ("local/smol", False),
        ("aws/haiku", False),
        ("openai/gpt", True),
    ]


def test_those_that_merely_failed_are_asked_when_nobody_else_has_answered(board: Registry) -> None:
    for at, target in enumerate(reversed(ROW)):
        fail(board, target, now=float(at))
    p = planned(board, 10.0)
    assert (p.candidates, [c.target for c in p.panics]) == ((), ["local/smol", "openai/gpt", "aws/haiku"])
    assert all(c.panic for c in p.panics)


def test_an_isolation_that_is_over_holds_nobody_though_the_actor_has_not_said_so(board: Registry) -> None:
    board.command(0.0, "isolate", "aws", 60.0)
    sight = received(board.snapshot(0.0), 0.0)
    assert names(plan(ROW, sight, 59.0)) == ROW[1:]
    assert plan(ROW, sight, 59.0).retry_in == 1.0
    assert names(plan(ROW, sight, 60.0)) == ROW


def test_a_probe_that_nothing_is_heard_of_keeps_the_others_out_for_its_lease_only(board: Registry) -> None:
    fail(board, "aws/haiku")
    assert board.ask(60.0, "aws/haiku", "one") is not None
    sight = received(board.snapshot(60.0), 60.0)
    assert names(plan(ROW, sight, 60.0 + Policy().lease - 1)) == ROW[1:]
    assert names(plan(ROW, sight, 60.0 + Policy().lease)) == ROW


def test_a_throttle_is_said_to_be_one(board: Registry) -> None:
    item = {"target": "aws/haiku", "epoch": 0, "verdict": "throttled", "kind": "throttled", "retry_after": 8.0}
    board.report(0.0, item)
    assert [s.why for s in planned(board, 1.0).skipped] == ["throttled"]


def test_a_new_function_takes_the_place_of_the_one_that_was_used_least_lately(board: Registry) -> None:
    board.expect([f"mine/functions/{n}" for n in range(GUESTS)], 0.0)
    fail(board, "mine/functions/0", times=1)
    board.expect(["mine/functions/1"], 5.0)
    board.expect(["mine/functions/new"], 10.0)
    assert "mine/functions/new" in board.breakers
    assert "mine/functions/2" not in board.breakers, "it was asked for least lately"
    assert {"mine/functions/0", "mine/functions/1", *ROW} <= board.breakers.keys()


def test_a_function_has_no_circuit_while_all_the_places_are_needed(board: Registry) -> None:
    names = [f"mine/functions/{n}" for n in range(GUESTS)]
    board.expect(names)
    for name in names:
        fail(board, name)
    board.expect(["mine/functions/new"], 10.0)
    assert "mine/functions/new" not in board.breakers


def test_while_a_probe_is_out_the_others_go_round(board: Registry) -> None:
    fail(board, "aws/haiku")
    assert board.ask(60.0, "aws/haiku", "one") is not None
    p = planned(board, 60.0)
    assert names(p) == ROW[1:]
    assert p.skipped[0].why == "probing"


def test_an_isolated_provider_is_out_of_every_row(board: Registry) -> None:
    assert board.command(0.0, "isolate", "openai") == 1
    assert names(planned(board, 0.0)) == ["aws/haiku", "local/smol"]
    board.command(0.0, "restore", "openai")
    assert names(planned(board, 0.0)) == ROW


def test_a_new_target_of_an_isolated_provider_is_isolated_too(board: Registry) -> None:
    board.command(0.0, "isolate", "aws")
    board.expect(["aws/new", "openai/new"])
    assert names(planned(board, 0.0, ["aws/new", "openai/new"])) == ["openai/new"]


def test_targets_of_one_provider_have_circuits_of_their_own(board: Registry) -> None:
    board.expect(["aws/sonnet"])
    fail(board, "aws/haiku")
    assert board.breakers["aws/sonnet"].state is State.CLOSED


def test_the_version_moves_when_an_ingress_must_know_and_only_then(board: Registry) -> None:
    version = board.version
    fail(board, "aws/haiku", times=2)
    board.report(0.0, {"target": "openai/gpt", "epoch": 0, "verdict": "ok", "kind": "ok", "ms": 5.0})
    assert board.version == version
    fail(board, "aws/haiku", times=1)
    assert board.version == version + 1


def test_a_merged_report_counts_as_often_as_it_says(board: Registry) -> None:
    item = {"target": "openai/gpt", "epoch": 0, "verdict": "ok", "kind": "ok", "count": 4, "ms": 100.0}
    board.report(0.0, item)
    fail(board, "openai/gpt", times=1, status=500, message="no", at=1.0)
    health = board.health(0.0)["openai/gpt"]
    assert (health["ok"], health["failed"], health["ms"], health["consecutive_failures"]) == (4, 1, 100.0, 1)
    assert health["last_error"] == {"kind": "connect", "status": 500, "message": "no", "at": 1.0}


def test_a_report_of_an_unknown_target_is_ignored(board: Registry) -> None:
    board.report(0.0, {"target": "nobody/x", "epoch": 0, "verdict": "failed_start", "kind": "connect"})
    assert board.ask(0.0, "nobody/x", "a") is None
    assert set(board.breakers) == set(ROW)


def test_a_lease_ends_by_time_alone(board: Registry) -> None:
    fail(board, "aws/haiku")
    board.ask(60.0, "aws/haiku", "one")
    version = board.version
    board.tick(60.0 + Policy().lease)
    assert not board.breakers["aws/haiku"].leases
    assert board.version > version


class TestSnapshot:
    def test_it_keeps_open_times_modes_and_levels_over_a_restart(self, board: Registry) -> None:
        fail(board, "aws/haiku", now=1000.0)
        board.command(1000.0, "isolate", "openai")
        stored = json.loads(json.dumps(board.checkpoint(1010.0)))

        after = Registry(Policy())
        after.restore(5.0, stored, elapsed=20.0)
        sight = after.snapshot(5.0)
        assert sight["aws/haiku"]["retry_in"] == pytest.approx(30.0)
        assert sight["openai/gpt"]["mode"] == "isolated"
        assert after.breakers["aws/haiku"].level == 1

    def test_a_probe_that_was_out_is_still_the_only_one(self, board: Registry) -> None:
        fail(board, "aws/haiku")
        board.ask(60.0, "aws/haiku", "one")
        after = Registry(Policy())
        after.restore(0.0, board.checkpoint(60.0), elapsed=1.0)
        assert after.ask(1.0, "aws/haiku", "two") is None
        assert after.ask(Policy().lease + 1, "aws/haiku", "two") is not None

    def test_a_wall_clock_that_stepped_back_admits_nothing_early(self, board: Registry) -> None:
        fail(board, "aws/haiku")
        after = Registry(Policy())
        after.restore(0.0, board.checkpoint(0.0), elapsed=-7200.0)
        assert after.snapshot(0.0)["aws/haiku"]["retry_in"] == pytest.approx(60.0)

    def test_a_share_that_grows_and_the_time_in_a_state_go_on_as_if_nothing_had_happened(self, board: Registry) -> None:
        fail(board, "aws/haiku")
        permit = board.ask(60.0, "aws/haiku", "one")
        assert permit is not None
        board.report(60.0, {**permit, "verdict": "ok", "kind": "ok", "ms": 1.0})
        after = Registry(Policy())
        after.restore(1000.0, board.checkpoint(63.0), elapsed=4.0)
        health, same = after.health(1000.0)["aws/haiku"], board.health(67.0)["aws/haiku"]
        assert (health["share"], health["since_seconds"]) == (same["share"], same["since_seconds"])

    def test_the_longest_rest_of_a_wrong_key_is_kept(self, board: Registry) -> None:
        now = 0.0
        for _ in range(5):
            permit = board.ask(now, "aws/haiku", f"at {now}") or {"target": "aws/haiku", "epoch": 0}
            board.report(now, {**permit, "verdict": "misconfigured", "kind": "credential"})  # type: ignore[typeddict-item]
            now = board.breakers["aws/haiku"].open_until
        assert board.snapshot(now - 3600.0)["aws/haiku"]["retry_in"] == pytest.approx(3600.0)
        after = Registry(Policy())
        after.restore(0.0, board.checkpoint(now - 3600.0), elapsed=10.0)
        assert after.snapshot(0.0)["aws/haiku"]["retry_in"] == pytest.approx(3590.0)

    def test_every_restored_epoch_is_a_new_one(self, board: Registry) -> None:
        after = Registry(Policy())
        after.restore(0.0, board.checkpoint(0.0), elapsed=0.0)
        assert all(after.breakers[t].epoch > board.breakers[t].epoch for t in ROW)

    def test_one_that_cannot_be_read_changes_nothing(self, board: Registry) -> None:
        good = board.checkpoint(0.0)
        with pytest.raises((KeyError, ValueError, TypeError)):
            board.restore(0.0, {**good, "aws/haiku": {"state": "ajar"}}, elapsed=0.0)
        assert board.breakers["aws/haiku"].epoch == 0


def test_a_checkpoint_holds_what_its_type_says(board: Registry) -> None:
    assert board.checkpoint(0.0)["aws/haiku"].keys() == CircuitCheckpoint.__annotations__.keys()


def test_a_replica_that_goes_on_reporting_is_never_the_one_that_is_forgotten(
    board: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.breaker.registry.REPLICAS", 2)
    for replica, number in (("a", 1), ("b", 1), ("a", 2), ("c", 1)):
        board.batch(0.0, replica, number, [])
    assert dict(board.acked) == {"a": 2, "c": 1}


def test_an_answer_without_a_time_adds_none(board: Registry) -> None:
    item = {"target": "aws/haiku", "epoch": 0, "verdict": "ok", "kind": "ok", "count": 2}
    board.report(1.0, item)
    board.report(1.0, {**item, "ms": 30.0})
    assert board.health(1.0)["aws/haiku"]["ms"] == 30.0
    assert sum(board.histories(1.0)["aws/haiku"]["ms"]) == 30.0


def test_an_isolation_that_was_taken_back_has_no_time_left(board: Registry) -> None:
    board.command(0.0, "isolate", "aws", 100.0)
    assert board.snapshot(40.0)["aws/haiku"]["isolated_for"] == 60.0
    board.command(40.0, "restore", "aws")
    assert board.snapshot(41.0)["aws/haiku"]["isolated_for"] == 0.0


def test_a_share_is_told_in_thousandths(board: Registry) -> None:
    fail(board, "aws/haiku")
    permit = board.ask(60.0, "aws/haiku", "one")
    assert permit is not None
    board.report(60.0, {**permit, "verdict": "ok", "kind": "ok", "ms": 1.0})
    assert board.health(61.23)["aws/haiku"]["share"] == 0.155  # 0.1 + 0.9 * 1.23 / 20 = 0.15535


def test_a_rest_is_told_in_thousandths(board: Registry) -> None:
    fail(board, "aws/haiku")
    assert board.health(0.12345)["aws/haiku"]["retry_in_seconds"] == 59.877


def test_what_a_provider_said_is_known_of_a_circuit_that_is_open(board: Registry) -> None:
    assert board.cause("aws/haiku") == {}
    said = {"status": 403, "code": "AccessDeniedException", "message": "not authorized"}
    report = {"target": "aws/haiku", "epoch": 0, "verdict": "misconfigured", "kind": "credential", **said}
    board.report(0.0, {**report, "epoch": board.breakers["aws/haiku"].epoch})  # type: ignore[typeddict-item]
    assert board.cause("aws/haiku") == {"error": {"kind": "credential", **said}}
