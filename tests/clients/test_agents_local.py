"""What an agent is told where only the local model is left, which holds fewer tokens than the prompt of an agent alone.

`uv run pytest -m clients`.
"""

import pathlib
from typing import Any

import httpx2
import pytest

from tests.clients.coding_agents import AGENTS
from tests.cluster.conftest import CLOUDS, Cluster
from tests.fakes.server import status

pytestmark = pytest.mark.clients

LONG = "The gate is closed. " * 2000  # some 10,000 tokens


def refused(llm: Cluster, api: str, **body: Any) -> tuple[int, dict[str, Any]]:
    response = httpx2.post(f"{llm.url}/v1/{api}", json=body, timeout=30)
    return response.status_code, response.json()["error"]


def test_messages_tells_both_numbers_by_which_claude_code_makes_a_conversation_shorter(llm: Cluster) -> None:
    messages = [{"role": "user", "content": LONG}]
    code, error = refused(llm, "messages", model="only-local", max_tokens=9, messages=messages)
    assert (code, error["type"]) == (400, "invalid_request_error")
    assert error["message"] == "prompt is too long: 10021 tokens > 2048 maximum"


def test_responses_tells_the_code_that_codex_knows(llm: Cluster) -> None:
    code, error = refused(llm, "responses", model="only-local", input=LONG)
    assert (code, error["code"], error["param"]) == (400, "context_length_exceeded", "input")


@pytest.mark.parametrize(("api", "field"), [("messages", "messages"), ("responses", "input")])
def test_while_clouds_are_down_a_prompt_too_long_for_the_local_model_may_be_asked_again(
    llm: Cluster, api: str, field: str
) -> None:
    """A shorter one would not be answered better than this one is once a cloud is back."""
    for name in CLOUDS:
        llm.fakes[name].behave = status(500)
    told = (
        {"messages": [{"role": "user", "content": LONG}], "max_tokens": 9} if field == "messages" else {"input": LONG}
    )
    code, error = refused(llm, api, model="default", **told)
    assert (code, error["code"]) == (503, "no_provider_available")
    assert error["attempts"][-1]["outcome"] == "too_long"
    assert error["attempts"][-1]["param"] == field


def test_codex_says_that_its_prompt_is_too_long_and_asks_once(llm: Cluster, tmp_path: pathlib.Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    ran = AGENTS["codex"].run(tmp_path / "home", tmp_path / "work", llm.url, "gpt-5.5-only-local")
    assert ran.code == 1
    assert "ran out of room in the model's context window" in ran.log
