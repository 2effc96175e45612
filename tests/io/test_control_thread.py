"""The thread for calls that may hang: what its callers wait for, and what they never wait for."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from actors.control_thread import WAIT_SECONDS, ControlStoreAway, ControlThread


class Store:
    """Hangs until it is let go, and counts its calls."""

    def __init__(self) -> None:
        self.free, self.calls, self.threads = threading.Event(), 0, set[str]()

    def ask(self) -> int:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        assert self.free.wait(30)
        return self.calls


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.free.set()


async def refused(control: ControlThread, store: Store, name: str = "ask") -> float:
    """How long it takes to hear that the store is away."""
    began = time.monotonic()
    with pytest.raises(ControlStoreAway):
        await control.run(name, store.ask)
    return time.monotonic() - began


def test_a_call_that_hangs_costs_the_first_asker_a_second_and_the_next_ones_nothing(store: Store) -> None:
    async def main() -> None:
        control = ControlThread()
        assert WAIT_SECONDS - 0.1 < await refused(control, store) < WAIT_SECONDS + 1
        for _ in range(20):
            assert await refused(control, store) < 0.2

    asyncio.run(main())
    assert store.calls == 1


def test_however_often_it_is_asked_one_call_of_a_name_waits_and_one_thread_works(store: Store) -> None:
    async def main() -> None:
        control, before = ControlThread(), threading.active_count()
        askers = [asyncio.create_task(refused(control, store, name)) for name in ("ask", "kill") * 50]
        await asyncio.gather(*askers)
        assert threading.active_count() == before + 1
        store.free.set()
        assert await control.run("ask", store.ask, patient=True) >= 1

    asyncio.run(main())
    assert store.calls <= 3


def test_who_asks_while_a_call_is_under_way_gets_its_answer(store: Store) -> None:
    async def main() -> list[int]:
        control = ControlThread()
        askers = [asyncio.create_task(control.run("ask", store.ask)) for _ in range(10)]
        await asyncio.sleep(0)
        store.free.set()
        return await asyncio.gather(*askers)

    assert asyncio.run(main()) == [1] * 10


def test_a_store_that_is_back_is_asked_anew(store: Store) -> None:
    async def main() -> None:
        control = ControlThread()
        await refused(control, store)
        store.free.set()
        await control.run("ask", store.ask, patient=True)
        before = store.calls
        assert await control.run("ask", store.ask) == before + 1

    asyncio.run(main())


def test_what_a_call_raises_comes_to_its_asker_and_the_thread_goes_on() -> None:
    async def main() -> None:
        control = ControlThread()
        with pytest.raises(ValueError, match="invalid literal"):
            await control.run("number", lambda: int("x"))
        assert await control.run("number", lambda: int("7")) == 7

    asyncio.run(main())


def test_an_asker_that_is_cancelled_leaves_the_call_to_the_others(store: Store) -> None:
    async def main() -> int:
        control = ControlThread()
        gone = asyncio.create_task(control.run("ask", store.ask))
        other = asyncio.create_task(control.run("ask", store.ask))
        await asyncio.sleep(0)
        gone.cancel()
        store.free.set()
        return await other

    assert asyncio.run(main()) == 1
