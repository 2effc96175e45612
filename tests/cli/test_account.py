"""Usage of a real service with a real ledger: an SQLite file, its writer, and the HTTP API."""

import asyncio
import contextlib
import csv
import io
import json
import pathlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.ingress.http import build_http_api
from deployments.usage.ledger_client import LedgerClient
from tests.cli.conftest import Real, Run
from tests.cli.served import Book, serving
from tests.cli.test_commands import _until, ask
from tests.ledger.world import PRICES
from tests.ledger.world import world as ledger_world
from tests.unit.test_http_api import GUARDED
from tests.unit.world import World, world


@contextlib.asynccontextmanager
async def accounted(folder: pathlib.Path) -> AsyncIterator[tuple[Book, tuple[Book, World]]]:
    async with world(GUARDED) as w, ledger_world(folder) as ledger:
        ledger.actor.desk._wall = time.time

        async def connect() -> Any:
            return ledger.actor

        clock = asyncio.get_running_loop().time
        link = LedgerClient(connect, folder / "journal", prices=PRICES, wall=time.time, clock=clock)
        ledger.links.append(link)
        link.start()
        w.service.ledger = w.service.queries._ledger = link
        book = Book({}, build_http_api(w.service))
        yield book, (book, w)


def test_usage_of_a_real_service_in_each_form(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS", "alpha:tenant_1, beta")
    monkeypatch.setenv("ADMIN", "root")
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", "root")
    with serving(lambda: accounted(tmp_path)) as (url, (book, w)):
        monkeypatch.setenv("BREAKWATER_URL", url)
        real = Real(url, book, w)
        for agent in ("a", "a", "b"):
            ask(real, **{"x-agent-id": agent})
        _until(lambda: run("usage"), lambda done: [line.split()[0] for line in done.out.splitlines()[1:]] == ["3"])

        lines = run("usage", "--by", "tenant,agent", "--since", "1d", "--tenant", "tenant_1").out.splitlines()
        assert [line.split()[:4] for line in lines[1:]] == [["tenant_1", "a", "2", "2"], ["tenant_1", "b", "1", "1"]]

        data = json.loads(run("usage", "--by", "day", "--json").out)["data"]
        assert [(row["day"], row["requests"]) for row in data] == [(f"{datetime.now(UTC):%Y-%m-%d}", 3)]

        rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "provider,agent", "--csv").out)))
        assert [(row["provider"], row["agent"], row["requests"]) for row in rows] == [
            ("aws", "a", "2"),
            ("aws", "b", "1"),
        ]

        assert run("usage", "--until", "1d").out.splitlines()[1].split()[0] == "0"
        assert run("usage", "--since", "99999999-01-01").code == 2
