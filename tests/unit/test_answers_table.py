"""Who answers for a key, and who reads along: the table of the answers actor, by hand and by chance."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.answers.messages import Item
from actors.answers.table import LEASE_SECONDS, LOOK_SECONDS, READ_SECONDS, Answers

HEAD: Item = {"status": 200, "headers": []}


@dataclass
class Stage:
    now: float = 100.0
    answers: Answers = field(init=False)

    def __post_init__(self) -> None:
        self.answers = Answers(lambda: self.now, most_bytes=100)

    def claim(self, run: str, key: str = "k", body: str = "b", **more: bool) -> str:
        return self.answers.claim(key, body, run, **more)["state"]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_first_leads_and_the_others_join(stage: Stage) -> None:
    assert stage.claim("r1") == "lead"
    assert stage.claim("r2") == "join"
    assert stage.answers.claim("k", "b", "r3")["run"] == "r1"
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


def test_a_standstill_of_the_table_loses_no_run_and_brings_none_back(stage: Stage) -> None:
    stage.claim("dead", key="one")
    stage.now += 2 * LEASE_SECONDS
    stage.claim("alive", key="another")
    stage.now += 1.0
    began = stage.now
    stage.now += 2 * LEASE_SECONDS
    stage.answers.spare(began)
    assert stage.claim("r2", key="another") == "join"
    assert stage.claim("r3", key="one") == "lead"


def test_a_run_of_which_nothing_is_heard_is_lost_and_the_next_one_leads(stage: Stage) -> None:
    stage.claim("r1")
    stage.claim("r2")
    stage.now += LEASE_SECONDS - 0.1
    assert not stage.answers.read("r1", 0)["gone"]
    stage.now += 0.1
    assert stage.answers.read("r1", 0)["gone"]
    claimed = stage.answers.claim("k", "b", "r2")
    assert (claimed["state"], claimed["lost"]) == ("lead", True)
    assert stage.claim("r3") == "join"


TOLD: Any = {"k": {"fingerprint": "b", "run": "r1"}}


def test_a_replica_that_speaks_of_its_runs_keeps_them_and_no_others(stage: Stage) -> None:
    stage.claim("r1")
    stage.claim("r2", key="forgotten")
    for _ in range(3):
        stage.now += LEASE_SECONDS - 1
        stage.answers.renew(TOLD)
    assert stage.claim("r3") == "join"
    assert stage.claim("r3", key="forgotten") == "lead"


def test_who_claims_twice_by_one_name_leads_and_does_not_wait_for_itself(stage: Stage) -> None:
    assert (stage.claim("r1"), stage.claim("r1")) == ("lead", "lead")
    assert stage.answers.wanted(["r1"]) == []


def test_a_younger_table_learns_of_the_runs_but_not_over_another_claim(stage: Stage) -> None:
    stage.answers.renew(TOLD)
    assert stage.answers.claim("k", "b", "r2")["run"] == "r1"
    stage.answers = Answers(lambda: stage.now)
    assert stage.claim("r2") == "lead"
    stage.answers.renew(TOLD)
    assert stage.answers.claim("k", "b", "r3")["run"] == "r2"


@pytest.mark.parametrize("how", ["end", "drop", "put"])
def test_a_late_word_of_a_run_that_is_over_is_no_news(stage: Stage, how: str) -> None:
    stage.claim("r1")
    if how == "put":
        stage.answers.put("r1", 0, [HEAD], ended=True, keep=0)
    else:
        getattr(stage.answers, how)("r1")
    stage.answers.renew(TOLD)
    assert stage.claim("r2") == "lead"


def test_a_run_that_is_lost_hinders_no_other_request_with_its_key(stage: Stage) -> None:
    stage.claim("r1")
    stage.now += LEASE_SECONDS
    assert stage.claim("r2", body="other") == "lead"


def test_a_run_that_was_dropped_is_gone_for_its_readers(stage: Stage) -> None:
    stage.claim("r1")
    stage.claim("r2")
    stage.answers.drop("r1")
    assert stage.answers.read("r1", 0)["gone"]


def test_a_leader_hears_of_who_waits_and_hands_over_what_is_new(stage: Stage) -> None:
    stage.claim("r1")
    assert stage.answers.wanted(["r1"]) == []
    stage.claim("r2")
    assert stage.answers.wanted(["r1", "nobody's"]) == ["r1"]
    assert stage.answers.put("r1", 0, [HEAD], ended=False, keep=0)
    assert stage.answers.read("r1", 0) == {"items": [HEAD], "ended": False, "gone": False}
    assert stage.answers.put("r1", 1, [b"x"], ended=True, keep=0)
    assert stage.answers.read("r1", 1) == {"items": [b"x"], "ended": True, "gone": False}
    assert stage.answers.wanted(["r1"]) == []


def test_who_looks_no_more_is_not_waited_for(stage: Stage) -> None:
    stage.claim("r1")
    stage.claim("r2")
    stage.now += LOOK_SECONDS + 0.1
    assert stage.answers.wanted(["r1"]) == []
    stage.answers.renew(TOLD)
    stage.answers.read("r1", 0)
    assert stage.answers.wanted(["r1"]) == ["r1"]


def test_an_answer_without_a_key_is_there_for_one_retry(stage: Stage) -> None:
    stage.claim("r1")
    stage.answers.put("r1", 0, [HEAD, b"x"], ended=True, keep=30)
    assert stage.claim("", begin=False) == "join"
    assert stage.claim("", begin=False) == "none"
    assert stage.answers.read("r1", 0)["items"] == [HEAD, b"x"]


def test_of_too_much_those_stay_that_are_read_now(stage: Stage) -> None:
    for name in ("r1", "r2", "r3"):
        stage.claim(name, key=name)
    stage.claim("x", key="r1")
    stage.answers.put("r1", 0, [b"x" * 40], ended=True, keep=0)
    stage.answers.put("r2", 0, [b"x" * 40], ended=True, keep=1)
    stage.answers.put("r3", 0, [b"x" * 40], ended=True, keep=600)
    assert [stage.answers.read(name, 0)["gone"] for name in ("r1", "r2", "r3")] == [False, True, False]


def test_what_is_put_twice_is_there_once_and_what_has_a_gap_is_refused(stage: Stage) -> None:
    stage.claim("r1")
    assert not stage.answers.put("r1", 1, [b"x"], ended=False, keep=0)
    assert stage.answers.put("r1", 0, [HEAD, b"x"], ended=False, keep=0)
    assert stage.answers.put("r1", 1, [b"x"], ended=False, keep=0)
    assert stage.answers.read("r1", 0)["items"] == [HEAD, b"x"]
    assert not stage.answers.put("nobody's", 0, [], ended=True, keep=0)


def test_an_answer_that_nobody_waits_for_is_forgotten_at_its_end(stage: Stage) -> None:
    stage.claim("r1")
    assert not stage.answers.end("r1")
    assert stage.answers.read("r1", 0)["gone"]
    assert stage.claim("r2") == "lead"


def test_an_answer_that_somebody_waits_for_is_not_over_until_it_was_handed_over(stage: Stage) -> None:
    stage.claim("r1")
    stage.claim("r2")
    assert stage.answers.end("r1")
    assert not stage.answers.read("r1", 0)["gone"]
    stage.answers.put("r1", 0, [HEAD, b"x"], ended=True, keep=0)
    assert stage.claim("r3") == "lead", "it is not kept for new requests"
    assert stage.answers.read("r1", 0)["items"] == [HEAD, b"x"], "but those who have joined still read it"
    stage.now += READ_SECONDS + 1
    assert stage.answers.read("r1", 0)["gone"]


def test_what_is_kept_is_replayed_until_its_time_is_over(stage: Stage) -> None:
    stage.claim("r1")
    stage.answers.put("r1", 0, [HEAD, b"x"], ended=True, keep=60)
    stage.now += 59
    claimed = stage.answers.claim("k", "b", "r2")
    assert (claimed["state"], claimed["ended"], claimed["run"]) == ("join", True, "r1")
    assert stage.answers.read("r1", 0) == {"items": [HEAD, b"x"], "ended": True, "gone": False}
    stage.now += 2
    assert stage.claim("r3") == "lead"


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
        self.spoke: dict[str, float] = {}  # run to when its replica last spoke of it
        self.bodies: dict[str, str] = {}

    def alive(self, run: str) -> bool:
        return self.spoke[run] + LEASE_SECONDS > self.stage.now

    @rule(key=st.sampled_from(KEYS), replica=st.sampled_from(REPLICAS), body=st.sampled_from("xy"))
    def claim(self, key: str, replica: str, body: str) -> None:
        self.number += 1
        before = [run for run, (k, _) in self.leading.items() if k == key and self.alive(run)]
        name = f"r{self.number}"
        claimed = self.stage.answers.claim(key, body, name)
        if claimed["state"] == "lead":
            assert not before, "two live runs of one key"
            self.leading = {run: it for run, it in self.leading.items() if it[0] != key}
            self.leading[name], self.spoke[name], self.bodies[name] = (key, replica), self.stage.now, body
        else:
            assert claimed["run"]

    @rule(replica=st.sampled_from(REPLICAS))
    def renew(self, replica: str) -> None:
        mine = {k: run for run, (k, r) in self.leading.items() if r == replica}
        self.spoke |= dict.fromkeys(mine.values(), self.stage.now)
        told: Any = {k: {"fingerprint": self.bodies[run], "run": run} for k, run in mine.items()}
        self.stage.answers.renew(told)

    @rule(data=st.data(), keep=st.sampled_from([0.0, 3.0]))
    def end(self, data: Any, keep: float) -> None:
        runs = sorted(filter(self.alive, self.leading))
        if runs:
            run = data.draw(st.sampled_from(runs))
            if keep or self.stage.answers.end(run):
                self.stage.answers.put(run, 0, [HEAD, run.encode()], ended=True, keep=keep)
            del self.leading[run]

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.stage.now += seconds  # a run of which nothing was heard for too long may go on or not
        self.leading = {run: it for run, it in self.leading.items() if self.alive(run)}

    @rule(number=st.integers(1, 50))
    def read(self, number: int) -> None:
        heard = self.stage.answers.read(f"r{number}", 0)
        assert heard["items"] in ([], [HEAD, f"r{number}".encode()]), "an answer of another run"

    @invariant()
    def nothing_piles_up(self) -> None:
        assert len(self.stage.answers._runs) <= self.number


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
