"""How the stream of Anthropic's API ends for a client of Messages: whole, refused, paused, cut or with an error."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest

from deployments.doors.door import Served
from deployments.doors.messages.door import MESSAGES
from deployments.errors import AttemptFailed
from deployments.openai_api.chat import DONE
from deployments.openai_api.usage import LIFETIMES
from deployments.providers.anthropic.native import NativeReader, native_answer
from deployments.providers.sse import payloads
from deployments.python_api.doors import DoorApi
from deployments.service.arguments import CallOptions
from deployments.usage.caller import Caller
from deployments.usage.token_estimate import DeliveredText, text_in
from tests.doors.anthropic_types import check_order, events_in, folded, opened
from tests.fakes.anthropic_wire import event
from tests.fakes.messages_events import CITED, HIDDEN, HITS, SEARCH, THINKING, WRITTEN, EachEvent
from tests.fakes.server import Behaviour
from tests.fakes.tool_use import Called
from tests.providers.messages_world import BEDROCK, NATIVE, Door, Fakes, fakes, run_door
from tests.providers.native_targets import BROKEN

WORDS = ("Paris", " is")
SERVED = Served("00ff", 1, native=True)


@pytest.fixture
def made() -> Iterator[Fakes]:
    with fakes() as world:
        yield world
        world.unobjected()


def wire() -> EachEvent:
    full = EachEvent([THINKING, HIDDEN, SEARCH, HITS], [CITED], usage=WRITTEN)
    full.more = [event("weather_report", sky="blue")]
    return full


def read(events: Sequence[bytes]) -> tuple[bytes, bool, NativeReader]:
    """Return the frames for the ingress, whether they hold content, and the reader."""
    reader, frames, content = NativeReader(), b"", False
    for data in payloads(b"".join(events)):
        made, holds = reader.frames(json.loads(data), data)
        frames, content = frames + made, content or holds
    return frames, content, reader


def encoded(*frames: bytes) -> bytes:
    encoder = opened(stream=True).encoder(SERVED)
    return b"".join(map(encoder.encode, frames))


def kinds_in(data: bytes) -> list[str]:
    return [json.loads(one)["type"] for one in payloads(data)]


EVENTS = wire().frames_calls([Called("1-0", "look", {"at": "x"})], WORDS)
CAME = [json.loads(data) for data in payloads(b"".join(EVENTS))]
FINISHED = [one["type"] for one in CAME].index("message_delta")
THOUGHT = next(at for at, one in enumerate(CAME) if "thinking" in one.get("delta", {}))


@pytest.mark.parametrize("count", range(FINISHED + 1))
def test_a_stream_that_is_cut_at_any_event_ends_with_an_error(count: int) -> None:
    frames, content, reader = read(EVENTS[:count])
    assert (reader.finished, content) == (False, count > THOUGHT)
    for answer in (encoded(frames, BROKEN), encoded(frames + BROKEN, DONE)):
        assert kinds_in(answer) == [*(one["type"] for one in CAME[:count]), "error"]
        error = json.loads(payloads(answer)[-1])
        assert error["error"]["attempts"] == [{"outcome": "broken"}]


@pytest.mark.parametrize("count", [FINISHED + 1, FINISHED + 2])
def test_an_error_behind_the_stop_reason_takes_its_place(count: int) -> None:
    frames, _, reader = read(EVENTS[:count])
    assert reader.finished
    kinds = kinds_in(encoded(frames, BROKEN, DONE))
    assert kinds == [*(one["type"] for one in CAME[:FINISHED]), "error"]


@pytest.mark.parametrize("count", [FINISHED + 1, FINISHED + 2])
def test_a_whole_stream_is_told_as_it_came_but_for_its_names(count: int) -> None:
    frames, content, reader = read(EVENTS[:count])
    assert (content, reader.finished, reader.model) == (True, True, "claude-upstream-20260101")
    answer = [json.loads(data) for data in payloads(encoded(frames, DONE))]
    expected = json.loads(json.dumps(CAME))
    expected[0]["message"] |= {"id": "msg_00ff", "model": "row-a"}
    assert answer == expected
    known = b"".join(one for one in EVENTS if b"weather_report" not in one)
    typed = events_in(encoded(read([known])[0], DONE))
    assert folded(typed)["content"][-1]["input"] == {"at": "x"}


def test_each_batching_of_frames_gives_the_same_bytes() -> None:
    frames = [one + b"\n\n" for one in read(EVENTS)[0].split(b"\n\n")[:-1]]
    whole = encoded(b"".join(frames), DONE)
    assert encoded(*frames, DONE) == whole
    for cut in range(len(frames)):
        assert encoded(b"".join(frames[:cut]), b"".join(frames[cut:]), DONE) == whole


def test_a_message_that_goes_on_behind_its_stop_reason_is_told_in_order() -> None:
    more = [EVENTS[FINISHED], event("content_block_start", index=9, content_block={"type": "text", "text": ""})]
    events = [*EVENTS[:FINISHED], *more, *EVENTS[FINISHED:]]
    expected = [json.loads(data)["type"] for data in payloads(b"".join(events))]
    assert kinds_in(encoded(read(events)[0], DONE)) == expected


def test_events_without_names_and_in_several_lines_are_read_as_well() -> None:
    bare = [b"data: " + json.dumps(one, indent=1).replace("\n", "\ndata: ").encode() + b"\n\n" for one in CAME]
    assert kinds_in(encoded(read(bare)[0], DONE)) == [one["type"] for one in CAME]


def test_usage_is_counted_with_what_was_written_by_lifetime() -> None:
    whole = native_answer(json.loads(wire().whole(WORDS)), wire().whole(WORDS))
    assert whole.native
    for usage in (read(EVENTS)[2].usage, whole.usage):
        assert usage is not None
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (57, 9)
        details = usage["prompt_tokens_details"]
        assert (details["cached_tokens"], details["cache_write_tokens"]) == (20, 30)
        assert details[LIFETIMES] == WRITTEN["cache_creation"]


def test_an_answer_that_breaks_off_is_counted_by_its_deltas_alone() -> None:
    passed = DeliveredText()
    passed.add(read(EVENTS)[0])
    deltas = [one for one in CAME if one["type"] == "content_block_delta"]
    assert passed.frames == len(deltas)
    names = ("text", "thinking", "partial_json")
    said = [one["delta"][name] for one in deltas for name in names if name in one["delta"]]
    assert text_in(passed.first) == sum(len(json.dumps(text)[1:-1]) for text in said)


@pytest.mark.parametrize("odd", [{"type": "message"}, {"type": "message", "stop_reason": "end_turn", "content": "x"}])
def test_a_whole_answer_that_is_none_is_malformed(odd: dict[str, Any]) -> None:
    with pytest.raises(AttemptFailed) as raised:
        native_answer(odd, json.dumps(odd).encode())
    assert raised.value.outcome.kind == "malformed"


def test_what_a_server_of_others_leaves_out_is_filled_in() -> None:
    bare = {"type": "message", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": None}
    answer = opened().whole(bare, SERVED)
    assert (answer["role"], answer["model"], answer["usage"]["output_tokens"]) == ("assistant", "row-a", 0)
    start = event("message_start", message={"id": "x", "usage": {"input_tokens": 3}})
    events = events_in(encoded(read([start, *EachEvent().frames(WORDS)[1:-1]])[0], DONE))
    check_order(events)
    assert events[0]["message"]["usage"]["input_tokens"] == 3


@pytest.mark.parametrize(
    "reason", ["pause_turn", "refusal", "model_context_window_exceeded", "stop_sequence", "tomorrow"]
)
def test_an_answer_may_end_for_any_reason(made: Fakes, reason: str) -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "no"} if reason == "refusal" else None
    made.wire.ends = {"stop_reason": reason, "stop_details": details, "stop_sequence": "END"}

    async def work(door: Door) -> None:
        response = await door.ask()
        streamed = await door.ask(stream=True)
        (ending,) = [one for one in map(json.loads, payloads(streamed.content)) if one["type"] == "message_delta"]
        for told in (response.json(), ending["delta"]):
            assert {name: told[name] for name in made.wire.ends} == made.wire.ends

    run_door(made, work)


def test_an_answer_may_be_empty(made: Fakes) -> None:
    made.native.words = []

    async def work(door: Door) -> None:
        assert (await door.whole())["content"] == []
        assert [one["type"] for one in await door.streamed()] == ["message_start", "message_delta", "message_stop"]

    run_door(made, work)


@pytest.mark.parametrize("kind", ["cut", "in_band", "malformed"])
@pytest.mark.parametrize(("after", "by"), [(3, BEDROCK), (4, NATIVE)])
def test_a_stream_that_breaks_before_its_content_is_another_providers_to_give(
    made: Fakes, kind: str, after: int, by: str
) -> None:
    made.native.behave = Behaviour(kind, after=after)

    async def work(door: Door) -> None:
        response = await door.ask(model="native-bedrock", stream=True)
        assert response.headers["x-breakwater-provider"] == by
        events = [json.loads(data) for data in payloads(response.content)]
        assert events[-1]["type"] == ("message_stop" if by == BEDROCK else "error")

    run_door(made, work)


def test_a_stream_without_a_stop_reason_is_broken(made: Fakes) -> None:
    made.native.behave = Behaviour("cut", after=len(made.wire.frames(made.native.words)) - 2)

    async def work(door: Door) -> None:
        assert (await door.streamed())[-1]["type"] == "error"

    run_door(made, work)


def test_an_explained_answer_says_so_whole_and_streamed(made: Fakes) -> None:
    async def work(door: Door) -> None:
        headers = {"x-breakwater-explain": "true"}
        whole = await door.whole(headers=headers, client_metadata={"a": 1})
        assert (whole["breakwater"]["provider"], whole["breakwater"]["dropped"]) == (NATIVE, ["client_metadata"])
        assert made.refused() == ["anthropic.fields"]
        events = await door.streamed(headers=headers)
        (ending,) = [one for one in events if "breakwater" in one]
        assert ending["type"] == "message_delta"
        assert ending["breakwater"]["explained"]["outcome"] == "ok"
        check_order(events)

    run_door(made, work)


def test_by_handle_the_answer_and_its_events_are_the_servers_own(made: Fakes) -> None:
    made.wire.before = [SEARCH, HITS]

    async def work(door: Door) -> None:
        api, options = DoorApi(door.world.service, MESSAGES), CallOptions(caller=Caller("handle"))
        tools = [{"type": "web_search_20250305", "name": "web_search"}]
        request = {"model": NATIVE, "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}], "tools": tools}
        answer = await api.ask(request, options)
        assert answer["breakwater"]["dropped"] == []
        assert answer["content"][:2] == [SEARCH, HITS]
        events = [one async for one in api.stream(request, options)]
        assert events[0]["breakwater"]["provider"] == NATIVE
        assert events[-1]["type"] == "message_stop"
        assert [one["content_block"] for one in events if "content_block" in one][1] == HITS
        assert orjson.dumps(events)

    run_door(made, work)
