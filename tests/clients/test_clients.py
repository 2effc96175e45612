"""Clients that are not ours, end to end: what a program that uses one gets, whichever tier answers it."""

import json
from typing import Any

import pytest

from tests.clients.client import Client
from tests.clients.conftest import PAIRS, TIERS
from tests.cluster.conftest import CLOUDS, Cluster
from tests.fakes.server import ANSWER, Behaviour, status
from tests.fakes.tool_use import VALUES

pytestmark = pytest.mark.clients

SAID = "Paris is the capital."
RESULT = "sunny, 21 degrees"
PLACE = VALUES["string"]  # what a fake puts where a schema wants a string
WORDS = ['{"ci', 'ty": "Par', 'is", "popu', 'lation": 2', "100000}"]
CITY = {"city": "Paris", "population": 2100000}

each_tier = pytest.mark.parametrize("tier", TIERS)
each_cloud = pytest.mark.parametrize("tier", CLOUDS)


@each_tier
def test_a_whole_answer_and_its_usage(llm: Cluster, client: Client, tier: str) -> None:
    said = client.ask("whole", llm.url, f"only-{tier}")
    assert said["finish"] == "stop", said
    if tier == "local":
        assert "Paris" in said["text"]
        assert min(said["usage"]) > 0
    else:
        assert (said["text"], said["usage"]) == (SAID, [7, 5])


@each_tier
def test_a_stream_and_its_usage(llm: Cluster, client: Client, tier: str) -> None:
    said = client.ask("stream", llm.url, f"only-{tier}")
    assert said["finish"] == "stop", said
    if tier == "local":
        assert "Paris" in said["text"]
        assert said["pieces"] > 3
        assert min(said["usage"]) > 0
    else:
        assert (said["text"], said["usage"]) == (SAID, [7, 5])
        assert said["pieces"] == 5


@each_tier
def test_a_tool_is_called_and_its_result_answered(llm: Cluster, client: Client, tier: str) -> None:
    _looped(llm, tier, client.ask("tools", llm.url, f"only-{tier}"))


@each_tier
def test_a_tool_is_called_in_a_stream(llm: Cluster, client: Client, tier: str) -> None:
    _looped(llm, tier, client.ask("tools_streamed", llm.url, f"only-{tier}"))


def _looped(llm: Cluster, tier: str, said: dict[str, Any]) -> None:
    if tier == "local":
        assert said["calls"] == [{"city": "Paris"}]
        assert said["text"]
        return
    assert (said["text"], said["calls"]) == (SAID, [{"city": PLACE}])
    assert said["usage"] == [14, 10]  # of both turns
    fake = llm.fakes[tier]
    assert len(fake.received) == 2
    assert fake.objections == []
    assert RESULT in json.dumps(fake.received[1].body)


@each_tier
def test_an_object_that_keeps_to_a_schema(llm: Cluster, client: Client, tier: str) -> None:
    if tier != "local":
        llm.fakes[tier].words = WORDS
    said = client.ask("structured", llm.url, f"only-{tier}")
    if tier == "local":
        assert {name: type(value) for name, value in said["object"].items()} == {"city": str, "population": int}
    else:
        assert said == {"object": CITY}


def test_an_unknown_model_is_the_clients_own_error(llm: Cluster, client: Client) -> None:
    said = client.ask("unknown", llm.url, "only-openai")
    assert said["raised"].endswith(("NotFoundError", "AI_APICallError", "ModelHTTPError")), said
    assert (said["status"], said["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(("tier", "then"), PAIRS)
def test_a_tool_conversation_changes_its_provider_and_nobody_notices(
    llm: Cluster, client: Client, tier: str, then: str
) -> None:
    _moved(llm, tier, then, client.ask("tools", llm.url, _broken_after_one_turn(llm, tier, then)))


@pytest.mark.parametrize(("tier", "then"), PAIRS)
def test_a_streamed_tool_conversation_changes_its_provider_and_nobody_notices(
    llm: Cluster, client: Client, tier: str, then: str
) -> None:
    _moved(llm, tier, then, client.ask("tools_streamed", llm.url, _broken_after_one_turn(llm, tier, then)))


def _broken_after_one_turn(llm: Cluster, tier: str, then: str) -> str:
    """The row whose first provider calls the tool, and answers nothing after that."""
    llm.fakes[tier].script, llm.fakes[tier].behave = [ANSWER], status(500)
    return f"{tier}-{then}"


def _moved(llm: Cluster, tier: str, then: str, said: dict[str, Any]) -> None:
    assert said["calls"] == [{"city": PLACE}]
    assert len(llm.fakes[tier].received) == 2
    if then == "local":
        assert said["text"]
        return
    assert said["text"] == SAID
    [turn] = llm.fakes[then].received
    assert RESULT in json.dumps(turn.body)
    assert llm.fakes[then].objections == []


@each_cloud
def test_a_cut_stream_is_an_error_and_no_answer(llm: Cluster, client: Client, tier: str) -> None:
    llm.fakes[tier].behave = Behaviour("cut", after=3)
    said = client.ask("cut", llm.url, f"only-{tier}")
    assert said.get("raised"), said
    assert SAID.startswith(said["seen"])
    assert 0 < len(said["seen"]) < len(SAID)


@pytest.mark.parametrize("client", ["agents-sdk"], indirect=True)
@pytest.mark.parametrize(("tier", "then"), [pair for pair in PAIRS if pair[1] != "local"])
def test_a_conversation_goes_to_another_agent_though_its_provider_dies(
    llm: Cluster, client: Client, tier: str, then: str
) -> None:
    said = client.ask("handoff", llm.url, _broken_after_one_turn(llm, tier, then))
    assert said == {"text": SAID, "by": "historian"}
    assert llm.fakes[then].objections == []
