"""How the stream of a server of the Responses API ends for a client of Responses: whole, incomplete, failed or cut."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from deployments.doors.door import Served
from deployments.doors.responses.door import RESPONSES
from deployments.errors import AttemptFailed
from deployments.openai_api.chat import DONE
from deployments.providers.openai.responses_api.native import NativeReader
from deployments.providers.sse import payloads
from deployments.python_api.doors import DoorApi
from deployments.service.arguments import CallOptions
from deployments.usage.caller import Caller
from deployments.usage.token_estimate import DeliveredText, text_in
from tests.doors.responses import Streamed, check_response, opened, read_events
from tests.fakes.hosted_items import CITED, HOSTED
from tests.fakes.server import Behaviour
from tests.providers.native_targets import BROKEN
from tests.providers.native_world import BEDROCK, NATIVE, Door, EachEvent, Fakes, fakes, run_door

WORDS = ("Paris", " is")


@pytest.fixture
def made() -> Iterator[Fakes]:
    with fakes() as world:
        yield world
        world.unobjected()


def wire() -> EachEvent:
    full = EachEvent()
    full.hosted, full.annotations = list(HOSTED.values()), [CITED]
    return full


def read(events: Sequence[bytes]) -> tuple[bytes, bool, NativeReader]:
    """Return the frames for the ingress, whether they hold content, and the reader."""
    reader, frames, content = NativeReader(), b"", False
    for data in payloads(b"".join(events)):
        for made, holds in reader.read(json.loads(data), data):
            frames, content = frames + made, content or holds
    return frames, content, reader


def encoded(frames: bytes) -> Streamed:
    return read_events(opened(stream=True).encoder(Served("00ff", 1, native=True)).encode(frames))


EVENTS = wire().frames(WORDS)


@pytest.mark.parametrize("count", range(len(EVENTS)))
def test_a_stream_that_is_cut_at_any_event_is_never_whole(count: int) -> None:
    frames, content, reader = read(EVENTS[:count])
    assert not reader.finished
    # The response, its encrypted reasoning, and the first hosted item that opens.
    assert content is (count > 4)
    answer = encoded(frames + BROKEN)
    assert answer.kinds[-1] == "failed"
    assert answer.kinds.count("completed") == 0
    assert answer.response["status"] == "failed"
    assert answer.response["output"] == answer.done
    assert answer.response["breakwater"] == {"attempts": [{"outcome": "broken"}]}
    assert answer.response["error"]["code"] == "server_error"


def test_a_whole_stream_is_told_as_it_came_but_for_what_is_ours() -> None:
    frames, content, reader = read(EVENTS)
    assert (content, reader.finished) == (True, True)
    assert reader.usage is not None
    answer = encoded(frames + DONE)
    came = [json.loads(data) for data in payloads(b"".join(EVENTS))]
    assert [{**event, "response": None} for event in answer.events] == [{**event, "response": None} for event in came]
    assert answer.response["output"] == came[-1]["response"]["output"]


def test_the_last_event_waits_until_nothing_can_follow() -> None:
    frames, _, _ = read(EVENTS)
    encoder = opened(stream=True).encoder(Served("00ff", 1, native=True))
    assert b"response.completed" not in encoder.encode(frames)
    assert read_events(
        encoder.encode(BROKEN).replace(b'"sequence_number":%d' % (len(EVENTS) - 1), b'"sequence_number":0')
    ).kinds == ["failed"]


def test_numbers_have_no_gap_where_an_event_is_left_out_or_has_none() -> None:
    keepalive = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":2}\n\n'
    bare = [event.replace(b'"sequence_number"', b'"number"') for event in EVENTS]
    for events in ([*EVENTS[:2], keepalive, *EVENTS[2:]], bare):
        frames, _, _ = read(events)
        assert encoded(frames + DONE).kinds[-1] == "completed"


def test_events_without_names_and_in_several_lines_are_read_as_well() -> None:
    bare = [
        b"data: " + json.dumps(json.loads(data), indent=1).replace("\n", "\ndata: ").encode() + b"\n\n"
        for data in payloads(b"".join(EVENTS))
    ]
    frames, _, _ = read(bare)
    assert encoded(frames + DONE).kinds == encoded(read(EVENTS)[0] + DONE).kinds


def test_a_response_that_failed_upstream_keeps_its_own_error() -> None:
    (data,) = payloads(EachEvent().in_band_error("vector_store_timeout"))
    reading = NativeReader().read(json.loads(data), data)
    failed, content = next(reading)
    assert not content
    with pytest.raises(AttemptFailed) as raised:
        next(reading)
    assert raised.value.outcome.kind == "server_error"
    answer = encoded(read(EVENTS[:9])[0] + failed + BROKEN)
    assert answer.response["error"] == {"code": "vector_store_timeout", "message": "the engine fell over"}
    assert answer.response["breakwater"] == {"attempts": [{"outcome": "broken"}]}


def test_an_answer_that_breaks_off_is_counted_by_its_deltas_alone() -> None:
    """Other events repeat what those said, and what the client asked."""
    passed = DeliveredText()
    passed.add(read(EVENTS)[0])
    deltas = [json.loads(data) for data in payloads(b"".join(EVENTS)) if b".delta" in data]
    assert passed.frames == len(deltas)
    texts = [json.dumps(event["delta"])[1:-1] for event in deltas]
    assert text_in(passed.first) == sum(map(len, texts))


INCOMPLETE = [
    {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
]


@pytest.mark.parametrize("ends", INCOMPLETE)
def test_an_incomplete_answer_stays_what_it_is(made: Fakes, ends: dict[str, Any]) -> None:
    made.wire.ends = ends

    async def work(door: Door) -> None:
        for response in (await door.whole(), (await door.streamed()).response):
            assert {name: response[name] for name in ends} == ends
        assert (await door.streamed()).kinds[-1] == "incomplete"

    run_door(made, work)


def test_a_whole_answer_that_failed_is_another_providers_to_give(made: Fakes) -> None:
    made.wire.ends = {"status": "failed", "error": {"code": "server_error", "message": "no"}}

    async def work(door: Door) -> None:
        for stream in (False, True):
            response = await door.ask(model="native-bedrock", stream=stream)
            expected = NATIVE if stream else BEDROCK  # of a stream something has been told by then
            assert response.headers["x-breakwater-provider"] == expected

    run_door(made, work)


@pytest.mark.parametrize(("after", "by"), [(4, BEDROCK), (9, NATIVE)])
def test_a_stream_that_breaks_before_its_content_is_another_providers_to_give(made: Fakes, after: int, by: str) -> None:
    made.wire.hosted = [HOSTED["web_search_call"]]
    made.native.behave = Behaviour("cut", after=after)

    async def work(door: Door) -> None:
        response = await door.ask(model="native-bedrock", stream=True)
        assert response.headers["x-breakwater-provider"] == by
        answer = read_events(response.content)
        assert answer.kinds[-1] == ("completed" if by == BEDROCK else "failed")
        if by == NATIVE:
            assert [one["outcome"] for one in answer.response["breakwater"]["attempts"]] == ["broken"]

    run_door(made, work)


def test_an_explained_answer_says_so_whole_and_streamed(made: Fakes) -> None:
    async def work(door: Door) -> None:
        headers = {"x-breakwater-explain": "true"}
        whole = await door.whole(headers=headers, store=True)
        assert (whole["breakwater"]["provider"], whole["breakwater"]["dropped"]) == (NATIVE, ["store"])
        streamed = await door.streamed(headers=headers)
        assert streamed.response["breakwater"]["explained"]["outcome"] == "ok"

    run_door(made, work)


def test_by_handle_the_answer_and_its_events_are_the_servers_own(made: Fakes) -> None:
    made.wire.hosted = [HOSTED["web_search_call"]]

    async def work(door: Door) -> None:
        api, options = DoorApi(door.world.service, RESPONSES), CallOptions(caller=Caller("handle"))
        request = {"model": NATIVE, "input": "Hi", "tools": [{"type": "web_search"}]}
        answer = await api.ask(request, options)
        assert answer["breakwater"]["dropped"] == []
        check_response({name: value for name, value in answer.items() if name != "breakwater"})
        events = [event async for event in api.stream(request, options)]
        assert events[0]["breakwater"]["provider"] == NATIVE
        assert events[-1]["type"] == "response.completed"
        assert "response.web_search_call.searching" in [event["type"] for event in events]

    run_door(made, work)
