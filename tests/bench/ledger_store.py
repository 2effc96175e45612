"""How many requests a second the ledger's store takes, and how long what a console asks takes.

    uv run python -m tests.bench.ledger_store [URL [ROWS]]

Without a URL it is a new SQLite file; `postgres` is a server of its own; with the URL of another the tables of the
ledger are dropped first. A request is two lines, as an ingress writes them: open, then settled. Batches are of 200
requests; the figures are medians.
"""

import contextlib
import itertools
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import create_engine, text

from actors.ledger.questions.asked import asked
from actors.ledger.questions.requests import requests_page
from actors.ledger.questions.traffic import traffic
from actors.ledger.questions.usage import usage
from actors.ledger.rows import SETTLED, AttemptRow, Record, RequestRow, day_of
from actors.ledger.store import DAY_MS, LedgerStore
from actors.ledger.tables import METADATA
from tests.bench.ledger_fill import fill_on_the_server
from tests.ledger.conftest import own_server

BATCH, ROUNDS, DAYS_BACK = 200, 15, 30
AT_ONCE = 2000
ON_THE_SERVER = 1_000_000  # rows from which on PostgreSQL makes them itself
NOW = 1_790_000_000_000
TENANTS, AGENTS, KEYS = 200, 3, 2
TARGETS = [("openai", "gpt-4.1"), ("aws", "haiku"), ("aws", "opus"), ("google", "flash")]
NUMBERS = itertools.count()
TRAIL = json.dumps([{"provider": "openai", "model": "gpt-4.1", "outcome": "ok", "message": "." * 200}])
DAY = NOW // DAY_MS * DAY_MS / 1000
QUESTIONS: dict[str, tuple[dict[str, object], list[str]]] = {
    "all": ({}, []),
    "last hour by tenant": ({"since": NOW / 1000 - 3600}, ["tenant"]),
    "last 24 hours by provider, model": ({"since": NOW / 1000 - 86_400}, ["provider", "model"]),
    "last 24 hours of one tenant by agent": ({"since": NOW / 1000 - 86_400, "tenant": "t7"}, ["agent"]),
    "last 30 days by tenant": ({"since": DAY - 29 * 86_400}, ["tenant"]),
    "last 30 days by day": ({"since": DAY - 29 * 86_400}, ["day"]),
    "last 30 days of one tenant by day, model": ({"since": DAY - 29 * 86_400, "tenant": "t7"}, ["day", "model"]),
    "last 30 days by key": ({"since": DAY - 29 * 86_400}, ["key"]),
}
LISTS: dict[str, dict[str, object]] = {
    "the newest": {},
    "the newest of one tenant": {"tenant": "t7"},
    "the newest of nobody: 50,000 are looked at": {"tenant": "nobody"},
    "the newest that failed": {"outcome": "failed"},
    "the newest that failed over and took long": {"failed_over": True, "slower_than_ms": 499},
    "the newest of ten days ago": {"until": NOW / 1000 - 10 * 86_400},
}


def requests(number: int, began: int = NOW, spread: int = 0) -> Iterator[tuple[Record, Record]]:
    """Yield a request as it is opened and as it has ended; they began within `spread` milliseconds."""
    for n in itertools.islice(NUMBERS, number):
        began += spread // number
        provider, model = random.choice(TARGETS)
        tenant = f"t{random.randrange(TENANTS)}"
        whose = {
            "request_id": f"0123456789abcdef-{n:x}",
            "owner": "0123456789abcdef",
            "tenant": tenant,
            "agent": f"a{random.randrange(AGENTS)}",
            "key_name": f"{tenant}-k{random.randrange(KEYS)}",
            "began_at": began,
        }
        target = {"number": 1, "provider": provider, "model": model, "day": day_of(began), "asked_at": began}
        ended = {"version": SETTLED, "state": "settled", "ended_at": began + 500}
        used = {"tokens_in": 812, "tokens_out": 233, "counted": "provider", "cost": 3_488_000, "ms": 501.25}
        yield (
            Record(RequestRow(**whose), AttemptRow(**whose, **target)),
            Record(
                RequestRow(**whose, **ended, **times(), outcome="ok", provider=provider, model=model, attempts=1),
                AttemptRow(**whose, **target, **ended, **used, kind="ok", content=True, first_ms=180.5),
            ),
        )


def times() -> dict[str, Any]:
    """Return times that differ as real ones do, and the trail of an attempt: it is the larger part of a row."""
    first = random.lognormvariate(5.5, 0.7)
    added = random.lognormvariate(0.7, 0.5)
    return {"stream": True, "first_ms": round(first, 2), "added_ms": round(added, 2), "trail": TRAIL}


def written(store: LedgerStore, *, opened_before: bool) -> float:
    """Requests a second. What is short has ended when its batch is cut: then one line is enough for it."""
    made = list(requests(BATCH))
    began = time.perf_counter()
    if opened_before:
        store.write([opened for opened, _ in made])
    store.write([settled for _, settled in made])
    return BATCH / (time.perf_counter() - began)


def fill(store: LedgerStore, rows: int) -> None:
    if store.dialect == "postgresql" and rows >= ON_THE_SERVER:
        return fill_on_the_server(store, rows, NOW, DAYS_BACK)
    begin, spread = NOW - DAYS_BACK * DAY_MS, DAYS_BACK * DAY_MS // max(1, rows // AT_ONCE)
    for number in range(rows // AT_ONCE):  # in the order of time, as they come
        store.write([settled for _, settled in requests(AT_ONCE, begin + number * spread, spread)])
    with store._writer.begin() as connection:
        connection.execute(text("ANALYZE"))  # as PostgreSQL does by itself within a minute


def median_of(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def report(store: LedgerStore, rows: int) -> None:
    for behind in dict.fromkeys((0, rows)):
        began = time.perf_counter()
        fill(store, behind)
        print(f"{behind:,} requests are there ({time.perf_counter() - began:.0f} s)")
        for opened_before in (False, True):
            speed = median_of([written(store, opened_before=opened_before) for _ in range(ROUNDS)])
            print(f"  {speed:8,.0f} requests/s, {'open, then settled' if opened_before else 'settled within a batch'}")
    for name, (filters, group_by) in QUESTIONS.items():
        ms, groups = timed(lambda f=filters, g=group_by: usage(store, f, g))
        print(f"  {ms:8.1f} ms, {len(groups):5} groups: {name}")
    for name, filters in LISTS.items():
        ms, page = timed(lambda f=filters: requests_page(store, asked(f, limit=50)))
        print(f"  {ms:8.1f} ms, {len(page['data']):5} requests: {name}")
    ms, spans = timed(lambda: traffic(store, NOW))
    print(f"  {ms:8.1f} ms, {spans['day']['totals']['requests']:5} requests in a day: traffic")


def timed(question: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median of milliseconds, and the answer."""
    times, answer = [], None
    for _ in range(5):
        began = time.perf_counter()
        answer = question()
        times.append(time.perf_counter() - began)
    return median_of(times) * 1000, answer


def main() -> None:
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    random.seed(1)
    url = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = stack.enter_context(own_server()).url if url == "postgres" else url
        url = f"sqlite:///{pathlib.Path(folder) / 'usage.sqlite3'}" if url == "sqlite" else url
        if not url.startswith("sqlite"):
            with create_engine(url).begin() as connection:
                for table in METADATA.tables:
                    connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
        store = LedgerStore(url)
        store.start()
        report(store, rows)
        store.close()


if __name__ == "__main__":
    main()
