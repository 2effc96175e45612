"""A real service with a real ledger: an SQLite file, its writer, and the HTTP API, asked by each command."""

import asyncio
import contextlib
import csv
import io
import json
import pathlib
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.ledger.budget import Limit, Limits
from deployments.ingress.http import build_http_api
from deployments.usage.ledger_client import LedgerClient
from tests.cli.conftest import Real, Run
from tests.cli.served import Book, serving
from tests.cli.test_commands import _until, ask
from tests.ledger.world import PRICES
from tests.ledger.world import world as ledger_world
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.test_http_api import GUARDED
from tests.unit.world import World, world

LIMITS = Limits({"tenant:tenant_1": Limit(requests_per_minute=1000), "tenant:idle": Limit(monthly_cost=5 * 10**9)})


@contextlib.asynccontextmanager
async def accounted(folder: pathlib.Path) -> AsyncIterator[tuple[Book, tuple[Book, World]]]:
    async with world(GUARDED) as w, ledger_world(folder) as ledger:
        ledger.actor.desk._wall = time.time

        async def connect() -> Any:
            return ledger.actor

        clock = asyncio.get_running_loop().time
        link = LedgerClient(connect, folder / "journal", prices=PRICES, limits=LIMITS, wall=time.time, clock=clock)
        ledger.links.append(link)
        link.start()
        w.service.ledger = w.service.queries._ledger = link
        book = Book({}, build_http_api(w.service))
        yield book, (book, w)


@pytest.fixture
def kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    """Three requests by the tenant `tenant_1` are in the ledger. The first one has failed over."""
    monkeypatch.setenv("KEYS", "alpha:tenant_1, beta")
    monkeypatch.setenv("ADMIN", "root")
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", "root")
    with serving(lambda: accounted(tmp_path)) as (url, (book, w)):
        monkeypatch.setenv("BREAKWATER_URL", url)
        real = Real(url, book, w)
        w.provider("aws").ends = [SERVER_ERROR, None]
        for agent in ("a", "a", "b"):
            ask(real, **{"x-agent-id": agent, "x-request-id": f"mine-{agent}"})
        yield real


def rows_of(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()[1:]]


def test_usage_in_each_form(run: Run, kept: Real) -> None:
    _until(lambda: run("usage"), lambda done: [row[0] for row in rows_of(done.out)] == ["3"])

    rows = rows_of(run("usage", "--by", "tenant,agent", "--since", "1d", "--tenant", "tenant_1").out)
    assert [row[:4] for row in rows] == [["tenant_1", "a", "2", "2"], ["tenant_1", "b", "1", "1"]]

    data = json.loads(run("usage", "--by", "day", "--json").out)["data"]
    assert [(row["day"], row["requests"]) for row in data] == [(f"{datetime.now(UTC):%Y-%m-%d}", 3)]

    lines = list(csv.DictReader(io.StringIO(run("usage", "--by", "provider,agent", "--csv").out)))
    counted = [(line["provider"], line["agent"], line["requests"]) for line in lines]
    assert counted == [("aws", "a", "2"), ("aws", "b", "1"), ("openai", "a", "1")]

    assert rows_of(run("usage", "--until", "1d").out)[0][0] == "0"
    assert run("usage", "--since", "99999999-01-01").code == 2


def test_requests_by_filters_and_pages(run: Run, kept: Real) -> None:
    done = _until(lambda: run("requests"), lambda done: len(rows_of(done.out)) == 3)
    assert (done.code, done.err) == (0, "")
    assert len(rows_of(run("requests", "--failed-over").out)) == 1
    assert "2+" in run("requests", "--failed-over").out
    assert (
        len(rows_of(run("requests", "--provider", "aws", "--agent", "b", "--since", "1h", "--outcome", "ok").out)) == 1
    )
    assert run("requests", "--outcome", "failed").out == "No such request.\n"
    assert run("requests", "--slower-than", "1h").out == "No such request.\n"

    ids = []
    before: tuple[str, ...] = ()
    for _ in range(3):
        page = json.loads(run("requests", "--limit", "1", *before, "--json").out)
        ids += [head["request_id"] for head in page["data"]]
        before = ("--before", page["next"]) if page["next"] else ()
    assert len(set(ids)) == 3
    assert run("explain", ids[0]).out.startswith(f"{ids[0]} (mine-b): ok, answered by aws/haiku\n")
    assert run("requests", "--before", "nonsense").code == 5
    assert run("requests", "--limit", "450").code == 0


def test_without_the_ledger_the_list_says_whose_it_is(run: Run, real: Real) -> None:
    ask(real)
    done = run("requests")
    assert len(rows_of(done.out)) == 1
    assert done.err == "The ledger is away or there is none: these are the last requests of one replica.\n"


def test_traffic_and_limits(run: Run, kept: Real) -> None:
    told = _until(
        lambda: {name.strip(): (hour, day) for name, hour, day in _figures(run("traffic").out)},
        lambda told: told["requests"] == ("3", "3"),
    )
    assert told["failed over"] == ("1", "1")
    assert told["attempts"] == ("4", "4")
    assert told["failed attempts"] == ("1", "1")
    rows = rows_of(run("limits").out)
    assert ["tenant", "idle", "monthly", "cost"] in [row[:4] for row in rows]
    assert "$5.00" in run("limits").out
    assert len(rows_of(run("traffic", "--slots", "hour").out)) == 60


def _figures(out: str) -> Iterator[tuple[str, str, str]]:
    for line in out.splitlines()[1:]:
        if not line:
            return
        name, hour, day = line[:18], *line[18:].split()[:1], line.split()[-1]
        yield name, hour, day


def test_providers_of_a_real_setup(run: Run, kept: Real) -> None:
    out = run("providers").out
    assert out.startswith("mode hybrid\n")
    assert ["openai/gpt", "default,", "solo", "input", "$2,", "output", "$8"] in rows_of(out)
    assert "Circuits: open after 3 failures in a row, probed after 1 min" in out


def test_alerts_without_a_prometheus(run: Run, real: Real) -> None:
    done = run("alerts")
    assert done.code == 0
    assert done.out.startswith("The server knows no Prometheus (RAY_PROMETHEUS_HOST)")
