"""A tool has the client's name for the client, and one that its vendor takes for the vendor."""

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from deployments.providers.base import Call, Completed, End, Frames
from deployments.providers.kinds import GEMINI_NAMES as GEMINI
from deployments.providers.kinds import PLAIN_NAMES as PLAIN
from deployments.providers.kinds import NameRule
from deployments.providers.time_limits import TimeLimits
from deployments.providers.tool_names import WithToolNames, names_in, renamed
from tests.clock import run_virtually

ODD = "files.read me"


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


BODY: dict[str, Any] = {
    "model": "row",
    "messages": [
        {"role": "user", "name": ODD, "content": ODD},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", **function(ODD)}]},
        {"role": "tool", "tool_call_id": "a", "name": ODD, "content": "1"},
    ],
    "tools": [function(ODD), function("files_read_me"), function("files.read_me")],
    "tool_choice": function(ODD),
}


def test_a_call_in_a_message_without_a_content_has_the_new_name_too() -> None:
    called = {"role": "assistant", "tool_calls": [{"id": "a", **function(ODD)}]}
    made, _ = renamed({**BODY, "messages": [called]}, PLAIN)
    assert made["messages"][0]["tool_calls"][0]["function"]["name"] == PLAIN.name_for(ODD)


class Echo:
    """A provider that calls the first tool that it is offered, whole or in a stream."""

    async def complete(self, call: Call) -> Completed:
        return Completed(self._calls(call), None)

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        yield Frames(b"data: " + self._calls(call) + b"\n\n", content=True)
        yield End(None)

    def _calls(self, call: Call) -> bytes:
        name = call.body["tools"][0]["function"]["name"]
        assert name != ODD
        return json.dumps({"content": f'"name": "{name}"', "function": {"name": name, "arguments": "{}"}}).encode()

    async def embed(self, call: Call) -> Completed:
        return Completed(b"[]", None)

    async def close(self) -> None: ...


@pytest.mark.parametrize(("rule", "valid"), [(PLAIN, r"[a-zA-Z0-9_-]{1,64}"), (GEMINI, r"[a-zA-Z_][\w.:-]{0,63}")])
@pytest.mark.parametrize("name", [ODD, "x" * 65, "日本", "a/b", "9 lives", " ", "", "x" * 300])
def test_each_name_becomes_one_that_the_vendor_takes(rule: NameRule, valid: str, name: str) -> None:
    made = rule.name_for(name)
    assert re.fullmatch(valid, made, re.ASCII)
    assert (rule.name_for(name), rule.name_for(made)) == (made, made)


def test_a_valid_name_and_its_request_are_not_touched() -> None:
    body = {"messages": [], "tools": [function("get-weather_2")]}
    assert renamed(body, PLAIN) == (body, {})
    assert renamed(body, PLAIN)[0] is body
    assert GEMINI.name_for("files.read:all") == "files.read:all"


def test_a_tool_has_one_name_wherever_a_request_names_it_and_two_tools_have_two() -> None:
    made, names = renamed(BODY, PLAIN)
    new = PLAIN.name_for(ODD)
    assert list(names_in(made)) == [new, "files_read_me", PLAIN.name_for("files.read_me"), new, new, new]
    assert len({new, "files_read_me", PLAIN.name_for("files.read_me")}) == 3
    assert names[new] == ODD
    assert made["messages"][0] == BODY["messages"][0]
    assert BODY["tools"][0]["function"]["name"] == ODD


async def answers() -> tuple[Completed, list[Frames | End]]:
    provider, call = WithToolNames(Echo(), PLAIN), Call(BODY, "m", "row", TimeLimits())
    return await provider.complete(call), [item async for item in provider.stream(call)]


def test_an_answer_has_the_clients_name_whole_and_streamed_and_its_text_is_not_touched() -> None:
    whole, (first, last) = run_virtually(answers())
    assert isinstance(first, Frames)
    for data in (whole.body, first.data.removeprefix(b"data: ")):
        answer = json.loads(data)
        assert answer["function"]["name"] == ODD
        assert answer["content"] == f'"name": "{PLAIN.name_for(ODD)}"'
    assert isinstance(last, End)
