"""An ingress that answers requests at a steady rate: `python -m tests.ledger.chaos.ingress FOLDER RATE SEED`.

What it has done it says on stdout, after it has done it: `a ID TENANT TOKENS` a request is answered, `r TENANT` one
is refused by its tenant's limit. Once a second it says `h JOURNAL LAG` of its journal, and `STOP` on stdin ends it.
"""

import asyncio
import os
import pathlib
import random
import sys

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Limit, Limits, Refusal
from deployments.config.ledger import Price
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prices import PriceList
from tests.ledger.chaos.clock import clock_of
from tests.ledger.chaos.socket_calls import connect_calls

OK = Outcome("ok", content=True)
NANOS_A_TOKEN = 1000
BUDGET = 1_000_000_000  # nano-dollars a month of the tenant that has a limit
LARGEST = 2000  # tokens of a request
LIMITS = Limits({"tenant:limited": Limit(monthly_cost=BUDGET)}, refuse_unseen=True)  # else each counts alone
PRICES = PriceList({"gpt": Price(input=1, output=1)})


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Ingress:
    def __init__(self, folder: pathlib.Path, rate: float, seed: int):
        self.link = LedgerClient(
            lambda: connect_calls(folder / "actor.socket"),
            folder / "journal",
            prices=PRICES,
            limits=LIMITS,
            wall=clock_of(folder / "ingress.clock"),
        )
        self.rate, self.draw = rate, random.Random(seed)
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self, stopped: asyncio.Event) -> None:
        self.link.start()
        beat = asyncio.create_task(self._say_health())
        while not stopped.is_set():
            task = asyncio.create_task(self._answer())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            await asyncio.sleep(self.draw.expovariate(self.rate))
        await asyncio.gather(*self.tasks)
        beat.cancel()
        await self.link.close()

    async def _answer(self) -> None:
        tenant = self.draw.choice(["limited", "free", "other"])
        held = await self.link.admit(tenant, None, LARGEST, LARGEST * NANOS_A_TOKEN)
        if isinstance(held, Refusal):
            return say("r", tenant)
        tokens = self.draw.randint(2, LARGEST)
        account = self.link.begin(tenant=tenant, agent="x" * self.draw.randint(0, 200), reservation=held)
        entry = account.open("openai/gpt")
        await asyncio.sleep(self.draw.expovariate(20))
        entry.settle(OK, {"prompt_tokens": 1, "completion_tokens": tokens - 1})
        account.finish("ok")
        return say("a", account.request_id, tenant, tokens)

    async def _say_health(self) -> None:
        while True:
            health = self.link.health()
            say("h", health["journal"], health["lag_rows"])
            await asyncio.sleep(1)


async def main(folder: str, rate: str, seed: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stopped.set)
    await Ingress(pathlib.Path(folder), float(rate), int(seed)).run(stopped)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
