"""An agent's prompt and the local model's window, through each API: refused in its own words, or read whole."""

import asyncio
import json
from typing import Any

import httpx2

from deployments.ingress.http import build_http_api
from tests.providers.whole_app import LOCAL_MODEL, whole_app

CONTEXTS = {"small": 256, "large": 1024}
ARGS = {
    "providers": {name: {"kind": "local", "context": context, "slots": 1} for name, context in CONTEXTS.items()},
    "models": {name: {name: LOCAL_MODEL} for name in CONTEXTS},
    "timeouts": {"timeout_seconds": 60, "first_token": 60, "idle": 60, "deadline": 120},
}
RULES = "You work in a folder and may run commands. Be careful with what you delete. " * 20  # 300 tokens
TASK = "Open the gate."
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
TOOLS = [(f"tool_{index}", "Run a command in the folder. " * 20) for index in range(24)]


def chat() -> dict[str, Any]:
    functions = [{"name": name, "description": about, "parameters": SCHEMA} for name, about in TOOLS]
    return {
        "messages": [{"role": "system", "content": RULES}, {"role": "user", "content": TASK}],
        "max_completion_tokens": 1,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": each} for each in functions],
    }


def responses() -> dict[str, Any]:
    tools = [
        {"type": "function", "name": name, "description": about, "parameters": SCHEMA, "strict": False}
        for name, about in TOOLS
    ]
    return {"instructions": RULES, "input": TASK, "max_output_tokens": 16, "tools": tools}


def messages() -> dict[str, Any]:
    tools = [{"name": name, "description": about, "input_schema": SCHEMA} for name, about in TOOLS]
    return {"system": RULES, "messages": [{"role": "user", "content": TASK}], "max_tokens": 1, "tools": tools}


BODIES = {"chat/completions": chat, "responses": responses, "messages": messages}


def test_an_agents_prompt_is_refused_by_a_small_window_and_read_by_a_larger_one() -> None:
    """One test for all APIs, because each model takes a second to load."""

    async def main() -> None:
        async with whole_app(ARGS) as w:
            transport = httpx2.ASGITransport(build_http_api(w.service))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=120) as client:
                for api, body in BODIES.items():
                    for stream in (False, True):
                        request = {"model": "small", "stream": stream, **body()}
                        refused = await client.post(f"/v1/{api}", json=request)
                        assert refused.status_code == 400
                        check_refusal(api, refused.json()["error"])
                    request = {"model": "large", "stream": True, **body()}
                    request["tools"] = request["tools"][:2]
                    answered = await client.post(f"/v1/{api}", json=request)
                    assert answered.status_code == 200, answered.text
                    assert prompt_tokens(answered.text) > CONTEXTS["small"]

    asyncio.run(main())


def check_refusal(api: str, error: dict[str, Any]) -> None:
    if api == "messages":  # Claude Code makes its conversation shorter by this text, and Codex by the code
        assert error["type"] == "invalid_request_error"
        assert error["message"] == "prompt is too long: 359 tokens > 256 maximum"
        return
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == ("input" if api == "responses" else "messages")


def prompt_tokens(stream: str) -> int:
    """Return how many tokens of the prompt a stream counts at its end, in the words of any API."""
    lines = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    found = [usage for usage in (usage_in(json.loads(line)) for line in lines) if usage]
    return int(found[-1].get("input_tokens") or found[-1].get("prompt_tokens") or 0)


def usage_in(answer: dict[str, Any]) -> dict[str, Any]:
    holder = answer.get("response") or answer.get("message") or answer
    return holder.get("usage") or {}
