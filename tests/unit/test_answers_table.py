"""Who answers for a key, and who reads along: the table of the answers actor, by hand and by chance."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.answers.messages import Item
from actors.answers.table import LEASE_SECONDS, READ_SECONDS, Answers

HEAD: Item = {"status": 200, "headers": []}


@dataclass
class Stage:
    now: float = 100.0
    answers: Answers = field(init=False)

    def __post_init__(self) -> None:
        self.answers = Answers(lambda: self.now, most_bytes=100)

    def claim(self, run: str, replica: str = "a", key: str = "k", body: str = "b", **more: bool) -> str:
        return self.answers.claim(key, body, run, replica, **more)["state"]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_first_leads_and_the_others_join(stage: Stage) -> None:
    assert stage.claim("r1") == "lead"
    assert stage.claim("r2", "b") == "join"
    assert stage.answers.claim("k", "b", "r3", "c")["run"] == "r1"
    assert stage.claim("r4", key="another") == "lead"


def test_another_request_under_a_key_is_told_so_whatever_the_first_does(stage: Stage) -> None:
    stage.claim("r1")
    assert stage.claim("r2", body="other") == "other"
    stage.answers.put("r1", 0, [HEAD, b"x"], ended=True, keep=60)
    assert stage.claim("r2", body="other") == "other"
    stage.now += 61
    assert stage.claim("r2", body="other") == "lead"


def test_who_only_looks_never_leads(stage: Stage) -> None:
    assert stage.claim("", begin=False) == "none"
    assert stage.claim("r1") == "lead"
    assert stage.claim("", begin=False) == "join"


def test_a_replica_that_is_silent_is_gone_and_the_next_one_leads(stage: Stage) -> None:
    stage.claim("r1", "a")
    stage.claim("r2", "b")
    stage.now += LEASE_SECONDS - 0.1
    assert not stage.answers.read("r1", 0)["gone"]
    stage.now += 0.1
    assert stage.answers.read("r1", 0)["gone"]
    claimed = stage.answers.claim("k", "b", "r2", "b")
    assert (claimed["state"], claimed["lost"]) == ("lead", True)
    assert stage.claim("r3", "c") == "join"


def test_a_replica_that_says_that_it_lives_keeps_its_runs(stage: Stage) -> None:
    stage.claim("r1", "a")
    for _ in range(10):
        stage.now += LEASE_SECONDS - 1
        stage.answers.renew("a", {"k": {"fingerprint": "b", "run": "r1"}})
    assert stage.claim("r2", "b") == "join"


def test_a_younger_table_learns_of_the_runs_but_not_over_another_claim(stage: Stage) -> None:
    told: Any = {"k": {"fingerprint": "b", "run": "r1"}}
    stage.answers.renew("a", told)
    assert stage.answers.claim("k", "b", "r2", "b")["run"] == "r1"
    stage.answers = Answers(lambda: stage.now)
    assert stage.claim("r2", "b") == "lead"
    stage.answers.renew("a", told)
    assert stage.answers.claim("k", "b", "r3", "c")["run"] == "r2"


def test_a_leader_hears_of_who_waits_and_hands_over_what_is_new(stage: Stage) -> None:
    stage.claim("r1", "a")
    assert stage.answers.renew("a", {}) == []
    stage.claim("r2", "b")
    assert stage.answers.renew("a", {}) == ["r1"]
    assert stage.answers.put("r1", 0, [HEAD], ended=False, keep=0)
    assert stage.answers.read("r1", 0) == {"items": [HEAD], "ended": False, "gone": False}
    assert stage.answers.put("r1", 1, [b"x"], ended=True, keep=0)
    assert stage.answers.read("r1", 1) == {"items": [b"x"], "ended": True, "gone": False}
    assert stage.answers.renew("a", {}) == []


def test_what_is_put_twice_is_there_once_and_what_has_a_gap_is_refused(stage: Stage) -> None:
    stage.claim("r1", "a")
    assert not stage.answers.put("r1", 1, [b"x"], ended=False, keep=0)
    assert stage.answers.put("r1", 0, [HEAD, b"x"], ended=False, keep=0)
    assert stage.answers.put("r1", 1, [b"x"], ended=False, keep=0)
    assert stage.answers.read("r1", 0)["items"] == [HEAD, b"x"]
    assert not stage.answers.put("nobody's", 0, [], ended=True, keep=0)


def test_an_answer_that_nobody_waits_for_is_forgotten_at_its_end(stage: Stage) -> None:
    stage.claim("r1", "a")
    assert not stage.answers.end("r1")
    assert stage.answers.read("r1", 0)["gone"]
    assert stage.claim("r2", "a") == "lead"


def test_an_answer_that_somebody_waits_for_is_not_over_until_it_was_handed_over(stage: Stage) -> None:
    stage.claim("r1", "a")
    stage.claim("r2", "b")
    assert stage.answers.end("r1")
    assert not stage.answers.read("r1", 0)["gone"]
    stage.answers.put("r1", 0, [HEAD, b"x"], ended=True, keep=0)
    assert stage.claim("r3", "c") == "lead", "it is not kept for new requests"
    assert stage.answers.read("r1", 0)["items"] == [HEAD, b"x"], "but those who have joined still read it"
    stage.now += READ_SECONDS + 1
    assert stage.answers.read("r1", 0)["gone"]


def test_what_is_kept_is_replayed_until_its_time_is_over(stage: Stage) -> None:
    stage.claim("r1", "a")
    stage.answers.put("r1", 0, [HEAD, b"x"], ended=True, keep=60)
    stage.now += 59
    claimed = stage.answers.claim("k", "b", "r2", "b")
    assert (claimed["state"], claimed["ended"], claimed["run"]) == ("join", True, "r1")
    assert stage.answers.read("r1", 0) == {"items": [HEAD, b"x"], "ended": True, "gone": False}
    stage.now += 2
    assert stage.claim("r3", "c") == "lead"


def test_of_too_much_the_one_goes_first_that_is_kept_for_the_shortest_time(stage: Stage) -> None:
    for name, keep in (("r1", 60), ("r2", 600), ("r3", 300)):
        stage.claim(name, key=name)
        stage.answers.put(name, 0, [b"x" * 40], ended=True, keep=keep)
    assert [stage.claim("new", key=name, begin=False) for name in ("r1", "r2", "r3")] == ["none", "join", "join"]


KEYS, REPLICAS = ("k1", "k2"), ("a", "b", "c")


class Machine(RuleBasedStateMachine):
    """Any claims, ends, absences and readings: of the live replicas at most one leads a key."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.number = 0
        self.leading: dict[str, tuple[str, str]] = {}  # run to its key and replica
        self.spoke: dict[str, float] = {}

    def alive(self, replica: str) -> bool:
        return self.spoke.get(replica, -1e9) + LEASE_SECONDS > self.stage.now

    @rule(key=st.sampled_from(KEYS), replica=st.sampled_from(REPLICAS), body=st.sampled_from("xy"))
    def claim(self, key: str, replica: str, body: str) -> None:
        self.number += 1
        before = [run for run, (k, r) in self.leading.items() if k == key and self.alive(r)]
        self.spoke[replica] = self.stage.now
        claimed = self.stage.answers.claim(key, body, f"r{self.number}", replica)
        if claimed["state"] == "lead":
            assert not before, "two live replicas lead one key"
            self.leading = {run: it for run, it in self.leading.items() if it[0] != key}
            self.leading[f"r{self.number}"] = (key, replica)
        else:
            assert claimed["run"]

    @rule(replica=st.sampled_from(REPLICAS))
    def renew(self, replica: str) -> None:
        self.spoke[replica] = self.stage.now
        told: Any = {k: {"fingerprint": "x", "run": run} for run, (k, r) in self.leading.items() if r == replica}
        self.stage.answers.renew(replica, told)

    @rule(data=st.data(), keep=st.sampled_from([0.0, 3.0]))
    def end(self, data: Any, keep: float) -> None:
        runs = sorted(run for run, (_, r) in self.leading.items() if self.alive(r))
        if runs:
            run = data.draw(st.sampled_from(runs))
            if keep or self.stage.answers.end(run):
                self.stage.answers.put(run, 0, [HEAD, run.encode()], ended=True, keep=keep)
            del self.leading[run]

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.stage.now += seconds  # a run whose replica was silent for too long may go on or not
        self.leading = {run: it for run, it in self.leading.items() if self.alive(it[1])}

    @rule(number=st.integers(1, 50))
    def read(self, number: int) -> None:
        heard = self.stage.answers.read(f"r{number}", 0)
        assert heard["items"] in ([], [HEAD, f"r{number}".encode()]), "an answer of another run"

    @invariant()
    def nothing_piles_up(self) -> None:
        assert len(self.stage.answers._runs) <= self.number


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
