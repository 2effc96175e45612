"""Names that clients choose are looked up in threads of their own: a stranger's slow names hold up nobody else."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from deployments.routing.name_lookups import MOST, MOST_OF_CALLER, MOST_OF_SITE, NameLookups, site_of

PATIENCE = 20.0  # seconds: more than any machine needs; nothing here waits for it


class Names:
    """Names of the site `slow` hang until they are let go; all others have an address at once."""

    def __init__(self) -> None:
        self.free, self.lock = threading.Event(), threading.Condition()
        self.now, self.most, self.all = Counter[str](), Counter[str](), 0

    def __call__(self, host: str, port: int) -> list[str]:
        kind = "slow" if "slow" in host else "quick"
        with self.lock:
            self.now[kind] += 1
            self.lock.notify_all()
            self.most[kind] = max(self.most[kind], self.now[kind])
            self.all += 1
        try:
            if kind == "slow":
                assert self.free.wait(PATIENCE)
            if "missing" in host:
                raise OSError("no such name")
            return ["93.184.216.34"]
        finally:
            with self.lock:
                self.now[kind] -= 1

    def wait_for(self, kind: str, number: int) -> None:
        """Return when so many look-ups of a kind are under way."""
        with self.lock:
            assert self.lock.wait_for(lambda: self.now[kind] == number, PATIENCE)


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.free.set()


def begin(tasks: list[asyncio.Task[Any]], works: list[Coroutine[Any, Any, Any]]) -> None:
    tasks += [asyncio.create_task(work) for work in works]


async def until(names: Names, kind: str, number: int) -> None:
    await asyncio.to_thread(names.wait_for, kind, number)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "name-lookup"]


def join() -> None:
    for thread in threads():
        thread.join(PATIENCE)


def run(names: Names, test: Any, seconds: float = PATIENCE) -> None:
    async def main() -> None:
        lookups, tasks = NameLookups(names, seconds), list[asyncio.Task[Any]]()
        try:
            await asyncio.wait_for(test(lookups, tasks), PATIENCE)
        finally:
            names.free.set()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(join)
        await asyncio.sleep(0)
        assert [len(places) for places in (lookups._all, lookups._sites, lookups._callers)] == [0, 0, 0]

    asyncio.run(main())


def test_a_hundred_slow_names_of_one_caller_hold_up_neither_another_nor_the_default_threads(names: Names) -> None:
    async def test(lookups: NameLookups, tasks: list[asyncio.Task[Any]]) -> None:
        begin(tasks, [lookups.addresses(f"a.slow{n}.example", 443, "stranger") for n in range(100)])
        await until(names, "slow", MOST_OF_CALLER)
        for n in range(50):
            assert await lookups.addresses(f"cdn{n}.example", 443, "other") == ["93.184.216.34"]
            assert await lookups.addresses("cdn.example", 443) == ["93.184.216.34"]
        assert await asyncio.get_running_loop().run_in_executor(None, lambda: "free") == "free"
        assert names.most["slow"] == MOST_OF_CALLER

    run(names, test)


def test_slow_names_of_one_site_hold_up_no_other_site_though_nobody_knows_who_asks(names: Names) -> None:
    async def test(lookups: NameLookups, tasks: list[asyncio.Task[Any]]) -> None:
        begin(tasks, [lookups.addresses(f"x{n}.slow.example", 443) for n in range(200)])
        await until(names, "slow", MOST_OF_SITE)
        assert await lookups.addresses("cdn.example", 443) == ["93.184.216.34"]
        assert names.most["slow"] == MOST_OF_SITE

    run(names, test)


def test_the_threads_are_bounded_however_many_names_there_are(names: Names) -> None:
    async def test(lookups: NameLookups, tasks: list[asyncio.Task[Any]]) -> None:
        begin(tasks, [lookups.addresses(f"slow{n}.example{n}", 443) for n in range(1000)])
        await until(names, "slow", MOST)
        assert len(threads()) == MOST

    run(names, test)


def test_a_place_stays_taken_until_its_thread_has_ended_though_nobody_waits_any_more(names: Names) -> None:
    async def test(lookups: NameLookups, tasks: list[asyncio.Task[Any]]) -> None:
        begin(tasks, [lookups.addresses(f"x{n}.slow.example", 443) for n in range(MOST_OF_SITE)])
        await until(names, "slow", MOST_OF_SITE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        begin(tasks, [lookups.addresses("y.slow.example", 443)])
        for _ in range(100):
            await asyncio.sleep(0)
        assert names.all == MOST_OF_SITE, "one more thread would be one too many"
        names.free.set()
        assert await tasks[-1] == ["93.184.216.34"]

    run(names, test)


def test_a_look_up_has_a_deadline_its_wait_for_a_thread_included(names: Names) -> None:
    async def test(lookups: NameLookups, tasks: list[asyncio.Task[Any]]) -> None:
        begin(tasks, [lookups.addresses(f"x{n}.slow.example", 443) for n in range(MOST_OF_SITE + 3)])
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in ended} == {TimeoutError}
        assert names.all == MOST_OF_SITE

    run(names, test, seconds=0.2)


def test_what_the_look_up_raises_comes_to_its_asker_and_an_address_needs_no_thread(names: Names) -> None:
    async def test(lookups: NameLookups, tasks: list[asyncio.Task[Any]]) -> None:
        with pytest.raises(OSError, match="no such name"):
            await lookups.addresses("missing.example", 80)
        for address in ("93.184.216.34", "2606:2800:220:1::1"):
            assert await lookups.addresses(address, 80) == [address]
        assert names.all == 1

    run(names, test)


def test_this_machines_own_name_has_an_address() -> None:
    assert "127.0.0.1" in asyncio.run(NameLookups().addresses("localhost", 80))


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("localhost", "localhost"),
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("a.example.de", "example.de"),
        ("x.io", "x.io"),
    ],
)
def test_a_site_is_what_one_owner_answers_for(host: str, site: str) -> None:
    assert site_of(host) == site
