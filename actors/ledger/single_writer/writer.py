"""The single writer: it takes the lines of all ingress replicas into the store, and keeps the true counters. No Ray.

- The store's work is done in a thread, one transaction at a time; all batches that wait go into one.
- A batch is acknowledged when it is committed. While the store is away the answer says so at once, and
  the rows stay in the replicas' journals: nothing waits here.
- The journals of dead replicas on this machine are recovered; open rows of a replica that nobody has
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
from dataclasses import dataclass
from typing import Any

from actors.ledger.budget import Change, Counters
from actors.ledger.heartbeats import Heard, MissingJournal
from actors.ledger.journal.orphans import Orphan, orphans
from actors.ledger.messages import (
    KEEP_ALL,
    SENT,
    Claims,
    FoundRequest,
    StoreConfig,
    UsageRow,
    Viewer,
    WriteAnswer,
    WriterHealth,
)
from actors.ledger.questions.answers import Ground, answer
from actors.ledger.questions.usage import found, usage
from actors.ledger.rows import Record, month_of
from actors.ledger.single_writer.leases import Leases
from actors.ledger.single_writer.purging import pieces
from actors.ledger.single_writer.reading import parse
from actors.ledger.store import QUESTION_SECONDS, READERS, LedgerStore, refuses

log = logging.getLogger(__name__)

Run = Callable[..., Awaitable[Any]]

LOST_AFTER_SECONDS = 600.0  # of silence; a replica that lives is heard every few seconds
PATROL_SECONDS = 5.0
REREAD_SECONDS = 60.0
CHUNK = 256 * 1024
PURGES = 20  # transactions in one patrol, of each sort


def in_thread(threads: int = 1) -> Run:
    """Return a function that runs calls in threads of its own: with one, one after the other."""
    executor = ThreadPoolExecutor(threads)

    def run(work: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    return run


@dataclass(slots=True)
class _Batch:
    """Lines of one journal on their way into the store."""

    data: bytes
    done: asyncio.Future[bool]
    rejected: int = 0  # lines


class LedgerWriter:
    """The single writer of the store. Questions go by threads of their own."""

    def __init__(
        self,
        config: StoreConfig,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        writing: Run | None = None,
        reading: Run | None = None,
    ):
        self._wall, self._clock = wall, clock
        self._writing, self._reading = writing or in_thread(), reading or in_thread(READERS)
        self._config = config
        self._store: LedgerStore | None = None  # the writing thread's, once it is of our version
        self._counters = Counters()
        self._leases = Leases()
        self._trouble: str | None = "it was not opened yet"
        self._waiting: list[_Batch] = []
        self._queued: dict[tuple[str, int], _Batch] = {}
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._began = clock()
        self._reread_at = self._began + REREAD_SECONDS
        self._heard = Heard(self._began)
        self._rejected_lines = self._refused_rows = self._lost_rows = self._recovered_journals = 0

    async def configure(self, config: StoreConfig) -> None:
        """Take another store, if it is another."""
        if config != self._config:
            self._config = config
            async with self._turn:
                await self._writing(self._leave, "another store was configured")

    async def write(
        self,
        replica: str,
        number: int,
        data: bytes,
        subjects: Claims | Sequence[str] = (),
        host: str | None = None,
        *more: bytes,
    ) -> WriteAnswer:
        """Take a batch of lines. Return whether it is committed, and the totals and leases of these subjects.

        A replica of an earlier version names its subjects and claims nothing: it has no leases.
        A batch that is sent again while it still waits is not written twice; number 0 has no identity.
        Without lines it is a sign of life. `host` is where the replica runs, if it will say that it leaves. `more` goes
        on with the data: a long argument would come by Ray's object store.
        """
        self._heard.hear(replica, host, self._clock())
        key = (replica, number)
        batch = self._queued.get(key)
        if batch is None:
            batch = _Batch(b"".join((data, *more)) if more else data, asyncio.get_running_loop().create_future())
            self._waiting.append(batch)
            if number:
                self._queued[key] = batch
                batch.done.add_done_callback(lambda _: self._queued.pop(key, None))
            if self._writer is None:
                self._writer = asyncio.create_task(self._write_all())
        written = await asyncio.shield(batch.done)
        store = "up" if written else "down"
        answer: WriteAnswer = {"number": number, "store": store, "totals": {}, "rejected": batch.rejected}
        answer["missing"], answer["takes_more"] = len(self._heard.missing), True
        if written:
            answer["totals"] = self._counters.totals(subject for subject in subjects if subject != SENT)
            if isinstance(subjects, Mapping):
                leased = self._leases.answer(replica, subjects, self._counters, self._clock())
                answer["leases"], answer["recalled"] = leased
        return answer

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batches, self._waiting = self._waiting, []
                written = await self._attempted(self._commit, batches)
                for batch in batches:
                    batch.done.set_result(written)
        finally:
            self._writer = None

    async def bury(self, replica: str) -> bool:
        """Settle as lost what this replica has left open: it is gone, and its journal is written.

        Return whether the store took it.
        """
        if not await self._settle(replica):
            return False
        self._heard.forget(replica)  # before the store does: a beat that waits for its turn must not write it again
        return await self._attempted(self._forget, replica)

    async def _settle(self, replica: str) -> bool:
        settled = await self._attempted(self._settle_as_lost, replica)
        if settled:
            self._leases.drop(replica)
        return settled

    async def usage(self, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[UsageRow]:
        """Return rows as questions.usage does, and raise what it raises; ConnectionError while the store is away.

        Filters with a `question` are another question: see questions/answers.py.
        """
        until = time.monotonic() + QUESTION_SECONDS  # the threads have no virtual clock
        store = await self._here()
        if "question" not in filters:
            return list(await self._reading(usage, store, filters, group_by, until))
        now = int(self._wall() * 1000)
        seen = self._counters.seen(month_of(now)) if filters["question"] == "limits" else ()
        ground = Ground(store, self._counters, seen, now, until)
        return list(await self._reading(answer, ground, filters))

    async def request(self, name: str, viewer: Viewer | None = None) -> FoundRequest | None:
        """Return the rows of one request: see questions.usage.found. Raises ConnectionError while the store is away."""
        rows: FoundRequest | None = await self._reading(found, await self._here(), name, viewer)
        return rows

    async def _here(self) -> LedgerStore:
        if self._store is None:
            await self._attempted(self._commit, [])
        if self._store is None:
            raise ConnectionError(f"The ledger's store can't be used: {self._trouble}")
        return self._store

    async def health(self) -> WriterHealth:
        return {
            "store": "down" if self._trouble else "up",
            "trouble": self._trouble,
            "dialect": self._store.dialect if self._store else None,
            "replicas": len(self._heard),
            "waiting_batches": len(self._waiting),
            "rejected_lines": self._rejected_lines,
            "refused_rows": self._refused_rows,
            "lost_rows": self._lost_rows,
            "adopted_journals": self._recovered_journals,
            "missing_journals": list(self._heard.missing),
        }

    async def patrol(self) -> None:
        """Recover what dead replicas have left. To be called every `PATROL_SECONDS`."""
        if (folder := self._config.get("journals")) is not None:
            for orphan in orphans(pathlib.Path(folder)):
                await self._recover(orphan)
        before = self._clock() - LOST_AFTER_SECONDS
        with contextlib.suppress(Exception):  # a store that is away is known from every write
            for owner in await self._writing(self._silent, before):
                await self._settle(owner)  # its journal may still be found
        self._heard.forget_older(before)
        self._leases.keep(set(self._heard))
        if self._heard.is_due(self._clock()):
            await self._beat()
        if self._clock() >= self._reread_at:
            self._reread_at = self._clock() + REREAD_SECONDS
            await self._reread()
        await self.purge()

    async def _beat(self) -> None:
        """Write down whom we have heard, and see whom nobody has."""
        missing: list[MissingJournal] | None = None
        async with self._turn:
            with contextlib.suppress(Exception):  # a store that is away is known from every write
                missing = await self._writing(self._put_beat, self._heard.begin_beat(self._clock()))
        self._heard.end_beat(missing, self._clock())

    async def _reread(self) -> None:
        """Take from the store what a month has cost: others write to it too. Minutes are each actor's own."""
        async with self._turn:
            with contextlib.suppress(Exception):
                counters, others = await self._writing(self._read_counters)
                self._leases.recall(others)
                self._counters.take_months(counters)

    async def purge(self) -> None:
        """Delete what need not be kept, so many rows a patrol, in steps between which the writes have their turn."""
        if self._trouble is not None:
            return  # every write tells of it
        keep = self._config.get("keep", KEEP_ALL)
        for piece in pieces(self._opened, self._wall, keep):
            for _ in range(PURGES):
                async with self._turn:
                    try:
                        if not await self._writing(piece):
                            break
                    except Exception as error:
                        log.warning("The ledger could not delete old rows (%s). It tries again.", _first_line(error))
                        return

    async def _recover(self, orphan: Orphan) -> None:
        try:
            for chunk in orphan.chunks(CHUNK):
                if (await self.write(orphan.owner, 0, chunk))["store"] != "up":
                    return orphan.release()
            if not await self.bury(orphan.owner):
                return orphan.release()
        except BaseException:
            orphan.release()
            raise
        self._recovered_journals += 1
        return orphan.discard()

    async def _attempted(self, work: Callable[..., list[Change]], *arguments: Any) -> bool:
        """Do the work in the store; return whether it took it. One at a time, so that counters and store agree."""
        async with self._turn:
            try:
                moved = await self._writing(work, *arguments)
            except Exception as error:
                if self._trouble is None:
                    log.error(  # noqa: TRY400
                        "The ledger's store does not take rows (%s). They wait in the replicas' journals.",
                        _first_line(error),
                    )
                self._trouble = _first_line(error)
                return False
            for subject, spend in moved:
                self._counters.add(subject, spend)
        self._counters.forget(self._clock())
        if self._trouble is not None:
            log.info("The ledger's store takes rows again.")
        self._trouble = None
        return True

    # In the writing thread; each returns what it adds to the counters.

    def _commit(self, batches: Sequence["_Batch"]) -> list[Change]:
        records: list[Record] = []
        for batch in batches:  # each by itself: what one writer has damaged can't reach into another's lines
            found, batch.rejected = parse(batch.data)
            records += found
        store = self._opened()
        refused = self._refused_rows
        moved = self._known(self._put, store, records) if records else []
        if wrong := sum(batch.rejected for batch in batches):
            log.error("The ledger rejected %d lines of journals: they are no valid rows. The others are kept.", wrong)
            self._rejected_lines += wrong
        if batches:  # whichever replica is told so, it counts them, and the alert fires
            batches[-1].rejected += self._refused_rows - refused
        return list(moved)

    def _put(self, store: LedgerStore, records: Sequence[Record]) -> list[Change]:
        """Write the records. One that the store refuses is found by halves, so that it holds no other back."""
        try:
            moved = store.write(records)
        except Exception as error:
            if not refuses(error):
                raise
            if len(records) == 1:
                return self._refused(records[0], error)
        else:
            if store.late:
                self._refused_rows += store.late
                log.error("%d requests came after their day was deleted, and are in no sum.", store.late)
            return moved
        half = len(records) // 2
        return self._put(store, records[:half]) + self._put(store, records[half:])

    def _refused(self, record: Record, error: Exception) -> list[Change]:
        self._refused_rows += 1
        name = record.request.request_id
        log.error("The store refuses a row of request %s, which is in no sum: %s", name, _first_line(error))
        return []

    def _settle_as_lost(self, owner: str) -> list[Change]:
        lost, moved = self._known(self._opened().settle_as_lost, owner, int(self._wall() * 1000))
        self._lost_rows += lost
        return list(moved)

    def _silent(self, before: float) -> list[str]:
        """Return the replicas with open rows that have not been heard since then."""
        store = self._opened()
        silent = {owner for owner in store.owners_of_open_rows() if self._heard.at(owner, self._began) < before}
        since = int((self._wall() - LOST_AFTER_SECONDS) * 1000)
        return sorted(silent - store.heard_since(since)) if silent else []

    def _put_beat(self, hosts: Mapping[str, str | None]) -> list[MissingJournal]:
        return self._opened().beat(hosts, int(self._wall() * 1000))

    def _forget(self, owner: str) -> list[Change]:
        self._opened().forget(owner)
        return []

    def _opened(self) -> LedgerStore:
        if self._store is None:
            if not self._config["url"]:
                raise ConnectionError(self._config["missing"])
            store = LedgerStore(self._config["url"])
            try:
                store.start()
                self._counters = self._counted(store)
                self._leases.await_claims(store.owners_of_open_rows(), self._clock())
            except BaseException:
                store.close()
                raise
            self._store = store
        return self._store

    def _read_counters(self) -> tuple[Counters, set[str]]:
        """Return the counters as the store has them, and the subjects that have used what we did not know of."""
        counters = self._counted(self._opened())
        return counters, self._counters.costs_otherwise(counters)

    def _counted(self, store: LedgerStore) -> Counters:
        """Return the counters as the store has them, by the newest row: our clock may be ahead of the replicas'."""
        now = int(self._wall() * 1000)
        return store.counters(min(now, store.newest() or now))

    def _known(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do the work; if it fails, reopen the store, because the transaction may have been committed."""
        try:
            return work(*arguments)
        except BaseException:
            self._leave("its last write failed")
            raise

    def _leave(self, trouble: str) -> None:
        if self._store is not None:
            self._store.close()
        self._store, self._trouble = None, self._trouble or trouble


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
