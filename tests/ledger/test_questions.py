"""Questions to the rollup and the rows against a brute-force oracle, and the bounds of a question."""

import asyncio
import itertools
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from actors.ledger.messages import QuestionTooLong, UnknownQuestion
from actors.ledger.questions.usage import found, usage
from actors.ledger.rollup import FIGURES_OF_A_DAY, MOST_GROUPS, columns_of
from actors.ledger.rollup import TOTALS as TOTALS_BY
from actors.ledger.rows import LOST, Record, day_of
from actors.ledger.single_writer.writer import LedgerWriter
from actors.ledger.store import DAY_MS, LedgerStore
from actors.ledger.tables import DAYS, MONTHS, REQUESTS, TOTALS
from tests.ledger.conftest import raw
from tests.ledger.rows import NOON, opened, request, settled
from tests.ledger.world import at_once

MIDNIGHT = (NOON // DAY_MS + 10) * DAY_MS  # 2026-10-01: of a month too
NAMES = itertools.count()
GROUPS = ("tenant", "agent", "key", "provider", "model", "day")


@dataclass(frozen=True)
class Asked:
    """One request as the world knows it."""

    agent: str | None
    key: str | None
    at: int
    targets: tuple[tuple[str, str], ...]
    ends: tuple[str, ...]  # ok, cancelled, timeout, open, lost: of each attempt
    cost: int | None
    legs: tuple[str | None, ...]  # won, lost, failed, beaten: of each attempt


INSTANTS = st.builds(
    lambda days, off: MIDNIGHT + days * DAY_MS + off, st.integers(-2, 2), st.sampled_from([-1, 0, 1, DAY_MS // 2])
)
TARGETS = st.tuples(st.sampled_from(["aws", "openai"]), st.sampled_from(["m", "n"]))
ENDS = st.sampled_from(["ok", "cancelled", "timeout", "open", "lost"])
ASKED = st.integers(1, 3).flatmap(
    lambda n: st.builds(
        Asked,
        st.sampled_from([None, "", "x"]),
        st.sampled_from([None, "k"]),
        INSTANTS,
        st.tuples(*[TARGETS] * n),
        st.tuples(*[ENDS] * n),
        st.none() | st.integers(0, 10**9),
        st.tuples(*[st.sampled_from([None, "won", "lost", "failed", "beaten"])] * n),
    )
)
EDGES = st.none() | INSTANTS.map(lambda ms: ms / 1000)


def lines(name: str, tenant: str, asked: Asked) -> Iterator[Record]:
    whose: dict[str, Any] = {"tenant": tenant, "agent": asked.agent, "key_name": asked.key}
    for number, ((provider, model), end) in enumerate(zip(asked.targets, asked.ends, strict=True), 1):
        began = asked.at + (number - 1) * 7_200_000  # later attempts are behind midnight
        target = {"provider": provider, "model": model, "began_at": began, "asked_at": asked.at}
        steps = [opened(name, number, **whose, **target)]
        if end == "lost":
            ended = {"version": LOST, "state": "lost", "kind": "lost", "ended_at": began + 1}
            steps.append(opened(name, number, **whose, **target, **ended))
        elif end != "open":
            ended = {"kind": end, "cost": asked.cost, "ended_at": began + 1, "last": number == len(asked.ends)}
            ended["hedge"] = asked.legs[number - 1]
            steps.append(settled(name, number, **whose, **target, **ended))
        for record in steps:
            at_once = {field: getattr(record.request, field) for field in ("version", "state", "outcome", "ended_at")}
            yield Record(request(name, began_at=asked.at, **whose, **at_once), record.attempt)


def truth(made: Sequence[Asked], filters: Mapping[str, Any], group_by: Sequence[str]) -> dict[tuple[Any, ...], Any]:
    """Each group's requests, attempts, answers, lost, open, cost, what of it bought no answer, and unknown cost.

    Of what bought no answer also the part of clients that left, and of legs that did not win. From the world alone.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    by_target = {"provider", "model"} & {*filters, *group_by}
    since, until = filters.get("since", -1e18), filters.get("until", 1e18)
    for n, asked in enumerate(made):
        if not since * 1000 <= asked.at < until * 1000:
            continue
        known: dict[str, Any] = {"agent": asked.agent, "key": asked.key, "day": day_of(asked.at)}
        if any(known[name] != filters[name] for name in ("agent", "key") if name in filters):
            continue
        if not by_target:
            groups.setdefault(tuple(known[g] for g in group_by), [set(), *[0] * 9])[0].add(n)
        for (provider, model), end, leg in zip(asked.targets, asked.ends, asked.legs, strict=True):
            known |= {"provider": provider, "model": model}
            if any(known[name] != filters[name] for name in ("provider", "model") if name in filters):
                continue
            total = groups.setdefault(tuple(known[g] for g in group_by), [set(), *[0] * 9])
            total[0].add(n)
            priced = asked.cost if end in ("ok", "cancelled", "timeout") else None
            counts = (1, end == "ok", end == "lost", end == "open", priced or 0, 0 if end == "ok" else priced or 0)
            for i, value in enumerate(counts, 1):
                total[i] += value
            total[7] += end != "open" and priced is None
            hedged = leg in ("lost", "failed", "beaten")
            total[8] += (priced or 0) * (end == "cancelled" and not hedged)
            total[9] += (priced or 0) * (end != "ok" and hedged)
    return {name: (len(total[0]), *total[1:]) for name, total in groups.items()}


def shown(rows: Sequence[Mapping[str, Any]], group_by: Sequence[str]) -> dict[tuple[Any, ...], Any]:
    figures = ("requests", "attempts", "answers", "lost", "open", "cost_nanos")
    return {
        tuple(r[g] for g in group_by): (
            *(r[name] or 0 for name in figures),
            round((r["abandoned_cost_usd"] or 0) * 1e9),
            r["unknown_cost"],
            *(round((r[f"{part}_cost_usd"] or 0) * 1e9) for part in ("cancelled", "hedged")),
        )
        for r in rows
    }


@pytest.fixture(scope="module")
def shared(shared_url: str) -> Iterator[list[LedgerStore]]:
    """Two stores on one database, for all examples: each has a tenant of its own."""
    stores = [LedgerStore(shared_url), LedgerStore(shared_url)]
    for store in stores:
        store.start()
    yield stores
    for store in stores:
        store.close()


def write_in_any_order(stores: Sequence[LedgerStore], tenant: str, made: Sequence[Asked], data: st.DataObject) -> None:
    written = [record for n, asked in enumerate(made) for record in lines(f"{tenant}-{n}", tenant, asked)]
    arriving = [written[i] for i in data.draw(st.permutations(range(len(written))))]
    arriving += data.draw(st.lists(st.sampled_from(written), max_size=5))
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        data.draw(st.sampled_from(stores)).write(arriving[:size])
        arriving = arriving[size:]


def each_total_is_the_sum_of_its_lines(store: LedgerStore) -> None:
    for kind, names in TOTALS_BY.items():
        whose = ("day", *names)
        figures = [func.sum(DAYS.c[name]) for name in FIGURES_OF_A_DAY]
        lines = select(*(DAYS.c[name] for name in whose), *figures).group_by(*(DAYS.c[name] for name in whose))
        kept = select(*(TOTALS.c[name] for name in (*whose, *FIGURES_OF_A_DAY))).where(TOTALS.c.kind == kind)
        with store.reading() as connection:
            expected = connection.execute(lines.where(DAYS.c.provider.is_not(None)) if kind == "target" else lines)
            sums = {tuple(map(str, row)) for row in expected if any(row[len(whose) :])}
            assert {tuple(map(str, row)) for row in connection.execute(kept) if any(row[len(whose) :])} == sums, kind


@settings(max_examples=40, deadline=None)
@given(made=st.lists(ASKED, min_size=1, max_size=5), data=st.data())
def test_every_answer_is_the_truth_at_borders_of_days_late_twice_and_by_two_stores(
    shared: list[LedgerStore], made: list[Asked], data: st.DataObject
) -> None:
    tenant = f"t{next(NAMES)}"
    write_in_any_order(shared, tenant, made, data)
    for _ in range(6):
        group_by = data.draw(st.lists(st.sampled_from(GROUPS[1:]), unique=True, max_size=3))
        named = data.draw(st.fixed_dictionaries({}, optional={"provider": st.just("aws"), "model": st.just("m")}))
        filters = {**named, "since": data.draw(EDGES), "until": data.draw(EDGES)}
        filters = {name: value for name, value in filters.items() if value is not None}
        expected = truth(made, filters, group_by) or ({} if group_by else {(): (0,) * 10})
        answer = usage(shared[0], {"tenant": tenant, **filters}, group_by)
        assert shown(answer, group_by) == expected, (filters, group_by)
        assert all(list(row) == columns_of(filters, group_by) for row in answer)
    each_total_is_the_sum_of_its_lines(shared[0])


@pytest.mark.parametrize(
    "group_by", [[], ["tenant"], ["key", "day"], ["day"], ["agent"], ["provider"], ["model", "provider", "day"]]
)
def test_a_question_of_few_names_reads_few_lines(store: LedgerStore, group_by: list[str]) -> None:
    """Without the lines that have all names: there are fifteen times as many."""
    store.write([settled("r1", key_name="k"), opened("r2", agent="y")])
    answer = usage(store, {}, group_by)
    with store._writing() as connection:
        connection.execute(DAYS.delete())
    assert usage(store, {}, group_by) == answer != []


def test_a_purge_changes_no_figure_of_whole_days_and_no_month(store: LedgerStore) -> None:
    at = [MIDNIGHT - DAY_MS, MIDNIGHT - 1, MIDNIGHT]
    store.write([settled(f"r{n}", began_at=ms, ended_at=ms) for n, ms in enumerate(at)])
    before = usage(store, {}, ["day", "provider"])
    with store.reading() as connection:
        months = connection.execute(select(MONTHS).order_by(MONTHS.c.month)).all()
    assert [store.purge(MIDNIGHT, most=1) for _ in range(3)] == [1, 1, 0]
    assert usage(store, {}, ["day", "provider"]) == before
    with store.reading() as connection:
        assert connection.execute(select(MONTHS).order_by(MONTHS.c.month)).all() == months
        assert connection.execute(select(REQUESTS.c.request_id)).scalars().all() == ["r2"]
    store.write([settled("r0", began_at=at[0], ended_at=at[0])])
    assert usage(store, {}, ["day", "provider"]) == before, "what was deleted does not come again"
    assert usage(store, {"since": (MIDNIGHT - DAY_MS) / 1000})[0]["requests"] == 3
    with pytest.raises(UnknownQuestion, match="ask by whole days"):
        usage(store, {"since": (MIDNIGHT - 5) / 1000})
    assert usage(store, {"since": (MIDNIGHT - 0) / 1000, "until": (MIDNIGHT + 5) / 1000})[0]["requests"] == 1


def test_a_request_that_is_open_is_not_purged_and_settles_later(store: LedgerStore) -> None:
    store.write([opened("r1", began_at=MIDNIGHT - 1)])
    assert store.purge(MIDNIGHT) == 0
    store.write([settled("r1", began_at=MIDNIGHT - 1, ended_at=MIDNIGHT)])
    assert (usage(store, {})[0]["open"], usage(store, {})[0]["answers"]) == (0, 1)


def test_figures_of_old_days_are_deleted_where_they_are_not_kept(store: LedgerStore) -> None:
    store.write([settled("r1", began_at=MIDNIGHT - 1), settled("r2", began_at=MIDNIGHT)])
    # Of a day two lines, and three totals.
    assert [store.purge_days(day_of(MIDNIGHT), most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert [row["day"] for row in usage(store, {}, ["day"])] == [day_of(MIDNIGHT)]
    assert [row["day"] for row in usage(store, {}, ["day", "tenant", "agent"])] == [day_of(MIDNIGHT)]


def test_sums_beyond_64_bits_fail_no_question_and_keep_no_row_out(store: LedgerStore) -> None:
    store.write([settled("r1", key_name="k"), settled("r2", model="m2")])
    with store._writing() as connection:
        connection.execute(DAYS.update().where(DAYS.c.provider.is_not(None)).values(cost=2**62, tokens_in=2**62))
        connection.execute(TOTALS.update().values(cost=2**62, tokens_in=2**62))
        connection.execute(MONTHS.update().values(cost=2**62, tokens=2**62))
    for group_by in ([], ["tenant", "agent"]):
        (total,) = usage(store, {}, group_by)
        assert (total["cost_nanos"], total["tokens_in"], total["answers"]) == (2**63, 2**63, 2)
    store.write([settled("r3", model="m2", cost=2**62)])
    assert usage(store, {})[0]["answers"] == 3


def test_a_group_that_is_named_twice_is_one_group(store: LedgerStore) -> None:
    store.write([settled()])
    assert usage(store, {}, ["tenant", "tenant"]) == usage(store, {}, ["tenant"])


def test_an_answer_has_a_most_of_groups_and_says_so(store: LedgerStore) -> None:
    store.write([settled(f"r{n}", agent=f"a{n}") for n in range(MOST_GROUPS)])
    assert len(usage(store, {}, ["agent"])) == MOST_GROUPS
    store.write([settled("one more", agent="one more")])
    with pytest.raises(UnknownQuestion, match="more than 10000 groups"):
        usage(store, {}, ["agent"])


def test_the_work_of_a_question_ends_when_its_time_is_over(store: LedgerStore) -> None:
    endless = {
        "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "postgresql": "SELECT pg_sleep(60)",
    }
    began = time.monotonic()
    with pytest.raises(QuestionTooLong), store.answering(began + 0.2) as connection:
        connection.execute(text(endless[store.dialect]))
    assert time.monotonic() - began < 5
    assert usage(store, {})[0]["attempts"] == 0, "the connection answers again"
    with pytest.raises(QuestionTooLong):
        usage(store, {}, until=began)


@pytest.mark.parametrize("instant", [-253_402_300_800.0, 253_402_300_800.0])
def test_the_ends_of_the_calendar_are_instants_too(store: LedgerStore, instant: float) -> None:
    store.write([settled()])
    assert usage(store, {"since": instant})[0]["attempts"] == (1 if instant < 0 else 0)
    assert usage(store, {"until": instant})[0]["attempts"] == (0 if instant < 0 else 1)


def test_of_two_requests_with_one_name_each_asker_sees_its_newest(store: LedgerStore) -> None:
    for n, (tenant, key) in enumerate([("a", "k1"), ("a", "k2"), ("b", "k3")]):
        record = settled(f"r{n}", tenant=tenant, key_name=key, began_at=NOON + n)
        whole = {name: getattr(record.request, name) for name in record.request.__slots__} | {"caller_id": "same"}
        store.write([Record(request(**{"name": whole.pop("request_id"), **whole}), record.attempt)])

    def seen(tenant: str | None, key: str | None = None) -> str | None:
        rows = found(store, "same", {"tenant": tenant, "key": key})
        return None if rows is None else str(rows["request"]["request_id"])

    assert [seen("a"), seen("b"), seen("c"), seen(None, "k1")] == ["r1", "r2", None, "r0"]
    assert (rows := found(store, "same")) is not None
    assert rows["request"]["request_id"] == "r2"


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_rows_of_each_earlier_schema_are_in_the_rollup(url: str, version: int) -> None:
    old = LedgerStore(url)
    old.start(upto=version)
    old.close()
    script = (pathlib.Path(__file__).parent / "schemas" / f"{version}.sql").read_text()
    with raw(url) as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
    store = LedgerStore(url)
    assert store.start() == version
    by_target = usage(store, {}, ["day", "provider", "model"])
    assert [(r["day"], r["provider"], r["model"], r["requests"], r["attempts"]) for r in by_target] == [
        ("2026-09-21", "aws", "haiku", 1, 2),
        ("2026-09-21", "aws", "opus", 1, 1),
        ("2026-09-22", "openai", "gpt", 1, 1),
    ]
    assert [(r["provider"], r["requests"]) for r in usage(store, {}, ["provider"])] == [("aws", 1), ("openai", 1)]
    assert [(r["day"], r["requests"], r["answered"], r["cost_nanos"]) for r in usage(store, {}, ["day"])] == [
        ("2026-09-21", 1, 1, 9),
        ("2026-09-22", 1, 0, None),
    ]
    assert [(r["tenant"], r["agent"], r["requests"]) for r in usage(store, {}, ["tenant", "agent"])] == [
        (None, None, 1),
        ("acme", "x", 1),
    ]
    for whose in ("tenant", "agent", "key"):
        assert [(r["requests"], r["attempts"]) for r in usage(store, {}, [whose])] == (
            [(2, 4)] if whose == "key" else [(1, 1), (1, 3)]
        )
    [*_, abandoned] = [r["abandoned_cost_usd"] for r in usage(store, {}, ["tenant"])]
    assert abandoned == (3e-9 if version == 5 else 0)
    each_total_is_the_sum_of_its_lines(store)
    within = {"since": 1_790_000_000, "until": 1_790_000_001}
    assert usage(store, within, ["provider"]) == usage(store, {"provider": "aws"}, ["provider"])
    store.close()


def test_a_figure_beyond_64_bits_keeps_no_store_from_its_totals(url: str) -> None:
    old = LedgerStore(url)
    old.start(upto=4)
    line = [str(2**62)] * 22  # its figures
    with raw(url) as connection:
        for name in ("a", "b"):
            names = f"'{name}', '2026-09-21', 'acme', '{name}', 'k', 'aws', 'haiku'"
            connection.execute(text(f"INSERT INTO ledger_days VALUES ({names}, {', '.join(line)})"))
    old.close()
    store = LedgerStore(url)
    store.start()
    assert usage(store, {}, ["tenant"])[0]["cost_nanos"] == 2**62
    store.close()


def test_the_patrol_deletes_what_need_not_be_kept_and_believes_no_clock_that_is_ahead(url: str) -> None:
    async def main() -> None:
        keep: Any = {"requests": 2, "rollups": 3}
        wall = [NOON / 1000 + 400 * 86_400]
        config: Any = {"url": url, "missing": "", "journals": None, "keep": keep}
        writer = LedgerWriter(config, wall=lambda: wall[0], writing=at_once, reading=at_once)
        store = await writer._here()
        store.write([settled(f"r{n}", began_at=NOON - n * DAY_MS, ended_at=NOON) for n in range(6)])
        await writer.patrol()
        with store.reading() as connection:
            assert sorted(connection.execute(select(REQUESTS.c.request_id)).scalars()) == ["r0", "r1", "r2"]
        assert len(usage(store, {}, ["day"])) == 4
        await writer.configure({"url": None, "missing": "", "journals": None})

    asyncio.run(main())
