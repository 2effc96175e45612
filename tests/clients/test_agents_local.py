"""What an agent is told where only the local model is left, which holds fewer tokens than the prompt of an agent alone.

`uv run pytest -m clients`.
"""

import asyncio
import contextlib
import json
import pathlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from deployments.ingress.http import build_http_api
from tests.clients.coding_agents import AGENTS
from tests.cluster.conftest import CLOUDS, Cluster
from tests.fakes.server import status
from tests.providers.test_local_windows import prompt_tokens
from tests.providers.whole_app import LOCAL_MODEL, whole_app

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


@pytest.mark.parametrize(
    ("agent", "model", "said"),
    [
        ("codex", "gpt-5.5-only-local", "ran out of room in the model's context window"),
        ("claude-code", "claude-opus-4-8-only-local", "Prompt is too long"),
    ],
)
def test_an_agent_says_that_its_prompt_is_too_long(
    llm: Cluster, tmp_path: pathlib.Path, agent: str, model: str, said: str
) -> None:
    ran = AGENTS[agent].run(*folders(tmp_path), llm.url, model)
    assert ran.code == 1
    assert said in ran.log


@pytest.mark.parametrize(("agent", "model"), [("codex", "local"), ("claude-code", "claude-opus-4-8")])
def test_the_first_request_of_an_agent_is_answered_by_the_local_model_with_a_window_of_8192(
    tmp_path: pathlib.Path, agent: str, model: str
) -> None:
    """Only the request is the agent's: nobody should run the commands of so small a model."""
    with recording() as (url, requests):
        AGENTS[agent].run(*folders(tmp_path), url, model)
    path, body = requests[0]
    limit = "max_tokens" if "max_tokens" in body else "max_output_tokens"
    slow = {"timeout_seconds": 600, "first_token": 600, "idle": 600, "deadline": 900}
    args = {
        "providers": {"local": {"kind": "local", "context": 8192, "slots": 1, "threads": 2}},
        "models": {model: {"local": LOCAL_MODEL}},
        "timeouts": slow,
    }

    async def main() -> None:
        async with whole_app(args) as w:
            transport = httpx2.ASGITransport(build_http_api(w.service))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=900) as client:
                answered = await client.post(path, json={**body, limit: 16})
                assert answered.status_code == 200, answered.text
                assert prompt_tokens(answered.text) > 2048

    asyncio.run(main())


def folders(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Return an agent's home and its folder of work."""
    home, work = root / "home", root / "work"
    home.mkdir()
    work.mkdir()
    return home, work


@contextlib.contextmanager
def recording() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Yield the URL of a server that refuses all, and the paths and bodies that it was sent."""
    sent: list[tuple[str, dict[str, Any]]] = []
    refusal = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}).encode()

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(400)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(refusal)))
            self.end_headers()
            self.wfile.write(refusal)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
        server.shutdown()
        thread.join()
