"""A conversation's next turn goes where its prompt is in a cache, if that target is allowed and healthy."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import BadRequest, NoAnswer
from deployments.ingress.asking import session_in
from deployments.openai_api.chat import check_request
from deployments.sessions.affinity import MOST_SESSIONS, Affinity, session_key
from deployments.usage.caller import Caller, check_caller
from tests.clock import run_virtually
from tests.unit.world import ARGS, REQUEST, World, world

ROW = ["a/x", "b/x", "c/x"]
KEY = session_key("acme", "k", "row", "one")


def served(*turns: tuple[float, str]) -> Affinity:
    affinity = Affinity()
    for at, target in turns:
        affinity.preferred(KEY, ROW, at)
        affinity.served(KEY, target, at)
    return affinity


def test_who_has_served_it_is_asked_first_while_the_prompt_is_in_its_cache() -> None:
    affinity = served((1000, "b/x"))
    assert affinity.preferred(KEY, ROW, 1299) == "b/x"
    assert affinity.preferred(KEY, ROW, 1300) is None


def test_it_goes_home_while_its_prompt_is_in_the_cache_there_too() -> None:
    affinity = served((1000, "a/x"), (1100, "b/x"))
    assert affinity.preferred(KEY, ROW, 1200) == "a/x"
    assert affinity.preferred(KEY, ROW, 1300) == "b/x"


def test_it_stays_away_from_home_for_an_hour_at_most() -> None:
    affinity = served(*((1000 + 100 * turn, "b/x") for turn in range(36)))
    assert affinity.preferred(KEY, ROW, 4600) == "b/x"
    affinity.served(KEY, "b/x", 4600)
    assert affinity.preferred(KEY, ROW, 4601) is None
    affinity.served(KEY, "a/x", 4601)
    affinity.served(KEY, "b/x", 4950)
    assert affinity.preferred(KEY, ROW, 5000) == "b/x"


def test_who_fails_is_forgotten_and_the_first_of_the_row_is_first_in_any_case() -> None:
    affinity = served((1000, "b/x"))
    affinity.failed(KEY, "b/x")
    assert affinity.preferred(KEY, ROW, 1001) is None
    affinity.failed(session_key(None, None, "row", "unknown"), "b/x")
    affinity = served((1000, "a/x"), (1001, "b/x"))
    affinity.failed(KEY, "a/x")
    assert affinity.preferred(KEY, ROW, 1002) == "a/x"


def test_a_target_that_can_not_take_this_request_is_not_preferred() -> None:
    assert served((1000, "b/x")).preferred(KEY, ["a/x", "c/x"], 1001) is None


def test_no_two_tenants_keys_rows_or_names_share_a_session() -> None:
    words = [("acme", "k", "row", "one"), ("bolt", "k", "row", "one"), ("acme", "j", "row", "one")]
    words += [("acme", "k", "other", "one"), ("acme", "k", "row", "two")]
    assert len({session_key(*each) for each in words}) == len(words)
    assert b"acme" not in KEY


def test_sessions_are_remembered_within_a_bound_and_the_newest_stay() -> None:
    affinity = Affinity()
    for number in range(MOST_SESSIONS + 100):
        affinity.served(session_key(None, None, "row", str(number)), "b/x", 1000)
    assert len(affinity) == MOST_SESSIONS
    assert affinity.preferred(session_key(None, None, "row", "0"), ROW, 1001) is None
    assert affinity.preferred(session_key(None, None, "row", str(MOST_SESSIONS)), ROW, 1001) == "b/x"


def test_zero_seconds_remember_nothing() -> None:
    affinity = Affinity(0)
    affinity.served(KEY, "b/x", 1000)
    assert (affinity.preferred(KEY, ROW, 1000), len(affinity)) == (None, 0)


# In the whole service: rows of aws, openai and local, in this order.

SERVER_ERROR, FILTERED = Outcome("server_error", status=500), Outcome("content_filter", status=400)


def in_world(test: Callable[[World], Awaitable[None]], **args: Any) -> None:
    async def main() -> None:
        async with world({**ARGS, **args}) as w:
            await test(w)

    run_virtually(main())


async def ask(w: World, session: str | None = "one", tenant: str | None = None, **body: Any) -> str:
    caller = Caller("http", tenant, session=session)
    answer = await w.service.complete(check_request({**REQUEST, **body}), w.service.deadline(), caller)
    return answer.target.partition("/")[0]


async def moved(w: World, **more: Any) -> None:
    """The session has gone to openai, because aws failed once."""
    w.provider("aws").ends = [SERVER_ERROR, None]
    assert await ask(w, **more) == "openai"


def test_a_failover_moves_the_session_and_no_other() -> None:
    async def test(w: World) -> None:
        await moved(w)
        assert await ask(w) == "openai"
        assert await ask(w, None) == "aws"
        assert await ask(w, "two") == "aws"
        assert await ask(w, tenant="bolt") == "aws"

    in_world(test)


def test_openais_own_field_names_a_session_too() -> None:
    async def test(w: World) -> None:
        await moved(w, session=None, prompt_cache_key="thread")
        assert await ask(w, None, prompt_cache_key="thread") == "openai"
        assert await ask(w, None, prompt_cache_key="another") == "aws"

    in_world(test)


def test_it_brings_back_nobody_who_is_not_healthy() -> None:
    async def test(w: World) -> None:
        await moved(w)
        await w.service.breaker.call("command", "isolate", "openai", 600.0)
        await w.settle()
        assert await ask(w) == "aws"

    in_world(test)


def test_a_failure_where_it_was_sends_it_home() -> None:
    async def test(w: World) -> None:
        await moved(w)
        w.provider("openai").ends = [SERVER_ERROR, None]
        assert await ask(w) == "aws"
        assert await ask(w) == "aws"

    in_world(test)


def test_the_local_model_holds_no_session() -> None:
    async def test(w: World) -> None:
        w.provider("aws").ends, w.provider("openai").ends = [SERVER_ERROR, None], [SERVER_ERROR, None]
        assert await ask(w) == "local"
        assert await ask(w) == "aws"

    in_world(test)


def test_what_no_provider_is_to_blame_for_forgets_nothing() -> None:
    async def test(w: World) -> None:
        await moved(w)
        w.provider("openai").ends = [FILTERED, None]
        with pytest.raises(NoAnswer):
            await ask(w)
        assert await ask(w) == "openai"

    in_world(test)


def test_it_can_be_switched_off() -> None:
    async def test(w: World) -> None:
        await moved(w)
        assert await ask(w) == "aws"

    in_world(test, affinity={"seconds": 0})


def test_the_explanation_says_whose_cache_was_preferred() -> None:
    async def test(w: World) -> None:
        await moved(w)
        caller = Caller("http", session="one")
        answer = await w.service.complete(check_request(REQUEST), w.service.deadline(), caller)
        assert answer.record.summary is not None
        told = json.loads(answer.record.summary.candidates_json)
        assert [each["provider"] for each in told if each.get("session")] == ["openai"]

    in_world(test)


@pytest.mark.parametrize("session", ["", "x" * 257, 7])
@pytest.mark.parametrize(("door", "name"), [("http", "x-breakwater-session"), ("handle", "session")])
def test_what_is_no_name_of_a_session_is_refused(session: Any, door: str, name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_caller(Caller(door, session=session), None)
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ([(b"x-session-id", b"talk")], "talk"),
        ([(b"x-breakwater-session", b""), (b"x-session-id", b"talk")], "talk"),
        ([(b"x-session-id", b"")], None),
        ([(b"x-session-id", b"first"), (b"x-session-id", b"second")], "first"),
        ([], None),
    ],
)
def test_an_empty_header_names_no_conversation(headers: list[tuple[bytes, bytes]], session: str | None) -> None:
    """A proxy sends it where its variable is not set."""
    assert session_in(dict(reversed(headers))) == session
