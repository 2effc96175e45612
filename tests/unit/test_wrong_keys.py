"""What wrong keys cost: those who guess wait, those who have a key never do, and nothing grows."""

import asyncio
from typing import Any

import pytest

from deployments.ingress.http import CHAT, build_http_api
from deployments.keys.wrong_keys import FREE, LONGEST, MEMORY_SECONDS, MOST_ADDRESSES, MOST_HELD, WrongKeys, _network
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED
from tests.unit.test_routes import Unread
from tests.unit.world import World, world


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "a,b")
    monkeypatch.setenv("ADMIN", "root")


async def knock(w: World, app: Any, key: str | None, address: str = "10.0.0.1", path: str = "/v1/models") -> float:
    """Ask by a key from an address, and return the seconds until the answer."""
    caller = Unread("GET", path, {} if key is None else {"authorization": key if " " in key else f"Bearer {key}"})
    caller.scope["client"] = (address, 1)
    began = asyncio.get_running_loop().time()
    await app(caller.scope, caller.receive, caller.send)
    assert caller.status in (200, 401)
    return asyncio.get_running_loop().time() - began


def with_app(test: Any) -> None:
    async def main() -> None:
        async with world(GUARDED) as w:
            await test(w, build_http_api(w.service))

    run_virtually(main())


def test_those_who_guess_wait_longer_and_longer_up_to_a_limit() -> None:
    async def test(w: World, app: Any) -> None:
        waits = [round(await knock(w, app, f"guess-{n}"), 3) for n in range(FREE + 8)]
        assert waits == [0] * FREE + [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST, LONGEST, LONGEST]
        await asyncio.sleep(MEMORY_SECONDS + 1)
        assert await knock(w, app, "guess") == 0

    with_app(test)


def test_a_right_key_never_waits_though_its_address_guesses() -> None:
    async def test(w: World, app: Any) -> None:
        for n in range(FREE + 5):
            await knock(w, app, f"guess-{n}")
        guesses = [asyncio.create_task(knock(w, app, f"more-{n}")) for n in range(50)]
        await asyncio.sleep(0.01)
        assert [await knock(w, app, key) for key in ("a", "b")] == [0, 0]
        assert await knock(w, app, "root", path="/v1/breaker") == 0
        assert await knock(w, app, "guess", address="10.0.0.2") == 0, "others are not its matter"
        assert not any(guess.done() for guess in guesses)
        await asyncio.gather(*guesses)

    with_app(test)


def test_an_address_that_a_client_claims_is_not_believed() -> None:
    async def test(w: World, app: Any) -> None:
        waits = []
        for n in range(FREE + 2):
            caller = Unread("GET", "/v1/models", {"authorization": "Bearer guess", "x-forwarded-for": f"10.0.0.{n}"})
            caller.scope["client"] = (f"10.0.0.{n}", 0)  # as Serve's server takes it from the header
            began = asyncio.get_running_loop().time()
            await app(caller.scope, caller.receive, caller.send)
            waits.append(round(asyncio.get_running_loop().time() - began, 3))
        assert waits == [0] * FREE + [0.1, 0.2]

    with_app(test)


def test_what_is_no_guess_does_not_count() -> None:
    async def test(w: World, app: Any) -> None:
        for _ in range(FREE + 3):
            assert await knock(w, app, None) == 0
            assert await knock(w, app, "Basic abc") == 0
            assert await knock(w, app, "a", path="/v1/breaker") == 0, "a key that is known, where it opens nothing"
            assert await knock(w, app, "root") == 0
        assert await knock(w, app, "guess") == 0

    with_app(test)


def test_an_admin_key_is_not_guessed_faster() -> None:
    async def test(w: World, app: Any) -> None:
        waits = [round(await knock(w, app, f"guess-{n}", path="/v1/breaker"), 3) for n in range(FREE + 2)]
        assert waits == [0] * FREE + [0.1, 0.2]

    with_app(test)


def test_so_many_answers_wait_and_no_more() -> None:
    async def main() -> None:
        wrong = WrongKeys()
        for _ in range(FREE + 10):
            wrong.count("10.0.0.1", 0.0)
        waiting = [asyncio.create_task(wrong.hold("10.0.0.1")) for _ in range(MOST_HELD + 20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wrong.held == MOST_HELD
        assert sum(task.done() for task in waiting) == 20
        waiting[0].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert wrong.held == 0

    run_virtually(main())


def test_addresses_are_bounded_and_the_longest_silent_goes() -> None:
    wrong = WrongKeys()
    for _ in range(FREE):
        wrong.count("first", 0.0)
    for n in range(MOST_ADDRESSES - 1):
        wrong.count(str(n), 0.0)
    assert wrong.count("first", 0.0) > 0
    wrong.count("one more", 0.0)
    assert len(wrong._tallies) == MOST_ADDRESSES
    assert "first" in wrong._tallies
    assert "0" not in wrong._tallies


def test_a_customers_whole_ipv6_network_is_one_address() -> None:
    assert _network("2001:db8:1:2:aaaa::1") == _network("2001:db8:1:2:bbbb::2") == "2001:db8:1:2::/64"
    assert _network("2001:db8:1:3::1") != _network("2001:db8:1:2::1")
    assert [_network(text) for text in ("10.0.0.1", "", "testclient")] == ["10.0.0.1", "", "testclient"]


def test_a_wrong_key_asks_no_provider_and_its_body_is_not_read() -> None:
    async def test(w: World, app: Any) -> None:
        for n in range(FREE + 2):
            caller = Unread("POST", CHAT, {"authorization": f"Bearer {n}", "content-type": "application/json"})
            await app(caller.scope, caller.receive, caller.send)
            assert caller.status == 401
        assert w.provider("aws").calls == 0

    with_app(test)
