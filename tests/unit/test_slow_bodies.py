"""Bodies that come slowly, without end, or many at once: what is held of them is bounded, and none keeps others out."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from actors.breaker.outcomes import Outcome
from deployments.aio import turns
from deployments.errors import BadRequest, BodyTooSlow, BreakwaterError, NoAnswer, TooBusy, TooLarge
from deployments.ingress.asking import Asking
from deployments.ingress.body.bodies import MOST_SECONDS, SILENCE_SECONDS, Bodies
from deployments.ingress.body.in_flight import BytesInFlight
from deployments.ingress.handlers import Handlers
from deployments.ingress.reading import Reading
from deployments.openai_api.chat import check_chat
from deployments.openai_api.embeddings import check_embedding_request
from deployments.openai_api.sizes import MOST_FIELDS, MOST_MESSAGE_FIELDS, MOST_MESSAGES, MOST_PARTS, MOST_TOOLS
from deployments.service.auth import ANONYMOUS
from deployments.strict_json import quick, texts
from deployments.strict_json.sliced import parse_in_slices
from tests.clock import run_virtually
from tests.unit.test_failover import in_world
from tests.unit.world import REQUEST, World

BODY = json.dumps(REQUEST).encode()
MEGABYTE = 1024 * 1024


def request(parts: AsyncIterator[bytes], **headers: str) -> Request:
    async def receive() -> dict[str, Any]:
        async for part in parts:
            return {"type": "http.request", "body": part, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def slowly(*parts: bytes, pause: float, ends: bool = True) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(pause)
        yield part
    if not ends:
        await asyncio.sleep(3600)


def test_a_body_that_stands_still_or_never_ends_is_cut() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for parts, seconds in (
            (slowly(b"{", pause=0, ends=False), SILENCE_SECONDS),
            (slowly(pause=0, ends=False), SILENCE_SECONDS),
            (slowly(*[b" "] * 1000, pause=SILENCE_SECONDS * 0.9), MOST_SECONDS),
        ):
            read, began = Bodies(), loop.time()
            with pytest.raises(BodyTooSlow):
                await read.read_object(request(parts))
            assert loop.time() - began == pytest.approx(seconds)
            assert (read.in_flight.held, read.in_flight.arriving) == (0, set())

    run_virtually(main())


def test_a_body_that_comes_slowly_but_comes_is_read() -> None:
    async def main() -> None:
        parts = [BODY[at : at + 20] for at in range(0, len(BODY), 20)]
        value, held = await Bodies().read_object(request(slowly(*parts, pause=SILENCE_SECONDS * 0.9)))
        assert (value, held.size) == (REQUEST, len(BODY))

    run_virtually(main())


def test_the_largest_that_still_arrives_makes_room_and_one_that_comes_at_once_is_read() -> None:
    async def main() -> None:
        read = Bodies(BytesInFlight(10 * MEGABYTE))
        part = b" " * MEGABYTE
        endless = [
            asyncio.create_task(read.read_object(request(slowly(*[part] * size, pause=0.001, ends=False))))
            for size in (2, 3, 4)
        ]
        await asyncio.sleep(1)
        large = asyncio.create_task(read.read_object(request(slowly(*[part] * 2, BODY, pause=0.001))))
        value, held = await large
        assert value == REQUEST
        assert [task.done() for task in endless] == [False, False, True]
        with pytest.raises(TooBusy) as refused:
            await endless[2]
        assert refused.value.retry_after
        held.release()
        for task in endless[:2]:
            with pytest.raises(BodyTooSlow):
                await task
        assert (read.in_flight.held, read.in_flight.arriving) == (0, set())

    run_virtually(main())


def test_a_body_that_is_the_largest_itself_is_refused_and_the_others_go_on() -> None:
    async def main() -> None:
        read = Bodies(BytesInFlight(4 * MEGABYTE))
        kept = [(await read.read_object(request(slowly(b" " * MEGABYTE, BODY, pause=0))))[1] for _ in range(3)]
        with pytest.raises(TooBusy):
            await read.read_object(request(slowly(*[b" " * MEGABYTE] * 2, BODY, pause=0)))
        for held in kept:
            held.release()
            held.release()  # the second time it changes nothing
        assert read.in_flight.held == 0

    run_virtually(main())


def test_a_body_of_many_parts_is_not_copied_as_a_whole() -> None:
    size = 16 * MEGABYTE

    async def sent() -> AsyncIterator[bytes]:
        for _ in range(size // MEGABYTE):
            yield b" " * MEGABYTE
        yield BODY

    async def main() -> int:
        tracemalloc.start()
        value, _ = await Bodies().read_object(request(sent()))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert value == REQUEST
        return most

    assert run_virtually(main()) < 1.3 * size


def test_a_long_text_is_not_copied_in_one_step() -> None:
    data = b'{"a":"' + b"x" * (4 * MEGABYTE) + b'"}'
    assert sum(1 for _ in parse_in_slices(data)) >= 2 * len(data) // texts.SLICE


def test_nothing_is_held_after_any_end() -> None:
    async def gone() -> AsyncIterator[bytes]:
        yield b"{"
        raise ClientDisconnect

    async def main() -> None:
        read = Bodies()
        cases: list[tuple[AsyncIterator[bytes], dict[str, str], type[Exception]]] = [
            (slowly(b"{", pause=0), {}, BadRequest),
            (slowly(b"[]", pause=0), {}, BadRequest),
            (slowly(b"[" * 100_000, pause=0), {}, BadRequest),
            (slowly(BODY, pause=0), {"content_encoding": "gzip"}, BadRequest),
            (slowly(BODY, pause=0), {"content_encoding": "br"}, BreakwaterError),
            (slowly(*[b" " * MEGABYTE] * 33, pause=0), {}, TooLarge),
            (gone(), {}, ClientDisconnect),
        ]
        for parts, headers, error in cases:
            with pytest.raises(error):
                await read.read_object(request(parts, **headers))
            assert (read.in_flight.held, read.in_flight.arriving) == (0, set())
        cancelled = asyncio.create_task(read.read_object(request(slowly(b"{", pause=0, ends=False))))
        await asyncio.sleep(1)
        assert read.in_flight.held == 1
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert (read.in_flight.held, read.in_flight.arriving) == (0, set())

    run_virtually(main())


def test_others_get_their_turn_while_a_large_body_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "AT_FULL_SPEED", 10**9)
    data = b'{"a":[' + b"[]," * 60_000 + b"0]}"

    async def main() -> int:
        read = asyncio.create_task(Bodies().read_object(request(slowly(data, pause=0))))
        turns = 0
        while not read.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(read.result()[0]["a"]) == 60_001
        return turns

    assert run_virtually(main()) > 1000


def test_one_large_body_is_parsed_at_a_time_and_small_ones_pass_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "AT_FULL_SPEED", 10**9)
    data = b'{"a":[' + b"[]," * 30_000 + b"0]}"
    assert not quick.is_quick(data)

    async def main() -> list[str]:
        read, ended = Bodies(), list[str]()

        async def one(name: str, body: bytes) -> None:
            await read.read_object(request(slowly(body, pause=0)))
            ended.append(name)

        await asyncio.gather(*(one(f"large {n}", data) for n in range(3)), one("small", BODY))
        return ended

    assert run_virtually(main()) == ["small", "large 0", "large 1", "large 2"]


MESSAGE = {"role": "user", "content": "x"}
PART = {"type": "text", "text": "x"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOO_MANY: list[tuple[str | None, dict[str, Any]]] = [
    ("messages", {"messages": [MESSAGE] * (MOST_MESSAGES + 1)}),
    ("messages", {"messages": [{"role": "user", "content": [PART] * (MOST_PARTS // 2)}] * 3}),
    ("messages", {"messages": [{"role": "assistant", "tool_calls": [CALL] * (MOST_PARTS + 1)}]}),
    ("messages", {"messages": [{**MESSAGE, **{f"x{n}": n for n in range(MOST_MESSAGE_FIELDS)}}]}),
    ("tools", {"messages": [MESSAGE], "tools": [{"type": "function"}] * (MOST_TOOLS + 1)}),
    ("functions", {"messages": [MESSAGE], "functions": [{}] * (MOST_TOOLS + 1)}),
    (None, {"messages": [MESSAGE], **{f"x{n}": n for n in range(MOST_FIELDS)}}),
]


@pytest.mark.parametrize(("field", "body"), TOO_MANY)
def test_more_parts_than_a_request_may_have_are_refused_by_name(field: str | None, body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        check_chat({"model": "row", **body})
    assert (refused.value.param, refused.value.code) == (field, "array_above_max_length")
    assert "at most" in str(refused.value)


def test_the_most_that_a_request_may_have_is_taken() -> None:
    messages = [{"role": "user", "content": [PART, PART]}] * MOST_MESSAGES
    assert check_chat({"model": "row", "messages": messages, "tools": [{"type": "function"}] * MOST_TOOLS})
    tokens = check_embedding_request({"model": "row", "input": [[1] * 8192] * 30})
    assert len(tokens.body["input"]) == 30


@in_world
async def test_a_body_is_held_until_its_request_is_over_and_a_streams_until_its_last_frame(w: World) -> None:
    bodies = Bodies()
    asking, in_flight = Asking(w.service), bodies.in_flight
    reading = Reading(w.service, asking, bodies, lambda _: None)
    chat = reading.handler("http", Handlers(w.service, asking, bodies).chat)

    async def asked(body: dict[str, Any]) -> Response:
        data = json.dumps(body).encode()
        answering = asyncio.create_task(chat(request(slowly(data, pause=0)), ANONYMOUS))
        await asyncio.sleep(0.5)
        assert in_flight.held == len(data), "while its provider is asked"
        return await answering

    for script in w.hop.providers.values():
        script.seconds = 1.0
    whole = await asked(REQUEST)
    assert (whole.status_code, in_flight.held) == (200, 0)

    stream, frames = await asked({**REQUEST, "stream": True}), list[int]()
    assert in_flight.held > 0

    async def send(message: MutableMapping[str, Any]) -> None:
        frames.append(in_flight.held)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing more is read")

    await stream({"type": "http"}, receive, send)
    assert (min(frames) > 0, in_flight.held) == (True, 0)

    w.provider("aws").ends = [Outcome("bad_request", status=400)]
    for body in ({**REQUEST, "stream": True}, REQUEST):
        with pytest.raises(NoAnswer):
            await asked(body)
        assert in_flight.held == 0
