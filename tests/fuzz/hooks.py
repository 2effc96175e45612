"""What Schemathesis loads before a run: checks of our own, and a count of all answers. It runs in a process of its own.

It imports nothing of ours, so that it sees what any client sees.
"""

import atexit
import collections
import json
import os
import pathlib
from typing import Any

import schemathesis

COUNTS: collections.Counter[str] = collections.Counter()
SLOWEST = {"seconds": 0.0, "call": ""}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count the answer, and remember which took longest."""
    COUNTS[f"{case.method} {case.operation.path} {response.status_code}"] += 1
    if response.elapsed > SLOWEST["seconds"]:
        SLOWEST.update(seconds=response.elapsed, call=f"{case.method} {case.operation.path} {response.status_code}")


@schemathesis.hook
def filter_path_parameters(context: Any, path_parameters: Any) -> bool:
    """Leave out a name with a `#`: it is not quoted, so its URL ends there and means another path."""
    return not any("#" in str(value) for value in (path_parameters or {}).values())


@schemathesis.check
def server_error_is_not_ours(ctx: Any, response: Any, case: Any) -> None:
    """Fail for a 5xx, but for the 504 of a deadline that the caller has set."""
    if response.status_code < 500:
        return
    headers = {name.lower() for name in case.headers or ()}
    code = json.loads(response.content)["error"]["code"]
    wanted = response.status_code == 504 and code == "deadline_exceeded" and "x-request-timeout-seconds" in headers
    assert wanted, f"{response.status_code}, {code}"


@schemathesis.check
def no_stack_is_shown(ctx: Any, response: Any, case: Any) -> None:
    """Fail for an answer that shows where our code failed."""
    assert b"Traceback (most recent call last)" not in response.content


@atexit.register
def write_counts() -> None:
    """Leave the counts to the process that has started this one."""
    if path := os.environ.get("FUZZ_COUNTS"):
        pathlib.Path(path).write_text(json.dumps({"answers": COUNTS, "slowest": SLOWEST}))
