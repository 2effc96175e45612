"""Requests that are sent twice: by a key, and by an SDK that has lost its patience. HTTP without Ray and sockets.

Several replicas are several services over one table of answers.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest

from actors.answers.exchange import SETTLE_SECONDS, Exchange
from actors.answers.table import LEASE_SECONDS
from actors.breaker.outcomes import Outcome
from deployments.idempotency.answers_client import AnswersClient
from deployments.ingress import http
from deployments.ingress.body.bodies import Bodies
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.world import ARGS, REQUEST, World, world

KEEPS = {**ARGS, "idempotency": {"keep": 600}}
KEY = {"idempotency-key": "k1"}
CHAT = "/v1/chat/completions"
MESSAGE = {"model": "default", "max_tokens": 9, "messages": REQUEST["messages"]}
ASKED = {CHAT: REQUEST, "/v1/responses": {"model": "default", "input": "Hi"}, "/v1/messages": MESSAGE}


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False

    @property
    def word(self) -> str | None:
        return self.headers.get("x-breakwater-idempotent")

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass
class Replicas:
    """Several replicas. `exchange` is what they share; it can be away, or be a younger one."""

    worlds: list[World]
    apis: list[Any]
    bodies: list[Bodies]
    exchange: Exchange
    away: bool = False
    calls: int = 0

    async def ask(
        self, replica: int = 0, headers: dict[str, str] = KEY, path: str = CHAT, body: Any = None, **more: Any
    ) -> Reply:
        reply = Reply()
        await self.into(reply, replica, headers, path, body, **more)
        return reply

    async def into(
        self, reply: Reply, replica: int, headers: dict[str, str], path: str = CHAT, body: Any = None, **more: Any
    ) -> None:
        sent = json.dumps({**(ASKED[path] if body is None else body), **more}).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")
                reply.ended = not message.get("more_body", False)

        given = [(b"content-type", b"application/json"), *((k.encode(), v.encode()) for k, v in headers.items())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": given, "query_string": b""}
        await self.apis[replica](scope, receive, send)

    def asked(self) -> int:
        """Return how many calls the providers have had."""
        return sum(script.calls for w in self.worlds for script in w.hop.providers.values())

    def slow(self, seconds: float) -> None:
        for w in self.worlds:
            for script in w.hop.providers.values():
                script.seconds = seconds

    async def connect(self) -> Callable[..., Any]:
        async def call(method: str, *arguments: Any) -> Any:
            self.calls += 1
            await asyncio.sleep(0.002)  # as over a process, and no loop without an end goes by unseen
            if self.away:
                raise ConnectionError("killed")
            return await getattr(self.exchange, method)(*arguments)

        if self.away:
            raise ConnectionError("killed")
        return call


@contextlib.asynccontextmanager
async def replicas(args: dict[str, Any], count: int = 2) -> AsyncIterator[Replicas]:
    found = Replicas([], [], [Bodies() for _ in range(count)], Exchange())
    async with contextlib.AsyncExitStack() as stack:
        for bodies in found.bodies:
            made = await stack.enter_async_context(world(args, answers=AnswersClient(found.connect)))
            with patch.object(http, "Bodies", lambda bodies=bodies: bodies):
                found.apis.append(http.build_http_api(made.service))
            found.worlds.append(made)
        yield found
        await asyncio.sleep(120)  # whatever still runs comes to its end
        assert [bodies.in_flight.held for bodies in found.bodies] == [0] * count


def run(test: Callable[[Replicas], Coroutine[Any, Any, None]], args: dict[str, Any] = ARGS, count: int = 2) -> None:
    async def main() -> None:
        async with replicas(args, count) as r:
            await test(r)

    run_virtually(main())


async def both(r: Replicas, first: int, second: int, later: float = 0.3, **more: Any) -> tuple[Reply, Reply]:
    one = asyncio.create_task(r.ask(first, **more))
    await asyncio.sleep(later)
    return await asyncio.gather(one, r.ask(second, **more))


@pytest.mark.parametrize("second", [0, 1], ids=["the same replica", "another replica"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ASKED)
def test_two_requests_with_a_key_are_one_for_the_provider(path: str, stream: bool, second: int) -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        for w in r.worlds:
            w.provider("aws").pace = 0.4
        one, two = await both(r, 0, second, path=path, stream=stream)
        assert (one.word, two.word) == ("new", "joined")
        assert one.status == two.status == 200
        assert one.body == two.body
        assert one.ended
        assert two.ended
        assert r.asked() == 1
        assert one.headers["x-breakwater-request-id"] == two.headers["x-breakwater-request-id"]

    run(test)


def test_who_joins_in_the_middle_of_a_stream_gets_all_of_it() -> None:
    async def test(r: Replicas) -> None:
        for w in r.worlds:
            w.provider("aws").words, w.provider("aws").pace = [f"w{n} " for n in range(40)], 0.1
        for second in (0, 1):
            one, two = await both(r, 0, second, 2.0, stream=True, headers={"idempotency-key": f"s{second}"})
            assert one.body == two.body
            assert one.body.count(b'"content"') >= 40
            assert one.body.endswith(b"data: [DONE]\n\n")

    run(test)


@pytest.mark.parametrize(("key", "same"), [('"k1"', True), ("k1", True), ("k2", False), ('"k 1"', False)])
def test_a_key_in_quotes_is_the_same_key(key: str, same: bool) -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        one = asyncio.create_task(r.ask())
        await asyncio.sleep(0.1)
        two = await r.ask(headers={"idempotency-key": key})
        await one
        assert two.word == ("joined" if same else "new")

    run(test)


@pytest.mark.parametrize("key", ["", '""', "k" * 256, "a b", "ä", 'a"b c', '"a'])
def test_what_is_no_key_is_refused_by_name(key: str) -> None:
    async def test(r: Replicas) -> None:
        reply = await r.ask(headers={"idempotency-key": key})
        assert (reply.status, reply.code) == (400, "invalid_value")
        assert b"idempotency-key" in reply.body
        assert r.asked() == 0

    run(test)


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("when", ["it runs", "it has ended"])
@pytest.mark.parametrize("other", [{"temperature": 0.5}, {"stream": True}, {"user": "x"}])
def test_another_request_with_the_key_is_refused(other: dict[str, Any], when: str, second: int) -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        one = asyncio.create_task(r.ask())
        await asyncio.sleep(0.1 if when == "it runs" else 3)
        two = await r.ask(second, **other)
        assert (two.status, two.code) == (422, "idempotency_key_reused")
        assert (await one).status == 200
        assert r.asked() == 1

    run(test, KEEPS)


def test_the_order_of_its_fields_makes_no_other_request() -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        one = asyncio.create_task(r.ask())
        await asyncio.sleep(0.1)
        assert (await r.ask(1, body=dict(reversed(REQUEST.items())))).word == "joined"
        await one

    run(test)


@pytest.mark.parametrize("header", ["x-breakwater-scope", "x-breakwater-explain", "x-breakwater-drop-unsupported"])
def test_what_else_decides_on_an_answer_makes_another_request(header: str) -> None:
    value = {"x-breakwater-scope": "eu", "x-breakwater-explain": "true"}.get(header, "none")

    async def test(r: Replicas) -> None:
        r.slow(1.0)
        one = asyncio.create_task(r.ask())
        await asyncio.sleep(0.1)
        assert (await r.ask(1, headers={**KEY, header: value})).code == "idempotency_key_reused"
        await one

    run(test)


def test_a_key_is_its_tenants_and_its_routes_own() -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        replies = await asyncio.gather(
            r.ask(headers=KEY | {"x-tenant-id": "one"}),
            r.ask(1, headers=KEY | {"x-tenant-id": "two"}),
            r.ask(1),
            r.ask(0, path="/v1/messages"),
        )
        assert [reply.word for reply in replies] == ["new"] * 4
        assert len({reply.headers["x-breakwater-request-id"] for reply in replies}) == 4
        assert r.asked() == 4

    run(test, KEEPS)


@pytest.mark.parametrize("second", [0, 1])
def test_a_whole_answer_is_kept_for_as_long_as_the_configuration_says(second: int) -> None:
    async def test(r: Replicas) -> None:
        one = await r.ask()
        await asyncio.sleep(590)
        two = await r.ask(second)
        assert (two.word, two.body) == ("replayed", one.body)
        await asyncio.sleep(20)
        assert (await r.ask(second)).word == "new"
        assert r.asked() == 2

    run(test, KEEPS)


def test_by_default_nothing_is_kept_of_an_answer_that_its_client_has_got() -> None:
    async def test(r: Replicas) -> None:
        await r.ask()
        await asyncio.sleep(1)
        assert (await r.ask(1)).word == "new"
        assert r.asked() == 2

    run(test)


FAILURES = {
    "no provider": [SERVER_ERROR],
    "all throttle": [Outcome("throttled", status=429, retry_after=1)],
    "refused": [Outcome("bad_request", status=400, code="bad")],
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_is_not_kept(name: str) -> None:
    async def test(r: Replicas) -> None:
        for script in r.worlds[0].hop.providers.values():
            script.ends = list(FAILURES[name])
        one = await r.ask()
        assert one.status >= 400
        await asyncio.sleep(1)
        two = await r.ask(1)
        assert (two.status, two.word) == (200, "new")

    run(test, KEEPS)


def test_those_who_have_joined_get_the_error_too() -> None:
    async def test(r: Replicas) -> None:
        for w in r.worlds:
            for script in w.hop.providers.values():
                script.ends, script.seconds = [SERVER_ERROR], 0.5
        one, two = await both(r, 0, 1)
        assert one.status == two.status == 503
        assert one.body == two.body
        assert two.word == "joined"

    run(test)


def test_a_stream_that_was_cut_is_not_kept() -> None:
    async def test(r: Replicas) -> None:
        r.worlds[0].provider("aws").ends, r.worlds[0].provider("aws").after = [SERVER_ERROR], 1
        one = await r.ask(stream=True)
        assert b"stream_interrupted" in one.body
        await asyncio.sleep(1)
        two = await r.ask(1, stream=True)
        assert two.word == "new"
        assert two.body.endswith(b"data: [DONE]\n\n")

    run(test, KEEPS)


async def leave(r: Replicas, after: float, headers: dict[str, str] = KEY, **more: Any) -> Reply:
    """Ask the first replica, and break the connection off after so many seconds."""
    reply = Reply()
    task = asyncio.create_task(r.into(reply, 0, headers, **more))
    await asyncio.sleep(after)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return reply


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("back", [1.0, 20.0], ids=["it still runs", "it has ended"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_left_comes_back_for_the_same_answer(stream: bool, back: float, second: int) -> None:
    async def test(r: Replicas) -> None:
        r.slow(5.0)
        await leave(r, 2.0, stream=stream)
        await asyncio.sleep(back)
        reply = await r.ask(second, stream=stream)
        assert reply.status == 200
        assert reply.word == ("joined" if back == 1.0 else "replayed")
        assert r.asked() == 1

    run(test)


def test_a_request_whose_client_does_not_come_back_is_ended_after_a_while() -> None:
    async def test(r: Replicas) -> None:
        r.slow(25.0)
        await leave(r, 2.0)
        await asyncio.sleep(7)
        assert r.worlds[0].provider("aws").cancelled == 0
        await asyncio.sleep(2)
        assert r.worlds[0].provider("aws").cancelled == 1
        await asyncio.sleep(1)
        assert (await r.ask(1)).word == "new"

    run(test, {**ARGS, "idempotency": {"linger": 8}})


def test_a_replica_that_dies_is_followed_by_one_that_takes_over() -> None:
    async def test(r: Replicas) -> None:
        r.slow(20.0)
        reply = Reply()
        first = asyncio.create_task(r.into(reply, 0, KEY))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(r.ask(1))
        await asyncio.sleep(1.0)
        die(r.worlds[0])
        r.slow(1.0)
        began = asyncio.get_running_loop().time()
        answer = await second
        assert (answer.status, answer.word) == (200, "taken_over")
        assert asyncio.get_running_loop().time() - began < LEASE_SECONDS + 3
        assert (await first) is None

    run(test)


def die(w: World) -> None:
    """Nothing that this replica says comes to the others any more."""

    async def silent(*_: Any) -> Any:
        raise ConnectionError("killed")

    w.service.sharing._answers._actor = silent
    w.service.sharing._answers._connect = silent  # type: ignore[method-assign, assignment]


BROKEN = {CHAT: b'data: {"error":', "/v1/messages": b"event: error\n", "/v1/responses": b"event: error\n"}


@pytest.mark.parametrize("path", BROKEN)
def test_a_stream_whose_replica_dies_ends_with_an_error_frame(path: str) -> None:
    async def test(r: Replicas) -> None:
        for w in r.worlds:
            w.provider("aws").words, w.provider("aws").pace = [f"w{n} " for n in range(100)], 0.2
        first = asyncio.create_task(r.ask(0, path=path, stream=True))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(r.ask(1, path=path, stream=True))
        await asyncio.sleep(1.0)
        die(r.worlds[0])
        answer = await second
        assert answer.ended
        assert b"w1 " in answer.body
        assert BROKEN[path] in answer.body.split(b"w1 ")[-1]
        assert b"[DONE]" not in answer.body
        assert (await first).status == 200

    run(test)


def test_without_the_actor_a_request_with_a_key_is_answered_and_told_so() -> None:
    async def test(r: Replicas) -> None:
        r.away = True
        r.slow(2.0)
        one, two = await both(r, 0, 0, 10.5)
        assert (one.status, one.word) == (200, "unavailable")
        assert (two.status, two.word) == (200, "joined"), "the same replica needs no actor"
        assert r.asked() == 1

    run(test)


def test_without_the_actor_it_is_refused_where_the_configuration_says_so() -> None:
    async def test(r: Replicas) -> None:
        r.away = True
        reply = await r.ask()
        assert (reply.status, reply.code) == (503, "unavailable")
        assert reply.headers["retry-after"]
        assert r.asked() == 0

    run(test, {**ARGS, "idempotency": {"unavailable": "refuse"}})


def test_a_younger_actor_hears_of_the_runs_before_others_can_claim_their_keys() -> None:
    async def test(r: Replicas) -> None:
        r.slow(10.0)
        one = asyncio.create_task(r.ask())
        await asyncio.sleep(1)
        two = asyncio.create_task(r.ask(1))
        await asyncio.sleep(1)
        r.away = True
        await asyncio.sleep(1.5)
        r.away, r.exchange = False, Exchange(SETTLE_SECONDS)
        three = asyncio.create_task(r.ask(1))
        replies = await asyncio.gather(one, two, three)
        assert [reply.word for reply in replies] == ["new", "joined", "joined"]
        assert len({reply.body for reply in replies}) == 1
        assert r.asked() == 1

    run(test)


def sdk(retry: int, seconds: float = 10.0) -> dict[str, str]:
    return {"x-stainless-retry-count": str(retry), "x-stainless-read-timeout": str(seconds)}


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("takes", [12.0, 10.2], ids=["it still runs", "it has ended"])
@pytest.mark.parametrize("path", ASKED)
def test_an_sdk_that_lost_its_patience_joins_its_own_first_try(path: str, takes: float, second: int) -> None:
    async def test(r: Replicas) -> None:
        r.slow(takes)
        await leave(r, 10.0, sdk(0), path=path, model="solo")
        await asyncio.sleep(0.4)
        reply = await r.ask(second, headers=sdk(1), path=path, model="solo")
        assert reply.status == 200
        assert reply.word == ("joined" if takes == 12.0 else "replayed")
        assert r.asked() == 1

    run(test)


def test_an_sdk_may_lose_its_patience_twice() -> None:
    async def test(r: Replicas) -> None:
        r.slow(12.0)
        await leave(r, 5.0, sdk(0, 5.0), model="solo")
        await asyncio.sleep(0.4)
        await leave(r, 5.0, sdk(1, 5.0), model="solo")
        await asyncio.sleep(0.8)
        reply = await r.ask(1, headers=sdk(2, 5.0), model="solo")
        assert (reply.status, reply.word) == (200, "joined")
        assert r.asked() == 1

    run(test)


def test_a_client_that_leaves_before_its_patience_ends_has_cancelled() -> None:
    async def test(r: Replicas) -> None:
        r.slow(12.0)
        await leave(r, 4.0, sdk(0))
        await asyncio.sleep(0.1)
        assert r.worlds[0].provider("aws").cancelled == 1

    run(test)


def test_equal_requests_without_a_key_are_two_requests() -> None:
    async def test(r: Replicas) -> None:
        r.slow(12.0)
        one, two = await both(r, 0, 0, headers=sdk(0), model="solo")
        assert one.word is two.word is None
        assert r.asked() == 2

    run(test)


def test_a_retry_of_an_error_is_a_new_try() -> None:
    async def test(r: Replicas) -> None:
        for script in r.worlds[0].hop.providers.values():
            script.ends = [SERVER_ERROR]
        assert (await r.ask(headers=sdk(0))).status == 503
        reply = await r.ask(1, headers=sdk(1))
        assert (reply.status, reply.word) == (200, None)

    run(test)


@pytest.mark.parametrize("headers", [{}, sdk(0, 600.0), {"x-stainless-retry-count": "0"}])
def test_a_request_that_carries_no_key_asks_nobody(headers: dict[str, str]) -> None:
    async def test(r: Replicas) -> None:
        reply = await r.ask(headers=headers)
        assert (reply.status, reply.word) == (200, None)
        assert r.calls == 0

    run(test)


def test_turned_off_a_key_means_nothing() -> None:
    async def test(r: Replicas) -> None:
        r.slow(1.0)
        one, two = await both(r, 0, 0)
        assert one.word is two.word is None
        assert r.asked() == 2
        assert r.calls == 0

    run(test, {**ARGS, "idempotency": {"join": False}})


def test_a_request_with_more_time_than_the_one_that_it_joined_begins_anew() -> None:
    async def test(r: Replicas) -> None:
        r.slow(5.0)
        short = {**KEY, "x-request-timeout-seconds": "2"}
        one, two = await asyncio.gather(r.ask(0, headers=short), r.ask(1))
        assert {one.status, two.status} == {504, 200}
        assert r.asked() >= 2

    run(test)


def test_who_joins_waits_no_longer_than_its_own_deadline() -> None:
    async def test(r: Replicas) -> None:
        r.slow(20.0)
        one = asyncio.create_task(r.ask(0))
        await asyncio.sleep(0.2)
        began = asyncio.get_running_loop().time()
        two = await r.ask(1, headers={**KEY, "x-request-timeout-seconds": "2"})
        assert (two.status, two.code) == (504, "deadline_exceeded")
        assert asyncio.get_running_loop().time() - began < 2.5
        assert (await one).status == 200

    run(test)


def test_many_with_one_key_at_many_replicas_are_one() -> None:
    async def test(r: Replicas) -> None:
        r.slow(3.0)
        replies = await asyncio.gather(*(r.ask(n % 4) for n in range(40)))
        assert len({reply.body for reply in replies}) == 1
        assert sorted(reply.word or "" for reply in replies) == ["joined"] * 39 + ["new"]
        assert r.asked() == 1

    run(test, count=4)


@pytest.mark.parametrize(("seconds", "provider"), [(10.0, "openai"), (600.0, "aws")])
def test_an_sdk_that_waits_for_ten_seconds_gets_an_answer_within_them(seconds: float, provider: str) -> None:
    """The first provider takes 8 s: half of what the client waits for is not enough for it."""

    async def test(r: Replicas) -> None:
        r.worlds[0].provider("aws").seconds = 8.0
        reply = await r.ask(0, headers=sdk(0, seconds))
        assert reply.headers["x-breakwater-provider"] == provider

    run(test)


def test_the_last_provider_may_take_longer_than_its_client_waits() -> None:
    async def test(r: Replicas) -> None:
        r.slow(12.0)
        solo = {"model": "solo"}
        await leave(r, 10.0, sdk(0), **solo)
        await asyncio.sleep(0.4)
        assert (await r.ask(1, headers=sdk(1), **solo)).word == "joined"
        assert r.asked() == 1

    run(test)
