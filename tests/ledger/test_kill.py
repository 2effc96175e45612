"""kill -9 of a real process that writes rows: what it had said it did is in the store, once."""

import asyncio
import os
import pathlib
import random
import signal
import subprocess
import sys

import pytest
from sqlalchemy import select

from actors.ledger.journal.orphans import orphans
from actors.ledger.single_writer.writer import LedgerWriter
from actors.ledger.store import LedgerStore
from actors.ledger.tables import ATTEMPTS, REQUESTS
from tests.checkouts import EARLIER, ROOT, checkout


def killed_at_random(folder: pathlib.Path, seed: int, root: pathlib.Path = ROOT) -> tuple[set[str], set[str]]:
    """What a writer had opened, and what it had settled, when it was killed. `root` is the checkout of its code."""
    command = [sys.executable, "-P", str(pathlib.Path(__file__).parent / "writer.py"), str(folder), str(seed)]
    read, write = os.pipe()
    writer = subprocess.Popen(command, cwd=folder.parent, env={"PYTHONPATH": str(root)}, stdout=write)
    os.close(write)
    left = random.Random(seed).randint(1, 40_000)
    said = b""
    while left > 0 and (some := os.read(read, min(left, 65_536))):
        said += some
        left -= len(some)
    writer.send_signal(signal.SIGKILL)
    while some := os.read(read, 65_536):
        said += some
    os.close(read)
    assert writer.wait(10) == -signal.SIGKILL
    words = [line.split() for line in said.decode().splitlines()]
    return {w[1] for w in words if w[0] == "o"}, {w[1] for w in words if w[0] == "s"}


def adopted(folder: pathlib.Path, desks: int = 1) -> None:
    """So many actors look for orphans at the same time."""

    async def main() -> None:
        config = {"url": f"sqlite:///{folder / 'usage.sqlite3'}", "journals": str(folder / "journal")}
        made = [LedgerWriter(config) for _ in range(desks)]
        for _ in range(5):  # one that finds the store locked for long leaves a journal to its next patrol
            await asyncio.gather(*(desk.patrol() for desk in made))
            if not any((folder / "journal").iterdir()):
                break
        for desk in made:
            await desk.configure({})

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_every_row_that_a_killed_writer_opened_is_adopted_once(tmp_path: pathlib.Path, seed: int) -> None:
    adopted_once(tmp_path, *killed_at_random(tmp_path / "journal", seed))


@pytest.mark.parametrize("seed", range(3))
def test_so_is_every_row_of_a_killed_writer_of_an_earlier_version(tmp_path: pathlib.Path, seed: int) -> None:
    earlier = checkout(EARLIER, tmp_path)
    adopted_once(tmp_path, *killed_at_random(tmp_path / "journal", seed, earlier))


def adopted_once(tmp_path: pathlib.Path, opened: set[str], settled: set[str]) -> None:
    assert opened
    adopted(tmp_path, desks=2)
    assert list(orphans(tmp_path / "journal")) == []
    store = LedgerStore(f"sqlite:///{tmp_path / 'usage.sqlite3'}")
    with store.reading() as connection:
        requests = connection.execute(select(REQUESTS.c.request_id)).scalars().all()
        rows = connection.execute(select(ATTEMPTS.c.request_id, ATTEMPTS.c.state)).all()
    store.close()
    names = [name for name, _ in rows]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(requests)
    # It may have been killed between a deed and its word.
    assert opened <= set(names)
    assert len(set(names) - opened) <= 1
    done = {name for name, state in rows if state == "settled"}
    assert settled <= done
    assert len(done - settled) <= 1
    assert {state for _, state in rows} <= {"settled", "lost"}
