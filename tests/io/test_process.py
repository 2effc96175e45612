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
    sharing = CoreSharing(lambda policy, _: asked.append(policy))
    for tenth in range(100):
        sharing.note(MANY + tenth if 20 <= tenth < 40 and tenth % 3 else tenth % MANY, tenth / 10)
    assert asked == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]
    sharing.note(MANY, 10.0)
    sharing.note(0, 10.0 + CALM_SECONDS)
    assert asked[3:] == [os.SCHED_BATCH]


class Asked:
    """What the kernel was asked for last, by thread; 0 is our own. The HAProxy with pid 7 has the threads 7 and 8."""

    def __init__(self) -> None:
        self.policies = dict[int, int]()
        self.sharing = CoreSharing(self._set, lambda pid: (pid, pid + 1))

    def _set(self, policy: int, thread: int) -> None:
        self.policies[thread] = policy


def test_haproxy_shares_the_core_as_the_ingress_does() -> None:
    asked = Asked()
    asked.sharing.note(1, 0.0)
    asked.sharing.connected(7)
    assert asked.policies == dict.fromkeys((0, 7, 8), os.SCHED_OTHER)
    asked.sharing.note(MANY, 1.0)
    assert asked.policies == dict.fromkeys((0, 7, 8), os.SCHED_BATCH)
    asked.sharing.connected(20)  # it replaces the other, and has the ingress's policy from its first connection on
    assert asked.policies == dict.fromkeys((0, 7, 8, 20, 21), os.SCHED_BATCH)
    asked.sharing.note(1, 9.0)
    assert asked.policies == dict.fromkeys((0, 7, 8, 20, 21), os.SCHED_OTHER)


def test_a_haproxy_without_a_connection_is_let_alone() -> None:
    asked = Asked()
    for _ in range(2):
        asked.sharing.connected(7)
    asked.sharing.disconnected(7)
    asked.sharing.note(1, 0.0)
    assert asked.policies == dict.fromkeys((0, 7, 8), os.SCHED_OTHER)
    asked.sharing.disconnected(7)  # its pid may be another's by now
    asked.sharing.note(MANY, 1.0)
    assert asked.policies == {0: os.SCHED_BATCH, 7: os.SCHED_OTHER, 8: os.SCHED_OTHER}


def test_while_requests_are_many_here_another_ingress_that_has_few_does_not_keep_haproxy_impatient() -> None:
    asked = Asked()
    asked.sharing.connected(7)
    asked.sharing.note(MANY, 0.0)
    asked.policies[7] = os.SCHED_OTHER  # by another ingress
    asked.sharing.note(MANY, CALM_SECONDS / 2)
    assert asked.policies[7] == os.SCHED_OTHER, "it is asked once a second at most"
    asked.sharing.note(MANY, CALM_SECONDS * 2)
    assert asked.policies[7] == os.SCHED_BATCH
