"""How soon each page of the console paints, and what an open one costs its ingress, with many requests in the ledger.

    uv run python -m tests.browser.paint [REQUESTS]

Needs Debian's chromium. It prints medians of five, in milliseconds, and percent of one core.
"""

import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from deployments.config.application import parse
from tests.bench.ledger_store import requests
from tests.bench.processes import cpu_of
from tests.browser.browser import Browser
from tests.browser.conftest import config_for_pages
from tests.cluster.conftest import APP, Cluster, eventually, started

REQUESTS, AT_ONCE = 100_000, 2000
DAYS = 7
TIMES = 5
SECONDS = 20.0  # that an open page is looked at
PAGES = {
    "overview": ("#/", "#traffic .card"),
    "usage": ("#/usage", "#usagetable tbody tr"),
    "requests": ("#/requests", "#list tbody tr"),
    "one request": ("#/requests/{id}", "#explained .waterfall li"),
    "try": ("#/try", "#python:has-text('OpenAI')"),
    "providers": ("#/providers", "#setup article"),
}
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def fill(folder: pathlib.Path, number: int) -> None:
    """Write so many requests of the last days, the newest of a minute ago."""
    from actors.ledger.store import DAY_MS, LedgerStore

    now = int(time.time() * 1000) - 60_000
    store = LedgerStore(f"sqlite:///{folder}")
    store.start()
    spread = DAYS * DAY_MS // max(1, number // AT_ONCE)
    for n in range(number // AT_ONCE):
        begin = now - DAYS * DAY_MS + n * spread
        store.write([settled for _, settled in requests(AT_ONCE, begin, spread)])
    store.close()


def main(number: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ledger = parse({**config_of_any(), "ledger": {"folder": str(folder / "ledger")}}).ledger.for_actor(APP)["url"]
        file = pathlib.Path(ledger.removeprefix("sqlite:///"))
        print(f"Writing {number} requests ...", flush=True)
        file.parent.mkdir(parents=True, mode=0o700)
        fill(file, number)
        with started(folder, config_for_pages) as llm:
            browser = Browser(folder)
            try:
                print_paints(browser, llm)
                print_costs(browser, llm)
            finally:
                browser.close()


def config_of_any() -> dict[str, Any]:
    return {"providers": {"local": {"kind": "local"}}, "models": {"default": {"local": "smollm2-135m"}}}


def shown(browser: Browser, llm: Cluster, page: str) -> tuple[float, float]:
    """Return after how many milliseconds the page painted, and after how many it had what it is for."""
    at, seen = PAGES[page]
    newest = eventually(lambda: llm.get("/v1/requests?limit=1")["data"])[0]["request_id"]
    browser.open("about:blank")
    browser.open(f"{llm.url}/{at.format(id=newest)}")
    browser.see(seen, 30)
    full = browser.run("performance.now()")
    return eventually(lambda: browser.run(PAINTED), 10), full


def print_paints(browser: Browser, llm: Cluster) -> None:
    print(f"{'page':12} {'first paint, ms':>16} {'with its data, ms':>18}")
    for page in PAGES:
        shown(browser, llm, page)  # the first pays for what is cold
        painted, full = zip(*(shown(browser, llm, page) for _ in range(TIMES)), strict=True)
        print(f"{page:12} {statistics.median(painted):16.0f} {statistics.median(full):18.0f}", flush=True)


def ingress_seconds() -> float:
    """Return the CPU seconds of the ingress replicas."""
    return sum(cpu_of(pid) for pid in _pids(f"ray::ServeReplica:{APP}:Ingress"))


def _pids(name: str) -> Iterator[int]:
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if command.startswith(name):
                yield int(entry.name)


def percent_of_a_core() -> float:
    before, began = ingress_seconds(), time.monotonic()
    time.sleep(SECONDS)
    return 100 * (ingress_seconds() - before) / (time.monotonic() - began)


def print_costs(browser: Browser, llm: Cluster) -> None:
    browser.open("about:blank")
    time.sleep(3)
    without = percent_of_a_core()
    print(f"\nThe ingress without a page: {without:.2f} % of a core")
    for page in PAGES:
        shown(browser, llm, page)
        print(f"  {page:12} open: {percent_of_a_core() - without:+.2f} %", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
