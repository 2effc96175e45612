"""An ingress that writes rows as fast as it can, until it is killed: `python -m tests.ledger.writer FOLDER SEED`.

It says on stdout what it has done, after it has done it: `o ID` an attempt is open and may be sent,
`s ID` it is settled. Nobody takes its rows.
"""

import os
import pathlib
import random
import sys
from typing import Any

from actors.breaker.outcomes import Outcome
from deployments.usage.ledger_client import LedgerLink

OK = Outcome("ok", content=True)


async def away() -> Any:
    raise ConnectionError


def main(folder: str, seed: int) -> None:
    link = LedgerLink(away, pathlib.Path(folder))
    draw = random.Random(seed)
    under_way: list[Any] = []
    while True:
        account = link.begin(tenant="acme", agent="x" * draw.randint(0, 200))
        entry = account.open("openai/gpt")
        os.write(1, f"o {account.request_id}\n".encode())
        under_way.append((account.request_id, entry))
        while len(under_way) > draw.randint(0, 8):
            name, ended = under_way.pop(draw.randrange(len(under_way)))
            ended.settle(OK, {"prompt_tokens": 3, "completion_tokens": 2})
            os.write(1, f"s {name}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
