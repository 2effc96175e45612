"""Saving a state that changes, over a store that may hang or refuse. On a virtual clock."""

import asyncio

import pytest

from actors.checkpoint_writer import SAVE_SECONDS, CheckpointWriter
from tests.clock import run_virtually


class Store:
    """Takes the newest version, after `free` is set; `broken` refuses."""

    def __init__(self) -> None:
        self.version, self.held, self.writes = 1, list[int](), 0
        self.free, self.broken = asyncio.Event(), False
        self.free.set()
        self.writer = CheckpointWriter(lambda: self.version, self.write)

    async def write(self) -> None:
        version = self.version
        self.writes += 1
        await self.free.wait()
        await asyncio.sleep(0.001)
        if self.broken:
            raise OSError("no room")
        self.held.append(version)

    async def change(self) -> float:
        """Save a new version; how many seconds that took."""
        self.version += 1
        began = asyncio.get_running_loop().time()
        await self.writer.save(self.version)
        return asyncio.get_running_loop().time() - began


def test_when_a_change_has_been_saved_the_store_holds_it() -> None:
    async def main() -> None:
        store = Store()
        for _ in range(3):
            await store.change()
            assert store.held[-1] == store.version == store.writer.saved

    run_virtually(main())


def test_what_is_saved_is_not_written_again() -> None:
    async def main() -> None:
        store = Store()
        await store.change()
        for _ in range(5):
            await store.writer.save(store.version)
        assert store.writes == 1

    run_virtually(main())


def test_changes_during_a_write_wait_for_the_next_one_and_share_it() -> None:
    async def main() -> None:
        store = Store()
        await asyncio.gather(*(store.change() for _ in range(50)))
        assert store.held[-1] == store.version
        assert store.writes <= 2

    run_virtually(main())


def test_a_change_that_comes_while_an_older_state_is_written_waits_for_its_own_write() -> None:
    async def main() -> None:
        store = Store()
        first = asyncio.create_task(store.change())
        await asyncio.sleep(0.0005)
        await store.change()
        assert store.held == [2, 3]
        await first

    run_virtually(main())


def test_a_store_that_hangs_costs_one_change_a_second_and_the_next_ones_nothing() -> None:
    async def main() -> None:
        store = Store()
        store.free.clear()
        assert await store.change() == pytest.approx(SAVE_SECONDS)
        assert [await store.change() for _ in range(100)] == [0] * 100
        assert store.writes == 1
        store.free.set()
        await asyncio.sleep(0.01)

    run_virtually(main())


def test_a_store_that_is_back_holds_the_newest_state_without_a_further_change() -> None:
    async def main() -> None:
        store = Store()
        store.free.clear()
        for _ in range(10):
            await store.change()
        store.free.set()
        await asyncio.sleep(1)
        assert store.held == [2, 11]
        assert await store.change() == pytest.approx(0.001)

    run_virtually(main())


def test_a_store_that_refuses_holds_nobody_up_and_is_tried_again_by_the_next_save() -> None:
    async def main() -> None:
        store = Store()
        store.broken = True
        assert await store.change() < 0.01
        assert store.held == []
        store.broken = False
        await store.writer.save(store.version)
        await asyncio.sleep(0.01)
        assert store.held == [2]

    run_virtually(main())


def test_an_absence_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store = Store()
        store.broken = True
        for _ in range(5):
            await store.change()
        store.broken = False
        for _ in range(5):
            await store.change()
            await asyncio.sleep(0.01)

    run_virtually(main())
    assert [record.getMessage() for record in caplog.records] == [
        "The checkpoint could not be written (no room). The actor goes on, and tries again.",
        "The checkpoint is written again.",
    ]
