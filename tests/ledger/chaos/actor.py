"""The ledger's process: `python -m tests.ledger.chaos.actor FOLDER URL`."""

import asyncio
import pathlib
import sys

from actors.ledger.single_writer.writer import LedgerWriter
from tests.ledger.chaos.clock import clock_of
from tests.ledger.chaos.socket_calls import serve_calls

PATROL_SECONDS = 1.0
METHODS = {"bury": "settle_as_lost"}  # where the actor's word is another


async def main(folder: pathlib.Path, url: str) -> None:
    wall = clock_of(folder / "actor.clock")
    ledger = LedgerWriter({"url": url, "missing": "", "journals": str(folder / "journal")}, wall=wall)
    server = await serve_calls(
        folder / "actor.socket", lambda method, *given: getattr(ledger, METHODS.get(method, method))(*given)
    )
    async with server:
        while True:
            await ledger.patrol()
            await asyncio.sleep(PATROL_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
