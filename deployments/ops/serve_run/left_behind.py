"""What an earlier Breakwater has left behind at the ports of a start, and its end. Linux.

After a `kill -9` of `serve run` the kernel ends Ray's own processes, Ray's workers end by themselves, and HAProxy ends
with its parent. What does not may hold a port for ever. It is ended here, if `is_left_behind` proves whose it is.
"""

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Iterable, Iterator, Sequence

from deployments.ops.serve_run.processes import Process, ancestry, listeners, read

SERVE_RUN = re.compile(r"\bserve\b.* run\b|\bserve\.scripts run\b")
WRAPPER = "deployments/ops/haproxy"  # of any checkout; serve.env and cluster.sh name it to Ray Serve
BY_ITSELF_SECONDS = 5.0  # in which what Ray has started ends after a `kill -9`; on an idle machine it takes 2
END_SECONDS = 5.0
LOOK_SECONDS = 0.1


def is_serve_run(process: Process) -> bool:
    return SERVE_RUN.search(process.command) is not None


def is_raylet(process: Process) -> bool:
    return os.path.basename(process.program) == "raylet"


def is_left_behind(above: Sequence[Process], raylet: Process | None) -> bool:
    """Return whether a process is of a Breakwater that is dead. Pure.

    `above` is the process and those that it descends from; `raylet` is what has the pid of the raylet that it names.
    Each process that a raylet starts names it in its environment, and ends with it if all goes well.
    """
    process = above[0]
    if not process.is_own or "RAY_RAYLET_PID" not in process.environment:
        return False
    if raylet is not None and is_raylet(raylet):
        return False  # it is alive, or another has its pid: then nothing is proved
    return _is_ours(process) and not any(is_raylet(each) or is_serve_run(each) for each in above)


def _is_ours(process: Process) -> bool:
    """Return whether our wrapper has started this HAProxy, or this is a worker of a Ray that has our wrapper."""
    if os.path.basename(process.program) == "haproxy":
        return "BREAKWATER_HAPROXY_PARENT" in process.environment
    is_worker = process.words[:1] != () and process.words[0].startswith("ray::")
    return is_worker and process.environment.get("RAY_SERVE_HAPROXY_BINARY_PATH", "").endswith(WRAPPER)


def find(ports: Iterable[int]) -> dict[int, str]:
    """Return the processes that were left behind at these ports, each with what is said of it."""
    found: dict[int, str] = {}
    for port in ports:
        for pid in listeners(port):
            if pid not in found and _proved(pid):
                found[pid] = _words(pid, port)
    return found


def _proved(pid: int) -> bool:
    above = list(ancestry(pid))
    return bool(above) and is_left_behind(above, read(_raylet_of(above[0])))


def _raylet_of(process: Process) -> int:
    named = process.environment.get("RAY_RAYLET_PID", "")
    return int(named) if named.isdecimal() else 0


def _words(pid: int, port: int) -> str:
    process = read(pid)
    what = "a HAProxy" if process is None or not process.command.startswith("ray::") else process.command.split()[0]
    return f"Found {what} that an earlier Breakwater left behind (process {pid}, port {port})"


def end_all(ports: Sequence[int], by_itself: float = BY_ITSELF_SECONDS) -> Iterator[str]:
    """End what was left behind at these ports. Yield a sentence for each process that had to be ended."""
    deadline = time.monotonic() + by_itself
    while (found := find(ports)) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    for pid, words in found.items():
        with contextlib.suppress(OSError):  # it has ended by itself, or the kernel is older than handles of processes
            yield f"{words}: {'ended' if _end(pid) else 'it does not end'}."


def _end(pid: int) -> bool:
    """End a process, and return whether it has ended. Raises ProcessLookupError if it is another one by now."""
    handle = os.pidfd_open(pid)
    try:
        if not _proved(pid):  # looked at again, since from here on nobody else gets its pid
            raise ProcessLookupError(pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], END_SECONDS)[0]:
                return True
        return False
    finally:
        os.close(handle)
