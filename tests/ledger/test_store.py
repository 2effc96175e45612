"""The rows in a real store: each once, whatever is sent, and the figures that are read from them."""

import asyncio
import pathlib
import sqlite3
import threading
import traceback

import pytest
from sqlalchemy import MetaData, select, text
from sqlalchemy.exc import ArgumentError, DataError, OperationalError

from actors.ledger.budget import Spend
from actors.ledger.messages import UnknownQuestion
from actors.ledger.migrations import MIGRATIONS, NewerSchema
from actors.ledger.questions.traffic import traffic
from actors.ledger.questions.usage import usage
from actors.ledger.rollup import digest
from actors.ledger.rows import LOST, day_of
from actors.ledger.single_writer.writer import LedgerWriter
from actors.ledger.store import READERS, LedgerStore, refuses
from actors.ledger.tables import ATTEMPTS, METADATA, MONTHS, REQUESTS, SLOTS
from tests.ledger.conftest import raw
from tests.ledger.rows import NOON, opened, request, settled
from tests.ledger.world import at_once


def rows(store: LedgerStore, table: object = ATTEMPTS) -> list[dict[str, object]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]  # type: ignore[call-overload]


def test_a_row_is_there_before_its_attempt_and_is_settled_once(store: LedgerStore) -> None:
    store.write([opened()])
    assert [row["state"] for row in rows(store)] == ["open"]
    for _ in range(3):
        store.write([settled()])
    assert [(row["state"], row["tokens_in"], row["cost"]) for row in rows(store)] == [("settled", 10, 70)]
    assert [(row["outcome"], row["attempts"]) for row in rows(store, REQUESTS)] == [("ok", 1)]


def test_batches_out_of_order_change_nothing(store: LedgerStore) -> None:
    store.write([settled()])
    store.write([opened()])
    assert [row["state"] for row in rows(store)] == ["settled"]
    assert [row["state"] for row in rows(store, REQUESTS)] == ["settled"]


@pytest.mark.parametrize(
    "name", ["", "NULL", "null", 'a"b', "a\\b", "a\\", "{a,b}", "a,b", " a ", "\t\r\n", "ä€😀", "%s"]
)
def test_a_text_comes_back_as_it_was_written(store: LedgerStore, name: str) -> None:
    store.write([opened(tenant=name, agent=None)])
    store.write([settled(tenant=name, agent=None)])
    assert [(row["tenant"], row["agent"]) for row in rows(store)] == [(name, None)]
    assert [(row["tenant"], row["attempts"]) for row in usage(store, {}, ["tenant"])] == [(name, 1)]


def test_an_absorbed_attempt_is_a_row_of_its_own_under_the_same_request(store: LedgerStore) -> None:
    first = settled(kind="server_error", provider="aws", cost=0, tokens_in=0, tokens_out=0, last=False)
    store.write([opened(), first, opened(number=2), settled(number=2)])
    assert len(rows(store, REQUESTS)) == 1
    assert {(r["provider"], r["kind"]) for r in rows(store)} == {("aws", "server_error"), ("openai", "ok")}
    figures = {row["provider"]: row for row in usage(store, {}, ["provider"])}
    assert (figures["aws"]["failures"], figures["openai"]["answers"]) == (1, 1)


def test_what_a_dead_writer_left_open_is_lost_and_its_true_ending_still_wins(store: LedgerStore) -> None:
    store.write([opened("r1", tokens_out=3, version=2), opened("r2", owner="other")])
    assert store.owners_of_open_rows() == {"replica", "other"}
    assert store.settle_as_lost("replica", NOON + 9)[0] == 2
    assert store.owners_of_open_rows() == {"other"}
    lost = next(row for row in rows(store) if row["request_id"] == "r1")
    assert (lost["state"], lost["kind"], lost["version"], lost["tokens_out"]) == ("lost", "lost", LOST + 2, 3)
    assert {str(r["request_id"]): r["outcome"] for r in rows(store, REQUESTS)} == {"r1": "lost", "r2": None}
    assert store.settle_as_lost("replica", NOON + 10) == (0, [])
    store.write([opened("r1", tokens_out=2, version=1), opened("r1", tokens_out=4, version=3)])
    lost = next(row for row in rows(store) if row["request_id"] == "r1")
    assert (lost["state"], lost["tokens_out"]) == ("lost", 4), "what it had delivered came later"
    store.write([settled("r1")])
    assert sorted(str(row["state"]) for row in rows(store)) == ["open", "settled"]
    assert rows(store, MONTHS)[0]["tokens"] == 15, "what it had been lost with is taken back"


def test_the_months_totals_follow_the_rows_and_nothing_counts_twice(store: LedgerStore) -> None:
    assert store.write([opened("r1"), opened("r2")]) == [("tenant:acme", Spend(NOON, requests=1))] * 2
    for _ in range(2):
        store.write([settled("r1"), settled("r2", cost=None)])
    (month,) = rows(store, MONTHS)
    assert month == {
        "subject": "tenant:acme", "month": "2026-09", "requests": 2, "tokens": 30, "cost": 70, "unknown": 1,
    }  # fmt: skip


def test_a_new_actor_reads_the_counters_from_the_rows(store: LedgerStore) -> None:
    store.write(
        [settled("r1", key_name="k"), opened("r2"), settled("old", began_at=NOON - 600_000, ended_at=NOON - 600_000)]
    )
    counters = store.counters(NOON + 1000)
    minute = NOON // 60_000
    assert counters.minutes("tenant:acme") == {minute: (2, 15)}
    assert counters.minutes("key:k") == {minute: (1, 15)}
    assert counters.months("tenant:acme") == {"2026-09": 140}
    assert counters.months("key:k") == {"2026-09": 70}


def test_usage_by_every_group_and_filter(store: LedgerStore) -> None:
    day = 86_400_000
    store.write(
        [
            settled("a1", tenant="acme", agent="x", provider="openai"),
            settled("a2", tenant="acme", agent="y", provider="aws", model="haiku", cost=None),
            settled("b1", tenant="bolt", provider="aws", model="haiku", began_at=NOON + day, ended_at=NOON + day),
            opened("b2", tenant="bolt", began_at=NOON + day),
            settled("n1", tenant=None, kind="cancelled", counted="estimated"),
        ]
    )
    (total,) = usage(store, {})
    assert (total["requests"], total["attempts"], total["answers"], total["cancelled"]) == (5, 5, 3, 1)
    assert (total["open"], total["estimated"], total["cost_nanos"], total["unknown_cost"]) == (1, 1, 210, 1)
    assert (total["tokens_in"], total["avg_latency_ms"], total["answered"]) == (40, 500.0, 3)
    assert [(r["tenant"], r["requests"]) for r in usage(store, {}, ["tenant"])] == [(None, 1), ("acme", 2), ("bolt", 2)]
    assert [r["day"] for r in usage(store, {}, ["day"])] == ["2026-09-21", "2026-09-22"]
    by_model = usage(store, {}, ["provider", "model"])
    assert [(r["provider"], r["model"], r["requests"]) for r in by_model] == [("aws", "haiku", 2), ("openai", "gpt", 3)]
    assert usage(store, {"tenant": "acme", "agent": "x"})[0]["attempts"] == 1
    assert usage(store, {"since": (NOON + day) / 1000})[0]["attempts"] == 2
    assert usage(store, {"until": (NOON + day) / 1000})[0]["attempts"] == 3
    assert usage(store, {"tenant": "nobody"})[0]["attempts"] == 0
    assert usage(store, {"tenant": "nobody"}, ["day"]) == []


def test_a_request_that_nobody_could_be_asked_for_is_in_the_figures(store: LedgerStore) -> None:
    store.write([type(opened())(request(version=2, state="settled", outcome="no_provider"))])
    (total,) = usage(store, {})
    assert (total["requests"], total["answered"], total["attempts"]) == (1, 0, 0)


def test_a_question_that_there_is_none_of_is_the_callers_error(store: LedgerStore) -> None:
    with pytest.raises(UnknownQuestion, match="no such filter or group: tennant"):
        usage(store, {"tennant": "x"})
    with pytest.raises(UnknownQuestion, match="no such filter or group: owner"):
        usage(store, {}, ["owner"])


def test_a_store_of_version_1_is_migrated_with_its_rows(url: str) -> None:
    old = LedgerStore(url)
    assert old.start(upto=1) == 0
    with raw(url) as connection:
        connection.execute(
            text(
                "INSERT INTO ledger_attempts (request_id, number, owner, provider, model, began_at, day, version,"
                " state, tenant, content, tokens_in, tokens_out, tokens_cached, tokens_reasoning, counted, cost)"
                " VALUES ('r1', 1, 'o', 'aws', 'm', 1790000000000, '2026-09-21', 2000000000, 'settled',"
                " 'acme', true, 4, 3, 0, 0, 'provider', 9)"
            )
        )
    old.close()
    new = LedgerStore(url)
    assert (new.start(), new.start()) == (1, len(MIGRATIONS))
    assert usage(new, {"tenant": "acme"})[0]["cost_nanos"] == 9
    assert rows(new, MONTHS)[0]["tokens"] == 7
    new.write([opened("r2", key_name="k")])
    new.close()


def test_a_store_of_version_7_has_the_minutes_of_its_last_day_and_what_clients_left(url: str) -> None:
    old = LedgerStore(url)
    old.start(upto=7)
    names = "tenant, agent, key_name, provider, model"
    figures = "requests, answered, of_target, of_provider, of_model, attempts, answers, cancelled, failures, lost, open"
    figures += ", tokens_in, tokens_out, tokens_cached, tokens_reasoning, estimated, unknown_cost, cost, timed"
    figures += ", microseconds, first_timed, first_microseconds, abandoned_cost"
    lines = {"ledger_days": ("acme", "x", "k", "aws", "m"), "ledger_totals": ("acme", None, "k", None, None)}
    with raw(url) as connection:
        for n, (at, end) in enumerate([(NOON, "ok"), (NOON + 1, "cancelled"), (NOON - 30 * 3_600_000, "timeout")]):
            asked = {"id": f"r{n}", "at": at, "end": end, "day": day_of(at)}
            connection.execute(
                text(
                    "INSERT INTO ledger_requests (request_id, owner, began_at, version, state, stream, outcome,"
                    " attempts) VALUES (:id, 'o', :at, 2000000000, 'settled', true, :end, 1)"
                ),
                asked,
            )
            connection.execute(
                text(
                    f"INSERT INTO ledger_attempts (request_id, number, owner, began_at, asked_at, day, version, state,"
                    f" content, tokens_in, tokens_out, tokens_cached, tokens_reasoning, counted, kind, cost, {names})"
                    f" VALUES (:id, 1, 'o', :at, :at, :day, 2000000000, 'settled', true, 4, 3, 0, 0, 'provider', :end,"
                    f" 9, 'acme', 'x', 'k', 'aws', 'm')"
                ),
                asked,
            )
        for table, whose in lines.items():
            kind = ("key",) if table == "ledger_totals" else ()
            name = (*kind, day_of(NOON), *whose)
            connection.execute(
                text(
                    f"INSERT INTO {table} (name, {'kind, ' if kind else ''}day, {names}, {figures})"
                    f" VALUES (:name, {', '.join(f':v{i}' for i in range(len(name)))}, {', '.join(['0'] * 22)}, 9)"
                ),
                {"name": digest(name), **{f"v{i}": value for i, value in enumerate(name)}},
            )
    old.close()
    store = LedgerStore(url)
    assert (store.start(), len(MIGRATIONS)) == (7, 8)
    told = traffic(store, NOON + 60_000)
    for span in ("hour", "day"):
        totals = told[span]["totals"]
        assert (totals["requests"], totals["answered"], totals["attempts"], totals["failures"]) == (2, 1, 2, 0)
        assert (totals["tokens_in"], totals["cost_usd"], totals["abandoned_cost_usd"]) == (8, 18e-9, 9e-9)
    for group_by in (["tenant", "agent"], ["tenant"]):
        (row,) = [row for row in usage(store, {}, group_by) if row["tenant"] == "acme"]
        costs = [row[f"{part}_cost_usd"] for part in ("abandoned", "failed", "hedged", "cancelled")]
        assert costs == [9e-9, 0, 0, 9e-9]
    with store.reading() as connection:
        slots = connection.execute(select(SLOTS.c.slot)).scalars().all()
    assert slots == [NOON // 60_000], "no minute is older than a day"
    assert [(row["failed_over"], row["first_ms"]) for row in rows(store, REQUESTS)] == [(0, None)] * 3
    store.close()


def test_the_migrations_make_the_tables_that_the_code_knows(store: LedgerStore, url: str) -> None:
    found = MetaData()
    with raw(url) as connection:
        found.reflect(connection)
    assert {name: [*sorted(t.columns.keys())] for name, t in found.tables.items()} == {
        name: [*sorted(t.columns.keys())] for name, t in METADATA.tables.items()
    }
    for name, table in METADATA.tables.items():
        made = found.tables[name]
        assert {c.name for c in made.columns if c.nullable} == {c.name for c in table.columns if c.nullable}, name
        assert {c.name for c in made.primary_key} == {c.name for c in table.primary_key}, name


def test_a_store_of_a_newer_version_is_left_alone(store: LedgerStore, url: str) -> None:
    with raw(url) as connection:
        connection.execute(text("UPDATE ledger_schema SET version = 99"))
    newcomer = LedgerStore(url)
    with pytest.raises(NewerSchema, match="99"):
        newcomer.start()
    newcomer.close()


def test_two_writers_take_turns_and_count_once(url: str) -> None:
    one, two = LedgerStore(url), LedgerStore(url)
    one.start()
    assert two.start() == len(MIGRATIONS)
    one.write([settled("r1")])
    assert two.write([settled("r1")]) == []
    assert rows(one, MONTHS)[0]["cost"] == 70
    one.close()
    two.close()


def test_sqlite_writes_ahead_and_syncs_at_each_commit(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "usage.sqlite3"
    store = LedgerStore(f"sqlite:///{path}")
    store.start()
    with store.reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    store.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version FROM ledger_schema").fetchone() == (len(MIGRATIONS),)
    raw.close()


def test_a_row_that_the_store_refuses_holds_no_other_back_and_is_counted(url: str) -> None:
    """A row of an older reader may have what the store has no place for."""

    async def main() -> None:
        writer = LedgerWriter({"url": url, "missing": "", "journals": None}, writing=at_once, reading=at_once)
        store = await writer._here()
        rows = [settled(f"r{n}") for n in range(20)]
        rows[7] = settled("poison", tokens_in=2**70)
        moved = writer._put(store, rows)
        assert sum(spend.requests for _, spend in moved) == 19
        assert (await writer.usage({}))[0]["answers"] == 19
        assert ((await writer.health())["refused_rows"], (await writer.health())["store"]) == (1, "up")
        await writer.configure({"url": None, "missing": "", "journals": None})

    asyncio.run(main())


def test_a_row_that_comes_after_its_day_was_deleted_is_counted(url: str) -> None:
    async def main() -> None:
        writer = LedgerWriter({"url": url, "missing": "", "journals": None}, writing=at_once, reading=at_once)
        store = await writer._here()
        store.purge(NOON)
        writer._put(store, [settled("r1", began_at=NOON - 1), settled("r2", began_at=NOON)])
        assert (await writer.usage({}))[0]["requests"] == 1
        assert (await writer.health())["refused_rows"] == 1
        writer._put(store, [settled("r2", began_at=NOON), settled("r3", began_at=NOON)])
        assert (await writer.health())["refused_rows"] == 1
        await writer.configure({"url": None, "missing": "", "journals": None})

    asyncio.run(main())


def test_a_store_that_is_away_refuses_no_row() -> None:
    assert not refuses(OperationalError("x", {}, Exception("the server closed the connection")))
    assert refuses(DataError("x", {}, Exception("bigint out of range")))


def test_several_questions_are_answered_at_once(url: str) -> None:
    """One that takes long stops no other: each reader has a thread and a connection of its own."""

    async def main() -> None:
        writer = LedgerWriter({"url": url, "missing": "", "journals": None})
        store = await writer._here()
        met = threading.Barrier(READERS, timeout=20)

        def question() -> None:
            with store.reading() as connection:
                connection.execute(text("SELECT 1"))
                met.wait()

        await asyncio.gather(*(writer._reading(question) for _ in range(READERS)))
        await writer.configure({"url": None, "missing": "", "journals": None})

    asyncio.run(main())


def test_a_url_that_cannot_be_read_is_told_without_its_password() -> None:
    url = "postgresql://me:p@ss:hunter2/x@db/x"
    with pytest.raises(ArgumentError, match="the URL of the store can't be read") as refused:
        LedgerStore(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))
