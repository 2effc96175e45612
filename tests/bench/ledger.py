"""What a request costs for being in the ledger: in its ingress, journal on a real disk, and in the ledger actor.

    uv run python -m tests.bench.ledger [folder]

The actor's part is a real link and a real desk with a real SQLite file, on a virtual clock: requests come at a
steady rate, so many at once, and batches leave when they would. Without Ray between them.
"""

import asyncio
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Counters, Limit, Limits
from actors.ledger.messages import RequestTrail, WriteAnswer
from actors.ledger.rows import encode_json
from actors.ledger.single_writer.leases import Leases
from actors.ledger.single_writer.writer import LedgerWriter
from deployments.config.ledger import Price
from deployments.usage.budget import Reservation
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prices import PriceList
from deployments.usage.records import UsageRecord
from deployments.usage.worst_case import Route, worst_case
from tests.clock import run_virtually

USAGE = {
    "prompt_tokens": 812,
    "completion_tokens": 233,
    "total_tokens": 1045,
    "prompt_tokens_details": {"cached_tokens": 512},
}
BODY = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
STEP = {"provider": "openai", "model": "gpt-4.1", "outcome": "ok", "status": None, "ms": 181.3, "at_ms": 1.2}
STEP |= {"verdict": "ok", "probe": False, "epoch": 1, "first_token_ms": 180.9, "upstream_first_ms": 179.8}
TRAIL: RequestTrail = {"trail": encode_json([STEP]), "first_ms": 182.3, "added_ms": 1.4, "failed_over": 0}
PRICES = PriceList({"gpt-4.1": Price(input=2, output=8, cached="0.5")})
LIMITS = Limits(each={"tenant": Limit(10**9, 10**9, 10**18)})
ROUTES = [Route("gpt-4.1", PRICES.rates("openai", "gpt-4.1"), 32_768)]
RATE, AT_ONCE = 250, 64  # requests a second, and under way
START = 1_790_000_000.0
ROUNDS = 5
OK = Outcome("ok", content=True)
FRAME = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


def link_in(folder: pathlib.Path) -> LedgerClient:
    async def away() -> Any:
        raise ConnectionError

    link = LedgerClient(away, folder, prices=PRICES, limits=LIMITS)
    hear(link)
    return link


def hear(link: LedgerClient) -> None:
    """Get an answer of the ledger actor, as the link would get ten times a second."""
    link.reserve("acme")
    claims = link.budget.report(0, link.now(), link.seconds())
    counters = Counters()
    leases, recalled = Leases().answer(link.replica, claims, counters, link.seconds())
    totals = counters.totals(name for name in claims if name)
    answer: WriteAnswer = {"number": 1, "store": "up", "totals": totals, "leases": leases, "recalled": recalled}
    link.budget.acknowledge(0, answer, link.seconds())


def _held(answer: Any) -> Reservation | None:
    assert answer is None or isinstance(answer, Reservation)
    return answer


def _begun(link: LedgerClient, held: Reservation | None) -> UsageRecord:
    given = {"tenant": "acme", "agent": "meetmind.coordinator", "model_row": "gpt-4", "door": "http", "body": BODY}
    return link.begin(**given, reservation=held)


def one_request(link: LedgerClient, frames: int = 0) -> None:
    held = _held(link.reserve("acme", None, *worst_case(BODY, ROUTES, 4096)))
    account = _begun(link, held)
    entry = account.open("openai/gpt-4.1")
    for _ in range(frames):
        entry.delivered(FRAME)
    entry.settle(OK, USAGE)
    account.finish("ok")


def measured(folder: pathlib.Path, requests: int = 20_000) -> dict[str, float]:
    """Microseconds: CPU a request, and the wall time of the slowest in a hundred and in a thousand."""
    link = link_in(folder)
    walls: list[float] = []
    began = time.process_time()
    for number in range(requests):
        if number % 1000 == 0:
            hear(link)
        at = time.perf_counter()
        one_request(link)
        walls.append(time.perf_counter() - at)
    cpu = (time.process_time() - began) / requests
    hear(link)
    began = time.process_time()
    for _ in range(200):
        one_request(link, frames=500)
    of_frames = ((time.process_time() - began) / 200 - cpu) / 500
    asyncio.run(link.close())
    cuts = statistics.quantiles(walls, n=1000)
    return {"cpu": cpu * 1e6, "p99": cuts[989] * 1e6, "p999": cuts[998] * 1e6, "frame": of_frames * 1e6}


class Carried:
    """A desk, and the CPU seconds that it takes; its thread's work is done at once, so that all of it is seen."""

    def __init__(self, folder: pathlib.Path):
        clock = asyncio.get_running_loop().time
        self.wall: Callable[[], float] = lambda: START + clock()
        config = {"url": f"sqlite:///{folder / 'usage.sqlite3'}", "journals": None}
        self.desk = LedgerWriter(config, wall=self.wall, clock=clock, writing=_at_once, reading=_at_once)
        self.cpu = 0.0
        self.batches = 0

    async def connect(self) -> Any:
        return self

    async def __call__(self, method: str, *arguments: Any) -> Any:
        began = time.process_time()
        answer = await getattr(self.desk, {"bury": "settle_as_lost"}.get(method, method))(*arguments)
        self.cpu += time.process_time() - began
        self.batches += method == "write"
        return answer


async def _at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


async def carried(folder: pathlib.Path, *, limits: bool, requests: int = 2500) -> tuple[float, float]:
    """Microseconds of the desk's CPU a request, and batches a second."""
    actor = Carried(folder)
    clock = asyncio.get_running_loop().time
    given = {"prices": PRICES, "wall": actor.wall, "clock": clock}
    link = LedgerClient(actor.connect, folder, limits=LIMITS if limits else None, **given)
    link.start()

    async def ask() -> None:
        account = _begun(link, _held(await link.admit("acme", None, *worst_case(BODY, ROUTES, 4096))))
        entry = account.open("openai/gpt-4.1")
        await asyncio.sleep(AT_ONCE / RATE)
        entry.settle(OK, USAGE, trail=lambda: TRAIL)
        account.finish("ok")

    await asyncio.sleep(1)  # the store is made
    actor.cpu, actor.batches = 0.0, 0
    async with asyncio.TaskGroup() as group:
        for _ in range(requests):
            group.create_task(ask())
            await asyncio.sleep(1 / RATE)
    batches = actor.batches / (requests / RATE)
    await link.close()
    (total,) = await actor.desk.usage({})
    assert (total["answers"], total["open"]) == (requests, 0)
    await actor.desk.configure({})
    return actor.cpu / requests * 1e6, batches


def main() -> None:
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        rounds = [measured(pathlib.Path(folder)) for _ in range(ROUNDS)]
    print("its ingress, a request")
    for name in rounds[0]:
        print(f"  {name:>6} {statistics.median(r[name] for r in rounds):8.2f} us")
    print(f"the ledger actor, at {RATE} requests a second, {AT_ONCE} at once")
    for limits in (False, True):
        figures = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir=where) as folder:
                figures.append(run_virtually(carried(pathlib.Path(folder), limits=limits)))
        cpu, batches = (statistics.median(of) for of in zip(*figures, strict=True))
        print(f"  {cpu:8.2f} us of CPU a request, {batches:4.1f} batches a second, {'with' if limits else 'no'} limits")


if __name__ == "__main__":
    main()
