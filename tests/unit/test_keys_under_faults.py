"""Requests that are sent twice, while connections, replicas and the answers actor fail at the worst moments."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from unittest.mock import patch

import pytest

from actors.answers.exchange import SETTLE_SECONDS, Exchange
from deployments.failover.streams.answer import StreamAnswer
from deployments.idempotency.answers_client import AnswersAway, RemoteRun
from deployments.idempotency.wish import fingerprint
from deployments.ingress.responses import EventStream
from tests.clock import VirtualLoop, run_virtually
from tests.unit.test_idempotency import (
    ARGS,
    CHAT,
    KEEPS,
    KEY,
    REQUEST,
    Replicas,
    Reply,
    both,
    die,
    leave,
    run,
    sdk,
)
from tests.unit.world import ScriptedHop

LINGER = {**ARGS, "idempotency": {"linger": 8}}
LONG, SHORT = {"idempotency-key": "long"}, {"x-request-timeout-seconds": "10"}


def faulty(r: Replicas, method: str, *, after: float = 0.0, lost: int = 0) -> None:
    """The actor's answers to a method take a while, or are lost so many times though it has done what was asked."""
    real, left = getattr(r.exchange, method), [lost]

    async def call(*arguments: Any) -> Any:
        answer = await real(*arguments)
        await asyncio.sleep(after)
        if left[0]:
            left[0] -= 1
            raise ConnectionError("the answer was lost")
        return answer

    setattr(r.exchange, method, call)


@contextlib.contextmanager
def slow_to_cancel() -> Iterator[None]:
    """It takes a moment until a provider has let go of a call."""
    complete, stream = ScriptedHop.complete, ScriptedHop.stream

    async def whole(self: Any, *arguments: Any) -> Any:
        try:
            return await complete(self, *arguments)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            raise

    async def streamed(self: Any, *arguments: Any) -> AsyncGenerator[Any, None]:
        source = stream(self, *arguments)
        try:
            async for item in source:
                yield item
        except (asyncio.CancelledError, GeneratorExit):
            await asyncio.sleep(0.05)
            raise

    with patch.object(ScriptedHop, "complete", whole), patch.object(ScriptedHop, "stream", streamed):
        yield


def wordy(r: Replicas, count: int, pace: float) -> None:
    for w in r.worlds:
        w.provider("aws").words, w.provider("aws").pace = [f"w{n} " for n in range(count)], pace


@pytest.mark.parametrize("second", [0, 1])
def test_who_has_more_time_than_the_one_that_it_joined_begins_anew_at_any_replica(second: int) -> None:
    async def test(r: Replicas) -> None:
        r.slow(5.0)
        first = asyncio.create_task(r.ask(0, headers={**KEY, "x-request-timeout-seconds": "2"}))
        await asyncio.sleep(0.3)
        one, two = await asyncio.gather(first, r.ask(second))
        assert (one.status, two.status) == (504, 200)
        assert r.calls < 50

    run(test)


def test_a_request_that_comes_while_a_run_is_let_go_of_begins_anew() -> None:
    async def test(r: Replicas) -> None:
        r.slow(15.0)
        await leave(r, 2.0)
        await asyncio.sleep(8.02)
        r.slow(1.0)
        reply = await r.ask(0)
        assert (reply.status, reply.word) == (200, "new")

    with slow_to_cancel():
        run(test, LINGER)


@pytest.mark.parametrize(("second", "at"), [(0, 8.02), (1, 7.997), (1, 7.9)])
def test_a_stream_that_is_joined_as_it_is_let_go_of_never_looks_whole(second: int, at: float) -> None:
    async def test(r: Replicas) -> None:
        wordy(r, 40, 0.5)
        await leave(r, 2.0, stream=True)
        await asyncio.sleep(at)
        reply = await r.ask(second, stream=True)
        assert reply.body.endswith(b"data: [DONE]\n\n") or b'"error"' in reply.body

    with slow_to_cancel():
        run(test, LINGER)


def test_a_run_that_is_over_does_not_come_back_by_a_question_that_was_under_way() -> None:
    async def test(r: Replicas) -> None:
        r.slow(20.0)
        long = asyncio.create_task(r.ask(0, headers=LONG))
        await asyncio.sleep(0.1)
        r.slow(3.25)
        assert (await r.ask(0)).status == 200
        joined = asyncio.create_task(r.ask(1, headers=LONG))
        await asyncio.sleep(0.5)
        r.slow(1.0)
        again = await r.ask(1, headers={**KEY, **SHORT})
        assert (again.status, again.word) == (200, "new")
        await asyncio.gather(long, joined)

    run(test)


def test_a_client_that_leaves_while_its_key_is_claimed_leaves_no_run_behind() -> None:
    async def test(r: Replicas) -> None:
        r.slow(30.0)
        long = asyncio.create_task(r.ask(0, headers=LONG))
        await asyncio.sleep(0.1)
        faulty(r, "claim", after=0.01)
        await leave(r, 0.005)
        await asyncio.sleep(0.1)
        r.slow(1.0)
        again = await r.ask(1, headers={**KEY, **SHORT})
        assert (again.status, again.word) == (200, "new")
        calls = r.calls
        await asyncio.sleep(5)
        assert r.calls - calls < 20
        await long

    run(test)


@pytest.mark.parametrize("method", ["claim", "end", "put", "read", "watch"])
def test_an_answer_of_the_actor_that_is_lost_costs_nothing(method: str) -> None:
    async def test(r: Replicas) -> None:
        r.slow(20.0)
        long = asyncio.create_task(r.ask(0, headers=LONG))
        await asyncio.sleep(0.1)
        r.slow(2.0)
        faulty(r, method, lost=1)
        one, two = await both(r, 0, 1)
        assert {one.status, two.status} == {200}
        assert one.body == two.body
        await asyncio.sleep(40)
        again = await r.ask(1, headers={**KEY, **SHORT})
        assert (again.status, again.word) == (200, "new")
        await long
        assert r.asked() <= (4 if method == "read" else 3)

    run(test)


def test_a_claim_that_takes_too_long_poisons_no_key() -> None:
    async def test(r: Replicas) -> None:
        r.slow(0.5)
        claim = r.exchange.claim
        faulty(r, "claim", after=12)
        one = await r.ask(0)
        assert (one.status, one.word) == (200, "unavailable")
        r.exchange.claim = claim  # type: ignore[method-assign]
        await asyncio.sleep(10)
        assert (await r.ask(1, headers={**KEY, **SHORT})).status == 200

    run(test)


def test_a_stream_that_a_bug_of_ours_breaks_off_does_not_look_whole() -> None:
    async def test(r: Replicas) -> None:
        wordy(r, 10, 0.1)
        calls, problems = 0, list[str]()

        def encode(_: Any, frames: bytes) -> bytes:
            nonlocal calls
            calls += 1
            if calls > 4:
                raise ValueError
            return frames

        asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told["message"]))
        with patch.object(EventStream, "_encode", encode):
            reply = await r.ask(0, stream=True)
        assert b"stream_interrupted" in reply.body
        await asyncio.sleep(1)
        assert problems == []

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_whose_clients_have_all_left_is_let_go_of_also_those_at_other_replicas(stream: bool) -> None:
    async def test(r: Replicas) -> None:
        r.slow(0.0 if stream else 25.0)
        wordy(r, 400, 1.0)
        one = asyncio.create_task(leave(r, 3.0, stream=stream))
        await asyncio.sleep(0.5)
        two = asyncio.create_task(r.ask(1, stream=stream))
        await asyncio.sleep(0.5)
        two.cancel()
        await one
        await asyncio.sleep(12)
        assert r.worlds[0].provider("aws").cancelled == 1

    run(test, LINGER)


def test_an_sdk_that_lost_its_patience_twice_and_does_not_come_again_is_not_waited_for() -> None:
    async def test(r: Replicas) -> None:
        r.slow(50.0)
        await leave(r, 5.0, sdk(0, 5.0))
        await asyncio.sleep(0.4)
        await leave(r, 5.0, sdk(1, 5.0))
        await asyncio.sleep(9)
        assert r.worlds[0].provider("aws").cancelled == 1

    run(test, LINGER)


@pytest.mark.parametrize(("headers", "seconds"), [(KEY, 3.0), (sdk(1, 600), 4.0)], ids=["a key", "a retry"])
def test_without_the_actor_a_short_deadline_is_kept(headers: dict[str, str], seconds: float) -> None:
    async def test(r: Replicas) -> None:
        r.away = True
        r.slow(0.5)
        began = asyncio.get_running_loop().time()
        reply = await r.ask(0, headers={**headers, "x-request-timeout-seconds": str(seconds)})
        assert reply.status == 200
        assert asyncio.get_running_loop().time() - began < seconds / 2

    run(test)


def test_without_the_actor_two_equal_requests_at_one_replica_are_one() -> None:
    async def test(r: Replicas) -> None:
        r.away = True
        r.slow(2.0)
        await both(r, 0, 0, 0.3)
        assert r.asked() == 1

    run(test)


def test_an_answer_without_a_key_is_kept_for_its_own_retry_alone() -> None:
    async def test(r: Replicas) -> None:
        r.slow(12.0)
        await leave(r, 10.0, sdk(0))
        await asyncio.sleep(0.4)
        assert (await r.ask(1, headers=sdk(1))).word == "joined"
        r.slow(1.0)
        await asyncio.sleep(40)
        assert (await r.ask(1, headers=sdk(1))).word is None

    run(test, KEEPS)


def test_an_answer_that_all_have_got_is_not_kept() -> None:
    async def test(r: Replicas) -> None:
        r.slow(2.0)
        await both(r, 0, 1)
        await asyncio.sleep(5)
        assert (await r.ask(0)).word == "new"

    run(test)


def test_turned_off_no_key_is_looked_at() -> None:
    async def test(r: Replicas) -> None:
        assert (await r.ask(headers={"idempotency-key": "k" * 300})).status == 200

    run(test, {**ARGS, "idempotency": {"join": False}})


def test_a_replica_that_never_asked_before_waits_too_until_a_young_actor_knows_the_runs() -> None:
    async def test(r: Replicas) -> None:
        r.slow(10.0)
        one = asyncio.create_task(r.ask(0))
        await asyncio.sleep(1.2)
        r.away = True
        await asyncio.sleep(0.3)
        r.away, r.exchange = False, Exchange(SETTLE_SECONDS)
        two = await r.ask(1)
        await one
        assert (two.word, r.asked()) == ("joined", 1)

    run(test)


@pytest.mark.parametrize("away", [0.3, 3.0])
def test_an_actor_that_is_away_as_a_run_ends_gets_its_answer_afterwards(away: float) -> None:
    async def test(r: Replicas) -> None:
        r.slow(5.0)
        await leave(r, 2.0)
        await asyncio.sleep(2.9)
        r.away = True
        await asyncio.sleep(away)
        r.away = False
        await asyncio.sleep(4)
        assert (await r.ask(1, headers={**KEY, **SHORT})).word == "replayed"
        assert r.asked() == 1

    run(test)


def test_a_lost_run_hinders_no_other_request_with_its_key() -> None:
    async def test(r: Replicas) -> None:
        r.slow(20.0)
        one = asyncio.create_task(r.ask(0))
        await asyncio.sleep(0.5)
        die(r.worlds[0])
        await asyncio.sleep(8)
        r.slow(1.0)
        assert (await r.ask(1, temperature=0.5)).status == 200
        await one

    run(test)


def test_another_beta_of_anthropics_is_another_request() -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        beta = {**KEY, "anthropic-beta": "context-1m-2025-08-07"}
        one = asyncio.create_task(r.ask(0, path="/v1/messages", headers=beta))
        await asyncio.sleep(0.1)
        assert (await r.ask(0, path="/v1/messages")).status == 422
        await one

    run(test)


def test_a_large_body_is_looked_at_in_slices() -> None:
    url = {"url": "data:image/png;base64," + "A" * 3_000_000}
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]}
    assert len(list(fingerprint(body, {}))) > 40


@pytest.mark.parametrize("stream", [False, True])
def test_with_a_key_an_answer_has_the_form_that_it_has_without_one(stream: bool) -> None:
    async def test(r: Replicas) -> None:
        def form(reply: Reply) -> Any:
            names = [name for name in reply.headers if name != "x-breakwater-idempotent"]
            return reply.status, names, reply.body, reply.ended

        plain, keyed = await r.ask(headers={}, stream=stream), await r.ask(stream=stream)
        assert form(plain) == form(keyed)

    run(test)


@pytest.mark.parametrize("headers", [{}, KEY, sdk(1)], ids=["none", "a key", "a retry"])
def test_a_client_that_stops_to_read_is_not_read_ahead_of(headers: dict[str, str]) -> None:
    """Its provider is let go of after a while, as without a key."""

    async def test(r: Replicas) -> None:
        taken = 0

        class Long(list[Any]):
            def __iter__(self) -> Iterator[Any]:
                nonlocal taken
                for _ in range(1000):
                    taken += 1
                    yield {"content": "x" * 100_000}

        r.worlds[0].provider("aws").deltas, r.worlds[0].provider("aws").pace = Long(), 0.1
        sent = json.dumps({**REQUEST, "stream": True}).encode()
        messages = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(_: Any) -> None:
            nonlocal messages
            messages += 1
            if messages > 2:
                await asyncio.Event().wait()

        given = [(b"content-type", b"application/json"), *((k.encode(), v.encode()) for k, v in headers.items())]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": given, "query_string": b""}
        task = asyncio.create_task(r.apis[0](scope, receive, send))
        await asyncio.sleep(700)
        assert taken < 20
        assert r.worlds[0].provider("aws").cancelled == 1, "after READER_SECONDS"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_the_end_of_a_stream_waits_for_no_provider_that_is_closed() -> None:
    close = StreamAnswer.close

    async def slowly(self: StreamAnswer) -> None:
        await asyncio.sleep(2.0)
        await close(self)

    async def test(r: Replicas) -> None:
        took = []
        for headers in ({}, KEY):
            reply, began = Reply(), asyncio.get_running_loop().time()
            task = asyncio.create_task(r.into(reply, 0, headers, stream=True))
            while not reply.ended:  # noqa: ASYNC110  the clock is virtual
                await asyncio.sleep(0.01)
            took.append(round(asyncio.get_running_loop().time() - began, 1))
            await task
        assert took[0] == took[1]

    with patch.object(StreamAnswer, "close", slowly):
        run(test)


def test_only_so_many_runs_go_on_without_a_client() -> None:
    async def test(r: Replicas) -> None:
        r.slow(20.0)
        await asyncio.gather(*(leave(r, 1.0, {"idempotency-key": f"k{n}"}) for n in range(70)))
        await asyncio.sleep(0.1)
        assert r.worlds[0].provider("aws").cancelled == 6

    run(test)


def test_two_that_come_at_one_instant_to_one_replica_need_nobody_to_read_the_answer() -> None:
    async def test(r: Replicas) -> None:
        r.slow(2.0)
        reads = 0
        real = r.exchange.read

        async def read(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            return await real(*arguments)

        with patch.object(r.exchange, "read", read):
            one, two = await asyncio.gather(r.ask(0), r.ask(0))
        assert sorted([str(one.word), str(two.word)]) == ["joined", "new"]
        assert one.body == two.body
        assert reads == 0

    run(test)


@pytest.mark.parametrize("seconds", [4.0, 30.0])
def test_a_standstill_of_the_actor_ends_no_run(seconds: float) -> None:
    """It has heard nobody meanwhile, which says nothing of them."""

    async def test(r: Replicas) -> None:
        wordy(r, 40, 0.5)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        def stand_still() -> None:
            loop.now += seconds

        loop.call_later(5.0, stand_still)
        one, two = await both(r, 0, 1, 2.0, stream=True)
        assert two.word == "joined"
        assert one.body == two.body
        assert two.body.endswith(b"data: [DONE]\n\n")

    run(test)


def test_an_actor_that_was_away_and_is_slow_is_asked_again() -> None:
    async def test(r: Replicas) -> None:
        r.away = True
        assert (await r.ask(0, headers={"idempotency-key": "while-it-is-away"})).word == "unavailable"
        r.away = False
        faulty(r, "claim", after=1.8)
        assert (await r.ask(0, headers={"idempotency-key": "once-more"})).word == "unavailable"
        await asyncio.sleep(5.0)
        assert (await r.ask(0)).word == "new"

    run(test)


def test_a_reader_outlasts_two_short_absences_of_the_actor() -> None:
    class Actor:
        def __init__(self) -> None:
            self.began = asyncio.get_running_loop().time()

        async def read(self, run: str, index: int) -> dict[str, Any]:
            now = asyncio.get_running_loop().time() - self.began
            if 3.0 <= now < 3.1 or 30.0 <= now < 30.5:
                raise AnswersAway("killed")
            if now > 60:
                return {"items": [b"x"], "ended": True, "gone": False}
            await asyncio.sleep(1.0)
            return {"items": [], "ended": False, "gone": False}

    async def main() -> Any:
        return await RemoteRun(Actor(), "r").read(0)  # type: ignore[arg-type]

    assert run_virtually(main()) == ([b"x"], True)
