"""Our processes run under the policy that lets each work off what has come."""

import os
import subprocess
import sys

from actors.scheduling import work_in_batches

TOLD = """
import os, threading
from actors.scheduling import work_in_batches
ready = threading.Event()
before = threading.Thread(target=ready.wait); before.start()
work_in_batches()
after = threading.Thread(target=ready.wait); after.start()
print(sorted(os.sched_getscheduler(int(name)) for name in os.listdir("/proc/self/task")))
ready.set()
"""


def test_all_threads_run_so_those_that_were_there_and_those_that_come() -> None:
    said = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str([os.SCHED_BATCH] * 3)


def test_where_a_sandbox_forbids_it_all_goes_on() -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    original, os.sched_setscheduler = os.sched_setscheduler, refuse  # type: ignore[assignment]
    try:
        work_in_batches()
    finally:
        os.sched_setscheduler = original
