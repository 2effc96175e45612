"""Codex and Claude Code do a task of three turns, on each wire, while providers break. `uv run pytest -m clients`.

The task is done if the file is edited and its copy is there. `tests/fakes/worker.py` is the model behind every wire.
"""

import pathlib
from dataclasses import dataclass

import pytest

from tests.clients.client import Missing
from tests.clients.coding_agents import AGENTS, Ran
from tests.clients.conftest import PAIRS
from tests.cluster.conftest import CLOUDS, Cluster
from tests.dialects.cells import RULES
from tests.fakes.server import ANSWER, Behaviour, FakeServer, Received, status
from tests.fakes.vendors.openai import minute_limit
from tests.fakes.worker import DONE, is_done, worker

pytestmark = pytest.mark.clients

SAID = "".join(DONE)
MODELS = [(agent, stem) for agent, its in AGENTS.items() for stem in its.models]
CLOUD_PAIRS = [(first, then) for first, then in PAIRS if then in CLOUDS]
# Frames of the answer that calls a tool: until its second word, and until the arguments of the call.
IN_WORDS = {"aws_bedrock": 6, "openai": 3, "google_genai": 2, "anthropic": 8}
IN_CALL = {"aws_bedrock": 12, "openai": 8, "anthropic": 14}  # Gemini sends a call in one frame, which ends the answer
CUTS = [
    *(pytest.param(first, then, IN_WORDS[first], id=f"words-{first}-{then}") for first, then in CLOUD_PAIRS),
    *(
        pytest.param(first, then, IN_CALL[first], id=f"call-{first}-{then}")
        for first, then in CLOUD_PAIRS
        if first in IN_CALL
    ),
]


@dataclass
class Desk:
    """Where agents work: a folder with the file, and a home."""

    llm: Cluster
    folder: pathlib.Path

    def run(self, agent: str, model: str, *, again: bool = False) -> Ran:
        try:
            return AGENTS[agent].run(self.folder / "home", self.work, self.llm.url, model, again=again)
        except Missing as missing:
            pytest.fail(f"{agent} can't run: {missing}")

    @property
    def work(self) -> pathlib.Path:
        return self.folder / "work"

    def results(self, provider: str) -> list[int]:
        """How many results of calls stood in the requests that a provider got: a retry of its own counts once."""
        fake = self.llm.fakes[provider]
        return sorted({len(fake.vendor.talk(each.body).results) for each in fake.received})


@pytest.fixture
def desk(llm: Cluster, tmp_path: pathlib.Path) -> Desk:
    made = Desk(llm, tmp_path)
    made.work.mkdir()
    (tmp_path / "home").mkdir()
    mind = worker(made.work)
    for name in CLOUDS:
        llm.fakes[name].mind = mind
        # A prompt of an agent alone is above the least tenant's tokens a minute.
        llm.fakes[name].rules = [rule for rule in RULES[name] if rule is not minute_limit]
    return made


def was_done(desk: Desk, ran: Ran) -> None:
    assert ran.text == SAID, ran.log
    assert is_done(desk.work), ran.log
    for fake in desk.llm.fakes.values():
        assert fake.objections == [], "a real API would have refused it"
        assert len(set(fake.refused)) == len(fake.refused), "what a model refuses is learned at once"


@pytest.mark.parametrize("wire", CLOUDS)
@pytest.mark.parametrize(("agent", "stem"), MODELS)
def test_an_agent_does_its_task(desk: Desk, agent: str, stem: str, wire: str) -> None:
    was_done(desk, desk.run(agent, f"{stem}only-{wire}"))
    assert desk.results(wire) == [0, 1, 2, 3]


@pytest.mark.parametrize(("first", "then"), CLOUD_PAIRS)
@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_does_its_task_though_the_provider_dies_between_two_turns(
    desk: Desk, agent: str, first: str, then: str
) -> None:
    desk.llm.fakes[first].script, desk.llm.fakes[first].behave = [ANSWER], status(500)
    was_done(desk, desk.run(agent, f"{AGENTS[agent].models[0]}{first}-{then}"))
    assert desk.results(then) == [1, 2, 3]
    knows_the_first_turn(desk.llm.fakes[first], desk.llm.fakes[then])


def knows_the_first_turn(first: FakeServer, then: FakeServer) -> None:
    """Has the second provider all of what the first has called, and the result?"""
    before, after = (each.vendor.talk(turn_of(each).body).results[0] for each in (first, then))
    assert before.name == after.name
    assert before.arguments == after.arguments
    assert "The gate is closed." in before.text
    assert "The gate is closed." in after.text


def turn_of(fake: FakeServer) -> Received:
    return next(each for each in fake.received if fake.vendor.talk(each.body).results)


@pytest.mark.parametrize(("first", "then", "after"), CUTS)
def test_codex_does_its_task_though_the_provider_dies_in_mid_stream(
    desk: Desk, first: str, then: str, after: int
) -> None:
    dies_in_mid_stream(desk.llm.fakes[first], after)
    was_done(desk, desk.run("codex", f"gpt-5.5-{first}-{then}"))
    assert desk.results(then) == [1, 2, 3]
    knows_the_first_turn(desk.llm.fakes[first], desk.llm.fakes[then])


def dies_in_mid_stream(fake: FakeServer, after: int) -> None:
    """In its second answer, which calls a tool."""
    fake.script = [ANSWER, Behaviour("cut", after=after, pace=0.005)]
    fake.behave = status(500)


@pytest.mark.parametrize(("first", "then", "after"), CUTS)
def test_claude_code_does_its_task_though_the_provider_dies_in_mid_stream(
    desk: Desk, first: str, then: str, after: int
) -> None:
    """It asks again by itself, unless a block of the answer was whole: then it says so, and goes on when it is told to.

    Claude's answers, Bedrock's and Anthropic's, begin with thoughts, which are a block.
    """
    dies_in_mid_stream(desk.llm.fakes[first], after)
    model = f"claude-opus-4-8-{first}-{then}"
    ran = desk.run("claude-code", model)
    if first in ("aws_bedrock", "anthropic") or after != IN_WORDS[first]:
        assert ran.code == 1, "half an answer passed for a whole one"
        assert "broke off" in ran.log
        assert not is_done(desk.work)
        assert desk.results(then) == []
        ran = desk.run("claude-code", model, again=True)
    was_done(desk, ran)
    assert desk.results(then) == [1, 2, 3]
    knows_the_first_turn(desk.llm.fakes[first], desk.llm.fakes[then])
