"""What being in the ledger asks of a request's ingress; `python -m tests.bench.ledger` prints what it costs in time.

A time depends on the machine. How many functions are called for a request does not, and work that grows shows in it.
"""

import asyncio
import pathlib
import sys
from collections import Counter
from typing import Any

from tests.bench.ledger import link_in, one_request

CALLS = 240  # of Python functions and of C's, with some room for another version of Python


def test_a_request_calls_a_bounded_number_of_functions(tmp_path: pathlib.Path) -> None:
    link = link_in(tmp_path)
    one_request(link)  # what is made once
    events = Counter[str]()

    def hook(_frame: Any, event: str, _argument: Any) -> None:
        events[event] += 1

    sys.setprofile(hook)
    try:
        for _ in range(10):
            one_request(link)
    finally:
        sys.setprofile(None)
    asyncio.run(link.close())
    assert 10 < (events["call"] + events["c_call"]) / 10 <= CALLS
