"""What restarts, the rule for slow targets, hedging and keys cost a request that needs none of them.

    uv run python -m tests.bench.legs

Medians of seven rounds, in microseconds of CPU of the ingress, without sockets.
"""

import asyncio
import statistics
import time
from collections.abc import Callable

from deployments.failover.streams.kept import Kept
from deployments.failover.streams.rescue import Rescue
from deployments.idempotency.wish import wish_of
from deployments.latency.classes import class_of
from deployments.latency.hedging import Hedges, HedgeTerms, delay
from deployments.latency.latencies import Latencies
from deployments.openai_api.chat import Head, chunk

TIMES, ROUNDS = 20_000, 7
BODY = {"messages": [{"role": "user", "content": "x" * 500}] * 10}
FRAME = chunk(Head("chatcmpl-1", 1, "default"), {"content": "Hel"})
HEADERS = {b"host": b"h", b"accept": b"*/*", b"content-type": b"application/json", b"content-length": b"99"}
_SENT = {"retry-count": b"0", "read-timeout": b"600.0", "lang": b"python", "os": b"Linux", "arch": b"x64"}
OF_AN_SDK = {**HEADERS, **{f"x-stainless-{name}".encode(): value for name, value in _SENT.items()}}
TERMS = HedgeTerms(0.02, 0.3, None, 4000)


def known() -> Latencies:
    made = Latencies()
    for _ in range(500):
        made.first_content("a/m", "0", 0.5, 0.0, of_whole=True)
    return made


def microseconds(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(TIMES):
            work()
        rounds.append((time.process_time() - began) / TIMES * 1e6)
    return statistics.median(rounds)


async def _never() -> None:
    """No other provider is asked."""


async def figures() -> dict[str, float]:
    loop, times, hedges = asyncio.get_running_loop(), known(), Hedges()

    def slow_rule() -> None:
        call = object()
        times.begin("a/m", call, "0", 1.0, of_whole=False)
        times.slow("a/m", 1.0)
        times.slow("b/m", 1.0)
        times.first_content("a/m", "0", 0.5, 1.0, of_whole=False, call=call)

    def hedging() -> None:
        hedges.count("row", TERMS)
        delay(times, "a/m", "0", TERMS, 5.0, 1.0)
        loop.call_later(5.0, hedging).cancel()

    def keeping() -> None:
        Kept().add(FRAME)

    def keeping_text() -> None:
        kept = Kept(most=1_000_000)
        for _ in range(100):
            kept.add(FRAME)
        kept.close()

    rescue = Rescue(_never, lambda: None, lambda: None, lambda _: None)

    def watching() -> None:
        rescue.wait(1.0)
        rescue.heard(1.0)

    made = {
        "the rule for slow targets, a request": microseconds(slow_rule),
        "the class of a request of 5 kB by HTTP": microseconds(lambda: class_of(BODY, 5_000)),
        "the class of the same by handle": microseconds(lambda: class_of(BODY, 0)),
        "hedging, a request of a row that has it": microseconds(hedging),
        "what may begin anew, a stream": microseconds(keeping),
        "what a text of 100 frames keeps, a frame": microseconds(keeping_text) / 100,
        "is it sent twice? a request of curl": microseconds(lambda: wish_of(HEADERS)),
        "the same of the openai SDK": microseconds(lambda: wish_of(OF_AN_SDK)),
        "what may be rescued, a batch of frames": microseconds(watching),
    }
    await rescue.close()
    return made


def main() -> None:
    print("| what | µs |\n|---|---|")
    for what, spent in asyncio.run(figures()).items():
        print(f"| {what} | {spent:.1f} |")


if __name__ == "__main__":
    main()
