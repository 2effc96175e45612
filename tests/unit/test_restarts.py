"""Streams that break off before their client has had anything of the answer: another provider begins anew."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer
from deployments.failover.streams.hold import SIGN
from deployments.openai_api.chat import DONE, Head, check_request, frames_to_chunks
from deployments.telemetry.explain import explain
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import in_world, read
from tests.unit.test_metrics import counting
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import ARGS, REQUEST, Script, World, world

BROKEN = Outcome("broken", content=True, message="cut")
ROLE = {"role": "assistant", "content": ""}
THOUGHTS: list[dict[str, Any]] = [ROLE, *({"reasoning_content": text} for text in ("Let me", " see"))]
SECOND = Head("chatcmpl-2", 2, "default")
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = [
    {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    *({"tool_calls": [{"index": 0, "function": {"arguments": text}}]} for text in ('{"a"', ": 1}")),
]
HELD = {**ARGS, "rows": {"*": {"continuation": {"tools": "hold", "json": "hold"}}}}


def answering(**more: Any) -> Script:
    """A second provider that answers."""
    return Script(deltas=[ROLE, {"content": "Hel"}, {"content": "lo"}], head=SECOND, usage=USAGE, **more)


def breaking(*deltas: dict[str, Any], **more: Any) -> Script:
    return Script([BROKEN], deltas=list(deltas or THOUGHTS), after=len(deltas or THOUGHTS), **more)


async def asked(w: World, seconds: float | None = None, **body: Any) -> tuple[Any, bytes]:
    options = {"stream_options": {"include_usage": True}}
    request = check_request({**REQUEST, "stream": True, **options, **body})
    answer = await w.service.failover.stream(request, w.service.deadline(seconds))
    return answer, await read(answer)


def summed(data: bytes) -> ChatCompletion:
    """What the SDK makes of a stream."""
    state = ChatCompletionStreamState()
    for chunk in frames_to_chunks(data):
        if "error" not in chunk:
            state.handle_chunk(ChatCompletionChunk.model_validate({"object": "chat.completion.chunk", **chunk}))
    return state.current_completion_snapshot


def markers(data: bytes) -> list[Mapping[str, Any]]:
    told = [chunk.get("breakwater") or {} for chunk in frames_to_chunks(data)]
    return [one["continued"] for one in told if "continued" in one]


def in_worlds(aws: Script, openai: Script, test: Any, args: Mapping[str, Any] = ARGS, **more: Script) -> None:
    async def main() -> None:
        async with world(args, aws=aws, openai=openai, **more) as w:
            await test(w)

    run_virtually(main())


def test_thoughts_alone_are_followed_by_another_providers_answer_as_one() -> None:
    async def test(w: World) -> None:
        answer, data = await asked(w)
        assert data.endswith(DONE)
        chunks = frames_to_chunks(data)
        assert {(chunk["id"], chunk["created"]) for chunk in chunks} == {("chatcmpl-1", 1)}
        assert sum("role" in c["delta"] for chunk in chunks for c in chunk["choices"]) == 1
        message = summed(data).choices[0].message
        assert (message.role, message.content) == ("assistant", "Hello")
        seam = {"from": "aws/haiku", "to": "openai/gpt", "method": "restart", "why": "broken"}
        assert markers(data) == [seam]
        assert [entry["outcome"] for entry in answer.record.entries] == ["broken", "ok"]
        told = explain(answer.record)
        assert told is not None
        assert (told["outcome"], told["provider"]) == ("ok", "openai")
        assert [candidate.get("seam") for candidate in told["candidates"]] == [None, "restart", None]

    in_worlds(breaking(), answering(), test)


@pytest.mark.parametrize(
    "said", [{"content": "Hel"}, CALL[0], {"refusal": "No"}, {"audio": {"data": "x"}}, {"content": [{"text": "x"}]}]
)
def test_once_something_of_the_answer_was_said_the_stream_ends_with_an_error(said: dict[str, Any]) -> None:
    async def test(w: World) -> None:
        answer, data = await asked(w)
        assert DONE not in data
        assert frames_to_chunks(data)[-1]["error"]["code"] == "stream_interrupted"
        assert w.provider("openai").calls == 0
        assert answer.record.summary.outcome == "broken"

    in_worlds(breaking(*THOUGHTS, said), answering(), test)


def test_the_next_may_break_off_too_and_the_one_after_it_answers() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        went = [(m["from"], m["to"]) for m in markers(data)]
        assert went == [("aws/haiku", "openai/gpt"), ("openai/gpt", "local/smol")]
        assert summed(data).choices[0].message.content == "Hello"
        assert {chunk["id"] for chunk in frames_to_chunks(data)} == {"chatcmpl-1"}

    second = breaking(*THOUGHTS, head=SECOND)
    in_worlds(breaking(), second, test, local=answering())


def test_if_the_next_breaks_off_too_and_nobody_is_left_the_client_sees_how_the_first_did() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w)
        assert frames_to_chunks(data)[-1]["error"]["message"] == "The stream from aws/haiku broke off: cut."

    second = Script([Outcome("broken", content=True, message="cut2")], deltas=[ROLE, {"content": "x"}], after=2)
    in_worlds(breaking(), second, test)


def test_silence_after_it_is_that_of_who_speaks_now() -> None:
    async def test(w: World) -> None:
        waited, detector = list[str](), w.breaker.silence
        wait: Any = detector.wait

        def noted(target: str, *more: Any) -> None:
            waited.append(target)
            wait(target, *more)

        detector.wait = noted  # type: ignore[method-assign]
        await asked(w)
        assert waited[-1] == "openai/gpt"

    in_worlds(breaking(), answering(), test)


def test_if_nobody_can_answer_the_client_sees_the_first_error() -> None:
    async def test(w: World) -> None:
        answer, data = await asked(w)
        error = frames_to_chunks(data)[-1]["error"]
        assert error["message"] == "The stream from aws/haiku broke off: cut."
        assert [a["outcome"] for a in error["attempts"]] == ["broken", "server_error", "connect"]
        assert answer.record.summary.outcome == "broken"

    down = Outcome("server_error", status=500)
    in_worlds(breaking(), Script([down]), test, local=Script([Outcome("connect")]))


@pytest.mark.parametrize("after", [1.0, 75.0], ids=["open", "to be probed"])
def test_nobody_is_probed_for_it_and_nothing_is_waited_for(after: float) -> None:
    async def test(w: World) -> None:
        for pinned in ("openai/gpt", "local/smol") * 3:
            with pytest.raises(NoAnswer):
                await asked(w, model=pinned)
        await asyncio.sleep(after)
        calls = [w.provider(name).calls for name in ("openai", "local")]
        began = asyncio.get_running_loop().time()
        _, data = await asked(w)
        assert "error" in frames_to_chunks(data)[-1]
        assert [w.provider(name).calls for name in ("openai", "local")] == calls
        assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.1)

    down = [Outcome("server_error")] * 3
    in_worlds(breaking(), Script([*down, None]), test, local=Script([*down, None]))


@pytest.mark.parametrize("kind", ["cancelled", "deadline", "content_filter", "bad_request"])
def test_what_moves_on_to_nobody_does_not_begin_anew(kind: str) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, seconds=5.0 if kind == "deadline" else None)
        assert "error" in frames_to_chunks(data)[-1]
        assert w.provider("openai").calls == 0

    slow = {"pace": 10.0} if kind == "deadline" else {}
    first = Script([Outcome(kind, content=True)], deltas=THOUGHTS, after=len(THOUGHTS), **slow)
    in_worlds(first, answering(), test)


def test_a_client_that_leaves_meanwhile_is_the_end_of_the_request() -> None:
    async def test(w: World) -> None:
        request = check_request({**REQUEST, "stream": True})
        answer = await w.service.failover.stream(request, w.service.deadline())
        reading = asyncio.create_task(read(answer))
        await asyncio.sleep(1)
        reading.cancel()
        await asyncio.wait([reading])
        assert answer.record.summary is not None
        assert answer.record.summary.outcome == "cancelled"
        assert w.provider("openai").cancelled == 1

    in_worlds(breaking(), answering(seconds=5.0), test)


def test_what_both_have_used_is_the_requests() -> None:
    async def test(x: Ledgered) -> None:
        data = await read(await x.stream(stream_options={"include_usage": True}))
        request, (first, second) = x.rows
        assert (first.kind, first.counted, second.kind, second.counted) == ("broken", "estimated", "ok", "provider")
        assert (request.outcome, request.provider, request.attempts) == ("ok", "openai", 2)
        last = frames_to_chunks(data)[-1]
        assert last["usage"]["prompt_tokens"] == (first.tokens_in or 0) + (second.tokens_in or 0)
        assert last["usage"]["completion_tokens"] == (first.tokens_out or 0) + (second.tokens_out or 0)
        assert [one["target"] for one in last["breakwater"]["usage"]] == ["aws/haiku", "openai/gpt"]
        assert [one["counted"] for one in last["breakwater"]["usage"]] == ["estimated", "provider"]

    with_ledger(test, aws=breaking(), openai=answering())


def test_so_is_what_an_answer_has_used_of_which_nothing_was_sent() -> None:
    async def test(x: Ledgered) -> None:
        data = await read(await x.stream(stream_options={"include_usage": True}, **JSON))
        _, (first, second) = x.rows
        assert frames_to_chunks(data)[-1]["usage"]["prompt_tokens"] == (first.tokens_in or 0) + (second.tokens_in or 0)

    second = Script(deltas=[ROLE, {"content": '{"a": 1}'}], head=SECOND, usage=USAGE)
    with_ledger(test, HELD, aws=breaking(ROLE, {"content": '{"b"'}), openai=second)


SCHEMA = {"name": "a", "schema": {"type": "object"}}
JSON: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": SCHEMA}}
HALF, WHOLE = [ROLE, *CALL[:2]], [ROLE, *CALL]


def test_half_a_call_that_was_held_back_is_forgotten_and_another_provider_calls() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, tools=TOOLS)
        [made] = summed(data).choices[0].message.tool_calls or []
        assert made.id == "call_2"
        assert made.function.arguments == '{"a": 2}'
        assert b"call_1" not in data
        assert {chunk["id"] for chunk in frames_to_chunks(data)} == {"chatcmpl-1"}
        assert data.endswith(DONE)

    whole = [ROLE, {"tool_calls": [{"index": 0, "id": "call_2", "function": {"name": "f", "arguments": '{"a": 2}'}}]}]
    in_worlds(breaking(*HALF), Script(deltas=whole, head=SECOND, usage=USAGE), test, HELD)


def test_a_call_that_is_whole_comes_at_once_and_as_it_was() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, tools=TOOLS)
        assert [c["delta"] for chunk in frames_to_chunks(data)[:-1] for c in chunk["choices"]] == WHOLE
        assert not markers(data)

    in_worlds(Script(deltas=WHOLE, usage=USAGE), answering(), test, HELD)


def test_empty_lists_of_calls_hold_nothing_back() -> None:
    async def test(w: World) -> None:
        request = check_request({**REQUEST, "stream": True, "tools": TOOLS})
        answer = await w.service.failover.stream(request, w.service.deadline())
        parts = [part async for part in answer.frames()]
        await answer.close()
        assert len(parts) == 3

    deltas = [{"content": text, "tool_calls": empty} for text, empty in (("Hel", None), ("lo", []))]
    in_worlds(Script(deltas=deltas, pace=1.0), answering(), test, HELD)


def test_prose_before_a_call_that_breaks_off_was_said() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, tools=TOOLS)
        assert frames_to_chunks(data)[-1]["error"]["code"] == "stream_interrupted"
        assert b"tool_calls" not in data

    in_worlds(breaking(ROLE, {"content": "I look."}, *CALL[:2]), answering(), test, HELD)


def test_json_is_held_back_until_it_is_whole() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, **JSON)
        assert json.loads(summed(data).choices[0].message.content or "") == {"a": 1}
        assert data.endswith(DONE)
        assert {chunk["id"] for chunk in frames_to_chunks(data)} == {"chatcmpl-2"}
        assert [m["to"] for m in markers(data)] == ["openai/gpt"]

    second = Script(deltas=[ROLE, {"content": '{"a":'}, {"content": "1}"}], head=SECOND, usage=USAGE)
    in_worlds(breaking(ROLE, {"content": '{"b"'}), second, test, HELD)


def test_who_waits_for_what_is_held_back_is_shown_a_sign_of_life_that_is_no_content() -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, **JSON)
        assert data.count(SIGN) == 3
        assert json.loads(summed(data).choices[0].message.content or "") == {"a": 1}

    slow = Script(
        deltas=[ROLE, {"content": '{"a":'}, *[{"content": " "}] * 6, {"content": "1}"}], pace=5.0, usage=USAGE
    )
    in_worlds(slow, answering(), test, HELD)


@pytest.mark.parametrize("args", [ARGS, {**ARGS, "rows": {"solo": {"continuation": {"json": "hold"}}}}])
def test_without_the_setting_nothing_is_held_back(args: Mapping[str, Any]) -> None:
    async def test(w: World) -> None:
        _, data = await asked(w, **JSON, tools=TOOLS)
        assert frames_to_chunks(data)[-1]["error"]["code"] == "stream_interrupted"

    in_worlds(breaking(ROLE, {"content": '{"b"'}), answering(), test, args)


@in_world
async def test_it_is_counted(w: World) -> None:
    meter = counting(w)
    w.hop.providers["aws"], w.hop.providers["openai"] = breaking(), answering()
    checked = check_request({**REQUEST, "stream": True})
    record = w.service.begin(Caller("http"), checked)
    await read(await w.service.failover.stream(checked, w.service.deadline(), record))
    assert meter.of("continued_total") == {("default", "aws", "openai", "restart", "ok"): 1}
