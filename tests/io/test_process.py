"""Our processes run as they ask for, with all their threads."""

import gc
import os
import subprocess
import sys

import pytest

from actors.process import BACKGROUND, CALM_SECONDS, MANY, THRESHOLD, CoreSharing, tune_process, yield_to_others

TOLD = """
import os, threading
from actors.process import tune_process, yield_to_others
ready = threading.Event()
before = threading.Thread(target=ready.wait); before.start()
{what}()
after = threading.Thread(target=ready.wait); after.start()
print(sorted({asked} for name in os.listdir("/proc/self/task")))
ready.set()
"""


def said(what: str, asked: str) -> str:
    code = TOLD.format(what=what, asked=asked)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_all_threads_run_so_those_that_were_there_and_those_that_come() -> None:
    assert said("tune_process", "os.sched_getscheduler(int(name))") == str([os.SCHED_BATCH] * 3)
    assert said("yield_to_others", "os.getpriority(os.PRIO_PROCESS, int(name))") == str([BACKGROUND] * 3)


def test_where_a_sandbox_forbids_it_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", refuse)
    before = gc.get_threshold()
    try:
        tune_process()
        yield_to_others()
        assert gc.get_threshold()[0] == THRESHOLD
    finally:
        gc.set_threshold(*before)


ALONE = """
import os
from actors.process import MANY, SHARING, tune_process
tune_process()
for under_way, now in ((1, 0.0), (MANY, 1.0), (1, 1.5), (1, 9.0)):
    SHARING.note(under_way, now)
    print(os.sched_getscheduler(0))
"""


def test_a_request_that_is_alone_need_not_wait_for_its_turn() -> None:
    said = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(each) for each in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_BATCH, os.SCHED_OTHER)]


def test_the_kernel_is_asked_only_when_few_become_many_or_many_few() -> None:
    asked = list[int]()
    sharing = CoreSharing(asked.append)
    for tenth in range(100):
        sharing.note(MANY + tenth if 20 <= tenth < 40 and tenth % 3 else tenth % MANY, tenth / 10)
    assert asked == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]
    sharing.note(MANY, 10.0)
    sharing.note(0, 10.0 + CALM_SECONDS)
    assert asked[3:] == [os.SCHED_BATCH]
