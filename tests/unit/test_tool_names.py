"""A tool has the client's name for the client, and one that its vendor takes for the vendor."""

import itertools
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from deployments.errors import AttemptFailed, failed
from deployments.providers.base import Call, Completed, End, Frames
from deployments.providers.kinds import GEMINI_NAMES as GEMINI
from deployments.providers.kinds import PLAIN_NAMES as PLAIN
from deployments.providers.kinds import NameRule
from deployments.providers.renaming.tool_names import WithToolNames, names_in, renamed
from deployments.providers.time_limits import TimeLimits
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


def fragment(index: int, name: str | None = None, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    said = {"name": name, "arguments": arguments}
    return {"index": index, **more, "function": {key: value for key, value in said.items() if value is not None}}


def event(*calls: dict[str, Any], **more: Any) -> bytes:
    delta = {**({"tool_calls": list(calls)} if calls else {}), **more.pop("delta", {})}
    chunk = {"id": "c", "model": "row", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class Server:
    """A server that streams these frames, with the new name of the tool cut wherever the test cuts it."""

    def __init__(self, *batches: bytes, end: AttemptFailed | End | None = None):
        self._batches, self._end = batches, end or End(None)

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        for data in self._batches:
            yield Frames(data, content=True)
        if isinstance(self._end, AttemptFailed):
            raise self._end
        yield self._end

    async def complete(self, call: Call) -> Completed:
        assert isinstance(self._end, AttemptFailed)
        raise self._end

    async def embed(self, call: Call) -> Completed:
        return Completed(b"[]", None)

    async def close(self) -> None: ...


NEW = PLAIN.name_for(ODD)
HEAD = {"id": "call_1", "type": "function"}


def streamed(*batches: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return the calls as an SDK adds their fragments up, and all that the client got."""

    async def main() -> bytes:
        items = WithToolNames(Server(*batches), PLAIN).stream(Call(BODY, "m", "row", TimeLimits()))
        return b"".join([item.data async for item in items if isinstance(item, Frames)])

    data, calls = run_virtually(main()), dict[int, dict[str, Any]]()
    for each in data.split(b"\n\n")[:-1]:
        for choice in json.loads(each.removeprefix(b"data: "))["choices"]:
            for call in choice["delta"].get("tool_calls", []):
                known = calls.setdefault(call["index"], {"name": "", "arguments": ""})
                known |= {key: call[key] for key in ("id", "type") if key in call}
                for key, text in call.get("function", {}).items():
                    known[key] += text
    return [calls[index] for index in sorted(calls)], data


def cut(name: str, *at: int) -> list[str]:
    edges = [0, *at, len(name)]
    return [name[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("at", [(1,), (len(NEW) - 1,), (2, 5), tuple(range(1, len(NEW)))])
@pytest.mark.parametrize("together", [False, True])
def test_a_name_that_comes_in_pieces_is_the_clients_own_again(at: tuple[int, ...], together: bool) -> None:
    first, *rest = cut(NEW, *at)
    events = [event(fragment(0, first, "", **HEAD), delta={"role": "assistant", "content": None})]
    events += [event(fragment(0, piece)) for piece in rest]
    events += [event(fragment(0, arguments='{"a"')), event(fragment(0, arguments=":1}")), event(finish_reason="stop")]
    calls, data = streamed(*([b"".join(events)] if together else events))
    assert calls == [{**HEAD, "name": ODD, "arguments": '{"a":1}'}]
    assert NEW.encode() not in data
    assert data.count(b"assistant") == 1
    named = next(each for each in data.split(b"\n\n") if b'"tool_calls"' in each)
    assert json.dumps(ODD).encode() in named, "a client wants the name with the first fragment of a call"


@pytest.mark.parametrize("name", ["t_", NEW[:9]])
def test_another_tools_name_that_begins_alike_is_kept_no_longer_than_until_its_arguments(name: str) -> None:
    calls, _ = streamed(event(fragment(0, name, "", **HEAD)), event(fragment(0, arguments="{}")))
    assert calls == [{**HEAD, "name": name, "arguments": "{}"}]


def test_pieces_of_two_calls_at_once_and_a_call_without_arguments_lose_nothing() -> None:
    head, tail = cut(NEW, 4)
    calls, data = streamed(
        event(fragment(0, "t_", **HEAD)),
        event(fragment(1, head, **HEAD)),
        event(fragment(1, tail, "{}")),
        event(fragment(2, head, **HEAD)),
        event(finish_reason="tool_calls"),
    )
    assert [call["name"] for call in calls] == ["t_", ODD, head]
    finish = data.index(b'"tool_calls"}]') if b'"tool_calls"}]' in data else data.index(b'"finish_reason":"tool_calls"')
    assert data.index(head.encode() + b'"') < finish, "nothing of a call comes behind its end"


def test_a_stream_that_ends_without_a_finish_loses_no_piece() -> None:
    calls, _ = streamed(event(fragment(0, "t_", **HEAD)))
    assert calls == [{**HEAD, "name": "t_", "arguments": ""}]


@pytest.mark.parametrize("stream", [False, True])
def test_an_errors_text_names_the_tool_as_its_client_does(stream: bool) -> None:
    told = failed("rejected", f"Invalid 'tools': {NEW!r} and {NEW} are twice there", status=400, param="tools")
    told.__cause__ = KeyError("the SDK's own")
    provider, call = WithToolNames(Server(b"", end=told), PLAIN), Call(BODY, "m", "row", TimeLimits())

    async def main() -> None:
        if not stream:
            await provider.complete(call)
        async for _ in provider.stream(call):
            pass

    with pytest.raises(AttemptFailed) as caught:
        run_virtually(main())
    assert caught.value.outcome.message == f"Invalid 'tools': {ODD!r} and {ODD} are twice there"
    assert (caught.value.outcome.kind, caught.value.outcome.param) == ("rejected", "tools")
    assert isinstance(caught.value.__cause__, KeyError), "it tells a bug of ours from a provider's fault"


def test_a_long_name_does_not_make_a_long_text_of_an_error() -> None:
    long = "x" * 100_000
    told = failed("rejected", PLAIN.name_for(long) * 50, status=400)
    call = Call({**BODY, "tools": [function(long)]}, "m", "row", TimeLimits())
    with pytest.raises(AttemptFailed) as caught:
        run_virtually(WithToolNames(Server(end=told), PLAIN).complete(call))
    assert len(caught.value.outcome.message) <= 50 * 200
