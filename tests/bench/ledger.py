"""What a request costs in its ingress for being in the ledger: CPU and wall time, journal on a real disk.

uv run python -m tests.bench.ledger [folder]
"""

import asyncio
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from actors.budget import Limit, Limits
from actors.outcome import Outcome
from deployments.ledger_link import LedgerLink
from deployments.prices import Price, PriceList

USAGE = {"prompt_tokens": 812, "completion_tokens": 233, "prompt_tokens_details": {"cached_tokens": 512}}
BODY = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
OK = Outcome("ok", content=True)
FRAME = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


def link_in(folder: pathlib.Path) -> LedgerLink:
    async def away() -> Any:
        raise ConnectionError

    prices = PriceList({"gpt-4.1": Price(input=2, output=8, cached="0.5")})
    return LedgerLink(away, folder, prices=prices, limits=Limits(each={"tenant": Limit(10**9, 10**9, 10**18)}))


def one_request(link: LedgerLink, frames: int = 0) -> None:
    assert link.admit("acme") is None
    account = link.begin(tenant="acme", agent="meetmind.coordinator", model_row="gpt-4", door="http", body=BODY)
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
    for _ in range(requests):
        at = time.perf_counter()
        one_request(link)
        walls.append(time.perf_counter() - at)
    cpu = (time.process_time() - began) / requests
    began = time.process_time()
    for _ in range(200):
        one_request(link, frames=500)
    of_frames = ((time.process_time() - began) / 200 - cpu) / 500
    asyncio.run(link.close())
    cuts = statistics.quantiles(walls, n=1000)
    return {"cpu": cpu * 1e6, "p99": cuts[989] * 1e6, "p999": cuts[998] * 1e6, "frame": of_frames * 1e6}


def main() -> None:
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        for name, value in measured(pathlib.Path(folder)).items():
            print(f"{name:>6} {value:8.2f} us")


if __name__ == "__main__":
    main()
