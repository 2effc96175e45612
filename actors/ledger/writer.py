"""Where the lines of all ingress replicas arrive: one writer to the store, and the true counters. No Ray.

- The store's work is done in a thread, one transaction at a time; all batches that wait go into one.
- A batch is acknowledged when it is committed. While the store is away the answer says so at once, and
  the rows stay in the replicas' journals: nothing waits here.
- The journals of dead replicas on this machine are taken over; open rows of a replica that nobody has
  heard of for long, wherever it was, are settled as lost.

It must not drop a row that a store could hold.
"""

import asyncio
import contextlib
import logging
import pathlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.ledger.budget import MINUTE, Change, Counters
from actors.ledger.journal import Orphan, orphans
from actors.ledger.queries import found, usage
from actors.ledger.rows import parse
from actors.ledger.store import LedgerStore

log = logging.getLogger(__name__)

Run = Callable[..., Awaitable[Any]]

LOST_AFTER_SECONDS = 600.0  # of silence; a replica that lives is heard every few seconds
PATROL_SECONDS = 5.0
CHUNK = 256 * 1024


def in_thread() -> Run:
    """A thread of its own: what is run goes one after the other."""
    executor = ThreadPoolExecutor(1)

    def run(work: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    return run


class LedgerDesk:
    """`config` is `{url, journals}`: SQLAlchemy's URL, and the folder of this machine's journals or None.

    Without a URL there is no store, and `missing` says why.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        writing: Run | None = None,
        reading: Run | None = None,
    ):
        self._wall, self._clock = wall, clock
        self._writing, self._reading = writing or in_thread(), reading or in_thread()
        self._config = dict(config)
        self._store: LedgerStore | None = None  # the writing thread's, once it is of our version
        self._counters = Counters()
        self._trouble: str | None = "not opened yet"
        self._waiting: list[tuple[bytes, asyncio.Future[bool]]] = []
        self._queued: dict[tuple[str, int], asyncio.Future[bool]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._began = clock()
        self._heard: dict[str, float] = {}
        self._figures = {"rejected_lines": 0, "lost_rows": 0, "adopted_journals": 0}

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Take another store, if it is another."""
        if dict(config) != self._config:
            self._config = dict(config)
            async with self._turn:
                await self._writing(self._leave, "another store is configured")

    async def write(self, replica: str, number: int, data: bytes, subjects: Sequence[str] = ()) -> dict[str, Any]:
        """Take a batch of lines; `{number, store, totals}`, the latter of the subjects that were asked for.

        A batch that is sent again while it still waits is not written twice; number 0 has no identity.
        Without lines it is a sign of life.
        """
        self._heard[replica] = self._clock()
        key = (replica, number)
        done = self._queued.get(key)
        if done is None:
            done = asyncio.get_running_loop().create_future()
            self._waiting.append((data, done))
            if number:
                self._queued[key] = done
                done.add_done_callback(lambda _: self._queued.pop(key, None))
            if self._writer is None:
                self._writer = asyncio.create_task(self._write_all())
        written = await asyncio.shield(done)
        totals = self._counters.totals(subjects) if written else {}
        return {"number": number, "store": "up" if written else "down", "totals": totals}

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batches, self._waiting = self._waiting, []
                written = await self._attempted(self._commit, b"".join(data for data, _ in batches))
                for _, done in batches:
                    done.set_result(written)
        finally:
            self._writer = None

    async def bury(self, replica: str) -> bool:
        """Settle as lost what this replica has left open: it is dead, and its journal is written."""
        self._heard.pop(replica, None)
        return await self._attempted(self._bury, replica)

    async def usage(self, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[dict[str, Any]]:
        """See ledger_usage. Raises UnknownQuestion, and ConnectionError while the store is away."""
        return list(await self._reading(usage, await self._here(), filters, group_by))

    async def request(self, name: str) -> dict[str, Any] | None:
        """One request: see ledger_usage.found. Raises ConnectionError while the store is away."""
        rows: dict[str, Any] | None = await self._reading(found, await self._here(), name)
        return rows

    async def _here(self) -> LedgerStore:
        if self._store is None:
            await self._attempted(self._commit, b"")
        if self._store is None:
            raise ConnectionError(f"the ledger's store is away: {self._trouble}")
        return self._store

    async def health(self) -> dict[str, Any]:
        return {
            "store": "down" if self._trouble else "up",
            "trouble": self._trouble,
            "dialect": self._store.dialect if self._store else None,
            "replicas": len(self._heard),
            "waiting_batches": len(self._waiting),
            **self._figures,
        }

    async def patrol(self) -> None:
        """Take over what the dead have left. To be called every `PATROL_SECONDS`."""
        if (folder := self._config.get("journals")) is not None:
            for orphan in orphans(pathlib.Path(folder)):
                await self._adopt(orphan)
        before = self._clock() - LOST_AFTER_SECONDS
        with contextlib.suppress(Exception):  # a store that is away is known from every write
            for owner in await self._writing(self._silent, before):
                await self.bury(owner)
        self._heard = {owner: at for owner, at in self._heard.items() if at >= before}

    async def _adopt(self, orphan: Orphan) -> None:
        try:
            for chunk in orphan.chunks(CHUNK):
                if (await self.write(orphan.owner, 0, chunk))["store"] != "up":
                    return orphan.release()
            if not await self.bury(orphan.owner):
                return orphan.release()
        except BaseException:
            orphan.release()
            raise
        self._figures["adopted_journals"] += 1
        return orphan.discard()

    async def _attempted(self, work: Callable[..., list[Change]], *arguments: Any) -> bool:
        """Did the store take it? One at a time, so that counters and store say the same."""
        async with self._turn:
            try:
                moved = await self._writing(work, *arguments)
            except Exception as error:
                if self._trouble is None:
                    log.error("alarm: the ledger's store is away, rows wait in the journals: %s", error)  # noqa: TRY400
                self._trouble = f"{type(error).__name__}: {error}".splitlines()[0]
                return False
            for subject, spend in moved:
                self._counters.add(subject, spend)
        self._counters.forget(int(self._wall() * 1000) - MINUTE)
        if self._trouble is not None:
            log.info("the ledger's store is here")
        self._trouble = None
        return True

    # In the writing thread; each answers what it adds to the counters.

    def _commit(self, data: bytes) -> list[Change]:
        records, wrong = parse(data)
        store = self._opened()
        moved = self._known(store.write, records) if records else []
        if wrong:
            log.error("alarm: %d lines of a journal are no rows", wrong)
            self._figures["rejected_lines"] += wrong
        return list(moved)

    def _bury(self, owner: str) -> list[Change]:
        lost, moved = self._known(self._opened().bury, owner, int(self._wall() * 1000))
        self._figures["lost_rows"] += lost
        return list(moved)

    def _silent(self, before: float) -> list[str]:
        """Replicas with open rows that nobody has heard of since then."""
        owners = self._opened().owners_of_open_rows()
        return [owner for owner in owners if self._heard.get(owner, self._began) < before]

    def _opened(self) -> LedgerStore:
        if self._store is None:
            if not self._config["url"]:
                raise ConnectionError(self._config["missing"])
            store = LedgerStore(self._config["url"])
            try:
                store.start()
                self._counters = store.counters(int(self._wall() * 1000))
            except BaseException:
                store.close()
                raise
            self._store = store
        return self._store

    def _known(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What may have been committed or not is asked of the store again."""
        try:
            return work(*arguments)
        except BaseException:
            self._leave("the last write failed")
            raise

    def _leave(self, trouble: str) -> None:
        if self._store is not None:
            self._store.close()
        self._store, self._trouble = None, self._trouble or trouble
