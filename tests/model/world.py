"""A stateful test of the board against an oracle that knows the world.

The oracle does not ask the board what is going on: it remembers itself which calls are out, who holds
which permit, what each provider has said. The board is only asked what it would do next. The same
machine runs against mutants of the code (test_mutants.py): each must die, and for its own reason, so
every check has a name.
"""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

ROW = ("aws/a", "openai/b", "local/c")
THRESHOLD, RECOVERY, CAP, LEASE = 3, 60.0, 120.0, 35.0
VERDICTS = ("ok", "failed_start", "failed_stream", "throttled", "misconfigured", "neutral", "refused")
SAYS_NOTHING = ("neutral", "refused")
DELAYS = (None, 0.0, 1.0, 20.0, 120.0, 86_400.0, math.nan, -5.0)


class Wrong(AssertionError):
    """A check failed; its name is the first word."""


def check(name: str, truth: Any, detail: object = "") -> None:
    if not truth:
        raise Wrong(f"{name}: {detail}")


@dataclass
class Out:
    """A call that is out in the world, whoever still remembers it."""

    target: str
    epoch: int
    incarnation: int
    lease: str | None
    ends_at: float  # a probe is over by then, whatever became of its caller
    began: float = 0.0  # true time
    flows: bool = False  # it has said that it flows, and closed its circuit by that


def machine(actors: SimpleNamespace) -> type[RuleBasedStateMachine]:
    """The machine over the given `breaker` and `board` modules."""
    board_module, plan_module, breaker_module = actors.board, actors.plan, actors.breaker
    state, mode = breaker_module.State, breaker_module.Mode

    class World(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.wall = 1_000_000.0  # the world's true time; a process has an origin of its own
            self.origin = 0.0
            self.wall_step = 0.0  # how far the wall clock that a process reads is off
            self.calls: list[Out] = []
            self.zombies: list[Out] = []  # gave their permit back, and will report all the same
            self.names = iter(range(10**9))
            self.number = 0
            self.incarnation = 1
            self.not_before: dict[str, float] = {}  # true time before which nobody may be admitted
            self.isolated: dict[str, float] = {}  # true time when an isolation ends
            self.told_to_wait: dict[str, float] = {}  # until when a provider, or our own account there, said no
            self.woken: dict[str, float] = {}  # when a panic last had a permit
            self.well: dict[str, dict[bool, float]] = {}  # whole or not: when the newest call began that went well
            self.unclear = dict.fromkeys(ROW, 0)  # probes in a row that ended without a word of the target
            self.policy = breaker_module.Policy(THRESHOLD, RECOVERY, CAP, lease=LEASE)
            self.board = self.fresh()

        # -- the world

        @property
        def now(self) -> float:
            return self.wall - self.origin

        def fresh(self) -> Any:
            board = board_module.Registry(self.policy, incarnation=self.incarnation)
            board.expect(ROW, self.now)
            return board

        def breaker(self, target: str) -> Any:
            return self.board.breakers[target]

        def probes_out(self, target: str) -> int:
            return sum(1 for c in self.calls if c.target == target and self.is_probe(c))

        def is_probe(self, call: Out) -> bool:
            return bool(call.lease) and not call.flows and call.ends_at > self.wall

        def before(self) -> dict[str, Any]:
            """The circuits now, with all that time alone has ended."""
            self.let_time_end()
            return dict(self.board.breakers)

        def let_time_end(self) -> None:
            """What time alone ends: leases that nobody has reported, and isolations."""
            before = dict(self.board.breakers)
            self.board.tick(self.now)
            self.check_epochs(before)
            for target, was in before.items():
                now = self.breaker(target)
                lost = len(was.leases) - len(now.leases)
                self.unclear[target] += lost
                if lost:
                    few = self.unclear[target] < 5
                    check("a-lost-probe-is-no-failure", not few or now.state is state.HALF_OPEN, (was, now))
                if was.state is state.HALF_OPEN and now.state is state.OPEN:
                    check("lost-probe-keeps-level", now.level == was.level, (was, now))
                    self.not_before[target] = self.wall + now.open_until - self.now
                    self.unclear[target] = 0

        def planned(self, draw: float = 0.0) -> Any:
            seen = plan_module.received(self.board.snapshot(self.now), self.now)
            return plan_module.plan(ROW, seen, self.now, self.policy, draw)

        def begin(self, draw: float = 0.0, name: str | None = None) -> Out | None:
            """One request: plan, ask for a permit if that is needed, and be out."""
            plan = self.planned(draw)
            self.check_order(plan)
            turns = plan.candidates or plan.panics
            return self.take_turn(turns[0], name) if turns else None

        def check_order(self, plan: Any) -> None:
            """Whoever is closed and grown stands in the row's own order, and who is due at its place among them."""
            for candidate in plan.candidates:
                b = self.breaker(candidate.target)
                check("only-the-closed-need-no-permit", candidate.probe == (b.state is not state.CLOSED), candidate)
            steady = [c.target for c in plan.candidates if self.breaker(c.target).ramp_from is None]
            ramping = len(steady) < len(plan.candidates)
            check("in-the-rows-order", ramping or steady == sorted(steady, key=ROW.index), steady)

        def take_turn(self, candidate: Any, name: str | None = None) -> Out | None:
            """One candidate whose turn has come: called, if it may be."""
            target = candidate.target
            if candidate.probe:
                return self.ask(target, name or f"n{next(self.names)}", panic=candidate.panic)
            self.check_admitted(target)
            call = Out(target, candidate.epoch, self.incarnation, None, math.inf, self.wall)
            self.calls.append(call)
            return call

        def check_admitted(self, target: str) -> None:
            b = self.breaker(target)
            free = b.mode is mode.AUTO or b.isolated_until <= self.now + 1e-6
            check("closed-only", b.state is state.CLOSED and free, (target, b))
            check("isolation-holds", self.isolated.get(target, 0) <= self.wall + 1e-6, target)
            check("not-before", self.not_before.get(target, 0) <= self.wall + 1e-6, (target, "admitted"))

        def ask(self, target: str, name: str, panic: bool = False) -> Out | None:
            before = self.before()[target]
            permit = self.board.ask(self.now, target, name, panic=panic)
            self.check_epochs({target: before})
            mine = any(x.name == name for x in before.leases)
            check("retried-ask-gets-its-permit", permit is not None or not mine, name)
            if permit is None:
                return None
            woken = panic and before.state is state.OPEN and self.now < before.open_until
            if woken:  # by an ask of an old name too, whose call has long been no probe any more
                self.not_before.pop(target, None)
            known = [c for c in self.calls if c.lease == name]
            if known:
                check("one-ask-one-permit", permit["lease"] == name, permit)
                return known[0]
            check("isolation-holds", self.isolated.get(target, 0) <= self.wall + 1e-6, target)
            if woken:
                check("panic-wakes-failures-only", before.reason in ("failures", "lost", "inconclusive"), before)
                rested = self.wall - self.woken.get(target, -math.inf) >= 1.0 - 1e-6
                check("a-panic-a-second", rested, (target, self.wall - self.woken.get(target, -math.inf)))
                self.woken[target] = self.wall
            check("not-before", self.not_before.get(target, 0) <= self.wall + 1e-6, (target, "probe"))
            if before.state is state.OPEN:
                self.unclear[target] = 0
            call = Out(target, permit["epoch"], self.incarnation, permit["lease"], self.wall + LEASE, self.wall)
            self.calls.append(call)
            check("one-probe", self.probes_out(target) <= 1, (target, self.probes_out(target)))
            return call

        def end(
            self,
            call: Out,
            verdict: str,
            delay: float | None = None,
            whole: bool = True,
            twice: bool = False,
        ) -> None:
            if call in self.calls:
                self.calls.remove(call)
            before = self.before()
            item = {
                "target": call.target,
                "incarnation": call.incarnation,
                "epoch": call.epoch,
                "verdict": verdict,
                "kind": verdict,
                "ms": 1.0,
                "whole": whole,
                "retry_after": delay,
                "age": self.wall - call.began,
            }
            if call.lease:
                item["lease"] = call.lease
            self.number += 1
            self.board.batch(self.now, "replica", self.number, [item])
            self.check_end(call, verdict, delay, whole, before)
            if twice:
                once = dict(self.board.breakers)
                self.board.batch(self.now, "replica", self.number, [item])
                check("replay-is-nothing", once == self.board.breakers, item)

        # -- what must be true of one report

        def check_end(self, call: Out, verdict: str, delay: float | None, whole: bool, before: dict[str, Any]) -> None:
            self.check_epochs(before)
            was, now = before[call.target], self.breaker(call.target)
            for target, b in before.items():
                check("others-are-untouched", target == call.target or self.same(b, self.breaker(target)), target)
            current = call.epoch == was.epoch and call.incarnation == self.incarnation
            held = call.lease is not None and any(x.name == call.lease for x in was.leases)
            if call.flows and was.trial == call.lease:
                self.check_trial(call, verdict, delay, was, now)
                return
            if was.mode is not mode.AUTO or not current or (was.state is state.HALF_OPEN and not held):
                self.check_late(call, verdict, delay, was, now)
                return
            if was.state is state.CLOSED:
                self.check_counted(call, verdict, whole, was, now)
            elif was.state is state.HALF_OPEN:
                self.check_probed(call, verdict, was, now)
            if now.state is state.OPEN and was.state is not state.OPEN:
                self.note_open(call.target, verdict, delay, was, now)

        def check_late(self, call: Out, verdict: str, delay: float | None, was: Any, now: Any) -> None:
            joins = was.state is state.OPEN and verdict == "throttled"
            if joins:
                check("late-throttle-only-lengthens", now.open_until >= was.open_until, (was, now))
                if delay is not None and delay >= 0:
                    held = self.now + min(max(delay, 1.0), 300.0)
                    check("longest-delay-holds", now.open_until >= held - 1e-6, (delay, now.open_until))
                    until = self.wall + held - self.now
                    self.not_before[call.target] = max(self.not_before.get(call.target, 0), until)
                    self.told_to_wait[call.target] = max(self.told_to_wait.get(call.target, 0), until)
                now = replace(now, open_until=was.open_until, reason=was.reason)
            if was.state is state.OPEN and verdict in ("failed_start", "failed_stream"):
                check("late-failure-does-not-rearm", now.open_until == was.open_until, (was, now))
            check("late-decides-nothing", self.same(was, now, leases=False), (verdict, was, now))

        def check_trial(self, call: Out, verdict: str, delay: float | None, was: Any, now: Any) -> None:
            """The stream that closed the circuit by flowing has ended: badly, and it opens at once."""
            if verdict.startswith("failed"):
                # A stream may flow for so long that the level is forgotten by healthy time.
                level = 1 if self.now - was.since >= self.policy.level_decay else was.level + 1
                check("a-broken-trial-opens", now.state is state.OPEN and now.level == level, (was, now))
                self.note_open(call.target, verdict, delay, was, now)
            elif verdict in ("ok", *SAYS_NOTHING):
                check("a-good-trial-stays-closed", now.state is state.CLOSED, (was, now))
                if verdict == "ok":
                    self.note_well(call, was, whole=True)
                    self.note_well(call, was, whole=False)
            else:
                check("a-broken-trial-opens", now.state is state.OPEN, (was, now))
                self.note_open(call.target, verdict, delay, was, now)

        def note_well(self, call: Out, was: Any, *, whole: bool) -> None:
            known = self.well.setdefault(f"{call.target}@{self.incarnation}.{was.epoch}", {})
            known[whole] = max(call.began, known.get(whole, -math.inf))

        def overtaken(self, call: Out, was: Any, *, whole: bool) -> bool:
            """Has a call that began later gone well, under this epoch?"""
            known = self.well.get(f"{call.target}@{self.incarnation}.{was.epoch}", {})
            return known.get(whole, -math.inf) > call.began + 1e-6

        def check_counted(self, call: Out, verdict: str, whole: bool, was: Any, now: Any) -> None:
            failed = {"failed_start": ("start_run", True), "failed_stream": ("stream_run", False)}
            if verdict in SAYS_NOTHING:
                check("neutral-is-neutral", self.same(was, now), (was, now))
            elif verdict == "ok":
                check("success-keeps-closed", now.state is state.CLOSED, now)
                check("stream-end-keeps-start-run", whole or now.start_run == was.start_run, (was, now))
                check("success-clears", now.stream_run == 0 and (not whole or now.start_run == 0), now)
                self.note_well(call, was, whole=whole)
            elif verdict in failed:
                run, way_in = failed[verdict]
                overtaken = self.overtaken(call, was, whole=way_in)
                count = getattr(was, run) + (not overtaken)
                check("third-failure-trips", count < THRESHOLD or now.state is state.OPEN, (was, now))
                check(
                    "overtaken-is-not-in-a-row",
                    not overtaken or self.ring_full(was) or now.state is state.CLOSED or getattr(was, run) >= THRESHOLD,
                    (was, now),
                )
                check(
                    "phases-are-apart",
                    self.ring_full(was) or count >= THRESHOLD or now.state is state.CLOSED,
                    (was, now),
                )
            elif verdict == "throttled":
                check("throttle-cools", now.state is state.OPEN and now.reason == "throttled", now)
                runs = (was.start_run, was.stream_run, was.level)
                check("throttle-counts-nothing", (now.start_run, now.stream_run, now.level) == runs, (was, now))
            elif verdict == "misconfigured":
                check("own-fault-trips-at-once", now.state is state.OPEN and now.reason == "misconfigured", now)

        def ring_full(self, b: Any) -> bool:
            begun = sum(slot.began + slot.failed for slot in b.ring)
            return max(begun, sum(slot.ended + slot.broke + slot.flowed for slot in b.ring)) + 1 >= 10

        def check_probed(self, call: Out, verdict: str, was: Any, now: Any) -> None:
            check("permit-comes-back", all(x.name != call.lease for x in now.leases), now)
            if verdict == "ok":
                check("good-probe-closes", now.state is state.CLOSED, now)
                self.not_before.pop(call.target, None)
                self.woken.pop(call.target, None)
                self.unclear[call.target] = 0
            elif verdict == "refused":
                check("an-answer-leaves-it-half-open", now.state is state.HALF_OPEN, now)
                check("an-answer-is-no-riddle", now.inconclusive == was.inconclusive, (was, now))
            elif verdict == "neutral":
                self.unclear[call.target] += 1
                check("neutral-probe-never-closes", now.state is not state.CLOSED, now)
                check("four-say-nothing", self.unclear[call.target] >= 5 or now.state is state.HALF_OPEN, (was, now))
                check("neutral-probe-never-closes", now.state is not state.CLOSED, now)
                check("neutral-probe-keeps-level", now.level == was.level, (was, now))
            else:
                check("bad-probe-opens", now.state is state.OPEN, now)
                expected = was.level + (1 if verdict.startswith("failed") else 0)
                check("level-counts-failures-only", now.level == expected, (was, now))

        def note_open(self, target: str, verdict: str, delay: float | None, was: Any, now: Any) -> None:
            hold = now.open_until - self.now
            if verdict == "throttled" and delay is not None and delay >= 0:
                check("delay-is-kept-and-capped", abs(hold - min(max(delay, 1.0), 300.0)) < 1e-6, (delay, hold))
            elif verdict == "throttled":
                check("malformed-delay-is-absent", 5.0 - 1e-6 <= hold <= 60.0 * 1.2 + 1e-6, (delay, hold))
            elif verdict == "misconfigured":
                check("config-hold", 300 - 1e-6 <= hold <= 3600 * 1.2, hold)
            else:
                check("open-time-within-bounds", RECOVERY - 1e-6 <= hold <= CAP * 1.2 + 1e-6, hold)
                if verdict.startswith("failed"):
                    check(
                        "open-time-doubles", hold >= min(RECOVERY * 2 ** (now.level - 1), CAP) - 1e-6, (now.level, hold)
                    )
            self.not_before[target] = self.wall + hold
            if now.reason in ("throttled", "misconfigured"):
                self.told_to_wait[target] = self.wall + hold

        def check_epochs(self, before: dict[str, Any]) -> None:
            for target, was in before.items():
                now = self.breaker(target)
                moved = (was.state, was.mode) != (now.state, now.mode)
                check("epoch-moves-with-state", not moved or now.epoch > was.epoch, (was, now))
                check("epoch-moves-with-nothing-else", moved or now.epoch == was.epoch, (was, now))

        @staticmethod
        def same(a: Any, b: Any, *, leases: bool = True) -> bool:
            """Alike, but for permits that time or a report has ended."""
            if not leases:
                a, b = replace(a, leases=(), ghosts=()), replace(b, leases=(), ghosts=())
            return bool(a == b)

        # -- rules

        @initialize()
        def start(self) -> None:
            self.board = self.fresh()

        @rule(
            seconds=st.sampled_from(
                [0.0, 0.01, 0.9, 1.0, 3.0, 10.0, 34.9, 35.0, 60.0, 61.0, 120.0, 144.0, 700.0, 2000.0]
            )
        )
        def time_passes(self, seconds: float) -> None:
            self.wall += seconds
            self.let_time_end()
            self.calls = [c for c in self.calls if c.ends_at > self.wall]

        @rule(hours=st.sampled_from([-2.0, 2.0]))
        def wall_clock_steps(self, hours: float) -> None:
            """One process never reads the wall clock: nothing may change."""
            before = self.planned()
            self.wall_step += hours * 3600
            check("wall-clock-decides-nothing", before == self.planned())

        @rule(draw=st.sampled_from([0.0, 0.5, 0.99]))
        def request(self, draw: float) -> None:
            self.begin(draw)

        @rule(which=st.sampled_from(ROW), name=st.integers(0, 3), panic=st.booleans())
        def stray_ask(self, which: str, name: int, panic: bool) -> None:
            """An ask by somebody whose sight is old, maybe sent twice."""
            target = which
            b = self.before()[target]
            due = b.state is state.HALF_OPEN or (b.state is state.OPEN and self.now >= b.open_until)
            may = due or (panic and b.reason in ("failures", "lost", "inconclusive"))
            got = self.ask(target, f"stray-{target}-{name}", panic=panic)
            check(
                "no-early-permit",
                got is None or may or (got.lease is not None and any(x.name == got.lease for x in b.leases)),
                b,
            )

        @precondition(lambda self: self.calls)
        @rule(
            data=st.data(),
            verdict=st.sampled_from(VERDICTS),
            delay=st.sampled_from(DELAYS),
            whole=st.booleans(),
            twice=st.booleans(),
        )
        def call_ends(self, data: Any, verdict: str, delay: float | None, whole: bool, twice: bool) -> None:
            call = data.draw(st.sampled_from(self.calls))
            self.end(call, verdict, delay, whole, twice)

        @precondition(lambda self: any(c.ends_at > self.wall for c in self.calls))
        @rule(data=st.data())
        def first_content_comes(self, data: Any) -> None:
            call = data.draw(st.sampled_from([c for c in self.calls if c.ends_at > self.wall]))
            was = self.before()[call.target]
            item = {"target": call.target, "incarnation": call.incarnation, "epoch": call.epoch}
            item |= {"verdict": "started", "kind": "started", **({"lease": call.lease} if call.lease else {})}
            self.number += 1
            self.board.batch(self.now, "replica", self.number, [item])
            now = self.breaker(call.target)
            if self.decides(call, was) and was.reason in ("throttled", "misconfigured"):
                self.check_flows(call, was, now)
                return
            check("first-token-decides-nothing", now.state is was.state and now.epoch == was.epoch, (was, now))
            check("first-token-keeps-stream-run", now.stream_run == was.stream_run, (was, now))
            if call.lease and any(x.name == call.lease for x in (*now.leases, *now.ghosts)):
                call.ends_at = self.wall + LEASE

        @precondition(lambda self: any(self.is_probe(c) for c in self.calls))
        @rule(data=st.data())
        def a_probe_flows(self, data: Any) -> None:
            """It has flowed for a while: the others may come, and it is on trial."""
            call = data.draw(st.sampled_from([c for c in self.calls if self.is_probe(c)]))
            self.flow(call)

        def decides(self, call: Out, was: Any) -> bool:
            """Is it the probe on whose word its circuit waits?"""
            mine = any(x.name == call.lease for x in was.leases)
            current = call.epoch == was.epoch and call.incarnation == self.incarnation
            return mine and current and was.mode is mode.AUTO

        def check_flows(self, call: Out, was: Any, now: Any) -> None:
            check("a-probe-that-flows-lets-others-in", now.state is state.CLOSED, (was, now))
            out = any(x.name == call.lease for x in (*now.leases, *now.ghosts))  # that of another may still be out
            check("a-probe-that-flows-is-none-any-more", not out, now)
            check("recovery-keeps-level", now.level == was.level, (was, now))
            call.flows = True
            self.not_before.pop(call.target, None)
            self.woken.pop(call.target, None)
            self.unclear[call.target] = 0

        def flow(self, call: Out) -> None:
            was = self.before()[call.target]
            item = {"target": call.target, "incarnation": call.incarnation, "epoch": call.epoch, "lease": call.lease}
            item |= {"verdict": "flowing", "kind": "flowing", "age": self.wall - call.began, "seconds": 5.0}
            self.number += 1
            self.board.batch(self.now, "replica", self.number, [item])
            now = self.breaker(call.target)
            if self.decides(call, was):
                self.check_flows(call, was, now)
                return
            check("late-decides-nothing", self.same(was, now, leases=False), (was, now))
            if any(x.name == call.lease for x in now.ghosts):
                call.ends_at = self.wall + LEASE

        @precondition(lambda self: any(self.is_probe(c) for c in self.calls))
        @rule(data=st.data(), forgetful=st.booleans())
        def permit_is_released(self, data: Any, forgetful: bool) -> None:
            call = data.draw(st.sampled_from([c for c in self.calls if self.is_probe(c)]))
            self.calls.remove(call)
            before = self.before()
            self.board.release(self.now, call.target, call.lease)
            self.check_epochs(before)
            was, now = before[call.target], self.breaker(call.target)
            check("unused-says-nothing", (now.state, now.inconclusive) == (was.state, was.inconclusive), (was, now))
            if forgetful:
                self.zombies.append(call)

        @precondition(lambda self: self.zombies)
        @rule(verdict=st.sampled_from(VERDICTS))
        def one_who_gave_its_permit_back_reports(self, verdict: str) -> None:
            self.end(self.zombies.pop(), verdict)

        @rule(which=st.sampled_from(ROW))
        def unknown_permit_is_released(self, which: str) -> None:
            target = which
            before = self.before()
            self.board.release(self.now, target, "nobody-holds-this")
            check("unknown-lease-changes-nothing", before == self.board.breakers, target)

        @rule(which=st.sampled_from(ROW), verb=st.sampled_from(["isolate", "restore", "recover", "reset"]))
        def operator(self, which: str, verb: str) -> None:
            target = which
            was = self.before()[target]
            self.board.command(self.now, verb, target.partition("/")[0], 600.0 if verb == "isolate" else None)
            now = self.breaker(target)
            moved = (was.state, was.mode) != (now.state, now.mode)
            check("epoch-moves-with-state", not moved or now.epoch > was.epoch, (was, now))
            if verb == "isolate":
                self.isolated[target] = self.wall + 600
                check("isolated", now.mode is mode.ISOLATED, now)
                return
            self.isolated.pop(target, None)
            if verb in ("recover", "reset"):
                self.unclear[target] = 0
                self.not_before.pop(target, None)
                self.told_to_wait.pop(target, None)
                self.woken.pop(target, None)
            expected = {"restore": was.state, "recover": state.HALF_OPEN, "reset": state.CLOSED}[verb]
            check("command-is-obeyed", now.mode is mode.AUTO and now.state is expected, (verb, now))

        @rule(
            down=st.sampled_from([0.0, 0.9, 15.0, 64.0]),
            same_origin=st.booleans(),
            step=st.sampled_from([0.0, -7200.0]),
        )
        def actor_restarts(self, down: float, same_origin: bool, step: float) -> None:
            before = self.before()
            saved, at, was_now = self.board.checkpoint(self.now), self.wall + self.wall_step, self.now
            self.wall += down
            self.wall_step += step
            if not same_origin:
                self.origin = self.wall - 7.0
            self.incarnation += 1
            self.woken.clear()
            self.board = board_module.Registry(self.policy, incarnation=self.incarnation)
            self.board.expect(ROW, self.now)
            self.board.restore(self.now, saved, self.wall + self.wall_step - at)
            for target, was in before.items():
                now = self.breaker(target)
                check(
                    "state-survives", (now.state, now.mode, now.level) == (was.state, was.mode, was.level), (was, now)
                )
                if now.mode is mode.ISOLATED:  # for longer where the wall clock stepped back, as below
                    left = self.isolated.get(target, 0) - self.wall
                    check("isolation-survives", now.isolated_until - self.now >= left - 1e-6, (target, left))
                    self.isolated[target] = self.wall + now.isolated_until - self.now
                if now.state is state.OPEN:
                    left = self.not_before.get(target, 0) - self.wall
                    check("open-time-survives", now.open_until - self.now >= left - 1e-6, (target, left))
                    had = was.open_until - was_now
                    check("restart-does-not-lengthen", now.open_until - self.now <= max(0.0, had) + 1e-6, (had, now))
                    if now.reason in ("throttled", "misconfigured"):
                        # A wall clock that stepped back tells less time than has passed: never too early, maybe late.
                        self.told_to_wait[target] = self.wall + now.open_until - self.now

        # -- composites: what single steps reach too rarely

        @rule(
            times=st.integers(1, 12),
            pattern=st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=4),
            whole=st.booleans(),
        )
        def traffic(self, times: int, pattern: list[str], whole: bool) -> None:
            for i in range(times):
                call = self.begin()
                if call is None:
                    return
                self.end(call, pattern[i % len(pattern)], None, whole)

        @rule(verdict=st.sampled_from(VERDICTS), rounds=st.integers(1, 6))
        def probe_rounds(self, verdict: str, rounds: int) -> None:
            target = ROW[0]
            for _ in range(rounds):
                b = self.before()[target]
                if b.mode is not mode.AUTO or b.state is state.CLOSED:
                    return
                self.wall += max(0.0, b.open_until - self.now) if b.state is state.OPEN else 0.0
                call = self.ask(target, f"n{next(self.names)}")
                if call is None:
                    return
                self.end(call, verdict)

        @rule(
            late=st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=3), seconds=st.sampled_from([1.0, 30.0, 90.0])
        )
        def calls_that_began_before_a_trip_end_after_it(self, late: list[str], seconds: float) -> None:
            calls = [call for call in (self.begin() for _ in range(THRESHOLD + len(late))) if call and not call.lease]
            for call in calls[:THRESHOLD]:
                self.end(call, "failed_start")
            self.wall += seconds
            for call, verdict in zip(calls[THRESHOLD:], late, strict=False):
                self.end(call, verdict)

        @rule(late=st.sampled_from(VERDICTS))
        def a_call_that_began_before_an_isolation_ends_after_it(self, late: str) -> None:
            if (call := self.begin()) is not None:
                self.operator(call.target, "isolate")
                self.end(call, late)

        @rule(verdict=st.sampled_from(VERDICTS), seconds=st.sampled_from([0.0, 30.0]))
        def a_probe_flows_and_ends(self, verdict: str, seconds: float) -> None:
            target = ROW[0]
            b = self.before()[target]
            if b.mode is not mode.AUTO or b.state is state.CLOSED:
                return
            self.wall += max(0.0, b.open_until - self.now) if b.state is state.OPEN else 0.0
            call = self.ask(target, f"n{next(self.names)}")
            if call is not None:
                self.flow(call)
                self.wall += seconds
                self.end(call, verdict)

        @rule(first=st.sampled_from(DELAYS), second=st.sampled_from(DELAYS))
        def two_calls_are_throttled(self, first: float | None, second: float | None) -> None:
            calls = [call for call in (self.begin(), self.begin()) if call and not call.lease]
            for call, delay in zip(calls, (first, second), strict=False):
                self.end(call, "throttled", delay)

        @rule(slow=st.integers(3, 5), others=st.integers(1, 4))
        def slow_prompts_among_others(self, slow: int, others: int) -> None:
            """They fail at one instant; others began after them and have gone well by then."""
            calls = [call for call in (self.begin() for _ in range(slow)) if call and not call.lease]
            alone = {call.target for call in calls}
            for _ in range(others):
                self.wall += 0.5
                if (other := self.begin()) is not None:
                    self.end(other, "ok")
            self.wall += 8.0
            before = dict(self.board.breakers)
            for call in calls:
                self.end(call, "failed_start")
            for target in alone:
                was, now = before[target], self.breaker(target)
                spared = was.state is state.CLOSED and not self.ring_full(now)
                well = self.well.get(f"{target}@{self.incarnation}.{was.epoch}", {}).get(True, -math.inf)
                if spared and all(c.epoch == was.epoch and well > c.began + 1e-6 for c in calls if c.target == target):
                    check("slow-prompts-open-nothing", now.state is state.CLOSED or was.start_run >= 3, (was, now))

        @rule(bad=st.integers(1, 9), of=st.just(10), rounds=st.integers(1, 12))
        def a_part_of_long_streams_is_refused(self, bad: int, of: int, rounds: int) -> None:
            """What has begun and flows is evidence: a part below half opens nothing, though none has ended."""
            target = ROW[0]
            if self.before()[target].state is not state.CLOSED or self.before()[target].ring:
                return
            failed = begun = 0
            for number in range(rounds * of):
                self.wall += 0.05
                b = self.before()[target]
                if b.state is not state.CLOSED or b.mode is not mode.AUTO:
                    return
                call = Out(target, b.epoch, self.incarnation, None, math.inf, self.wall)
                verdict = "failed_start" if number % of < bad and number % 2 else "started"
                failed, begun = failed + (verdict == "failed_start"), begun + 1
                item = {"target": target, "incarnation": self.incarnation, "epoch": b.epoch, "age": 0.0}
                self.number += 1
                self.board.batch(self.now, "replica", self.number, [{**item, "verdict": verdict, "kind": verdict}])
                now = self.breaker(target)
                self.check_epochs({target: b})
                if verdict == "started":
                    self.note_well(call, b, whole=True)
                mostly = begun >= 10 and 2 * failed >= begun
                check("a-part-is-not-the-half", mostly or now.start_run >= 3 or now.state is state.CLOSED, (b, now))
                if now.state is state.OPEN:
                    self.note_open(target, verdict, None, b, now)

        @rule(broken=st.integers(3, 6), older=st.booleans())
        def streams_break_while_older_ones_flow(self, broken: int, older: bool) -> None:
            """`older`: a stream that is older than those that break goes on between them."""
            target, b = ROW[1], self.before()[ROW[1]]
            if b.state is not state.CLOSED or b.mode is not mode.AUTO or b.ring or b.stream_run:
                return
            old = self.wall
            self.wall += 60.0
            for _ in range(broken):
                b = self.before()[target]
                if b.state is not state.CLOSED:
                    break
                self.wall += 1.0
                call = Out(target, b.epoch, self.incarnation, None, math.inf, self.wall - 0.5)
                self.end(call, "failed_stream", whole=False)
                self.begins_well(target)
                age = self.wall - old if older else 0.1
                item = {"target": target, "incarnation": self.incarnation, "epoch": b.epoch, "age": age}
                item |= {"verdict": "flowing", "kind": "flowing", "seconds": 300.0}
                self.number += 1
                self.board.batch(self.now, "replica", self.number, [item])
                self.check_epochs({target: b} if self.breaker(target).state is b.state else {})
            now = self.breaker(target)
            if now.state is state.CLOSED:
                check("what-flows-is-evidence", older, now)
            else:
                check("older-streams-that-flow-end-the-run", not older, now)

        def begins_well(self, target: str) -> None:
            """Another stream begins: that says nothing of those that broke."""
            was = self.before()[target]
            item = {"target": target, "incarnation": self.incarnation, "epoch": was.epoch, "age": 0.0}
            self.number += 1
            self.board.batch(self.now, "replica", self.number, [{**item, "verdict": "started", "kind": "started"}])
            now = self.breaker(target)
            check("epoch-moves-with-nothing-else", now.epoch == was.epoch, (was, now))
            check("first-token-keeps-stream-run", now.stream_run == was.stream_run, (was, now))
            if was.state is state.CLOSED:
                self.note_well(Out(target, was.epoch, self.incarnation, None, math.inf, self.wall), was, whole=True)

        @rule(well=st.sets(st.sampled_from(ROW)), seconds=st.sampled_from([0.0, 1.5, 61.0, 125.0]))
        def a_request_walks_its_row(self, well: set[str], seconds: float) -> None:
            """The question of the product: does it fail though one of its row would have answered?"""
            self.wall += seconds
            self.let_time_end()
            self.calls = [c for c in self.calls if c.ends_at > self.wall]
            excused = {t for t in well if self.excused(t)}
            asked: set[str] = set()
            while True:
                plan = self.planned()
                turn = next((c for c in (*plan.candidates, *plan.panics) if c.target not in asked), None)
                if turn is None:
                    break
                asked.add(turn.target)
                call = self.take_turn(turn)
                if call is None:
                    continue
                self.end(call, "ok" if turn.target in well else "failed_start")
                if turn.target in well:
                    return
            check("no-avoidable-failure", well <= excused, (well - excused, asked))

        def excused(self, target: str) -> bool:
            """May nobody call it now, by its own word, by an operator's, or because somebody probes it?"""
            waits = max(self.told_to_wait.get(target, 0), self.isolated.get(target, 0)) > self.wall - 1e-6
            ghost = self.breaker(target).probing(self.now)
            just = self.wall - self.woken.get(target, -math.inf) < 1.0 + 1e-6
            return waits or ghost or just or self.probes_out(target) > 0

        @rule(which=st.sampled_from(ROW))
        def an_ask_is_sent_twice(self, which: str) -> None:
            b = self.before()[which]
            if b.state is state.OPEN:
                self.wall += max(0.0, b.open_until - self.now)
            name = f"n{next(self.names)}"
            for _ in range(2):
                self.ask(which, name)

        @rule(which=st.sampled_from(ROW))
        def a_healthy_target_comes_back(self, which: str) -> None:
            """Liveness: one request a second to a healthy target closes it within the longest hold."""
            target = which
            if self.before()[target].mode is not mode.AUTO:
                return
            deadline = self.wall + 3600 * 1.2 + 2 * LEASE + 10
            while self.wall < deadline:
                b = self.before()[target]
                if b.state is state.CLOSED:
                    return
                wait = max(1.0, b.open_until - self.now) if b.state is state.OPEN else 1.0
                self.wall += wait
                self.let_time_end()
                self.calls = [c for c in self.calls if c.ends_at > self.wall]
                call = self.ask(target, f"n{next(self.names)}")
                if call is not None:
                    self.end(call, "ok")
            check("comes-back", self.breaker(target).state is state.CLOSED, self.breaker(target))

        # -- always

        @invariant()
        def at_most_one_probe(self) -> None:
            for target in ROW:
                check("one-probe", self.probes_out(target) <= 1, target)

        @invariant()
        def the_isolated_stay_isolated(self) -> None:
            for target, until in self.isolated.items():
                if until > self.wall + 1e-6:
                    check("isolation-holds", self.breaker(target).mode is mode.ISOLATED, target)

        @invariant()
        def nobody_is_admitted_early(self) -> None:
            for candidate in self.planned().candidates:
                if not candidate.probe:
                    self.check_admitted(candidate.target)
                else:
                    due = self.not_before.get(candidate.target, 0)
                    check("not-before", due <= self.wall + 1e-6, (candidate.target, due - self.wall))

    return World
