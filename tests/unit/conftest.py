"""A unit test has no socket, no process and no thread: what needs one belongs to another folder.

An audit hook can't be taken away again, so there is one for the process, which looks only while a unit test runs. The
pair of sockets by which an event loop wakes itself is neither bound nor connected.
"""

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import urllib3  # noqa: F401  binds a socket when it is imported, to see whether there is IPv6: not in the test that needs it first

FORBIDDEN = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
        "subprocess.Popen",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "_thread.start_new_thread",  # from Python 3.12 on, as the next
        "_thread.start_joinable_thread",
    }
)


class Guard:
    """Raises where something is done that a unit test must not do, and remembers it if somebody takes that."""

    def __init__(self) -> None:
        self.active = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event in FORBIDDEN:
            self.seen.append(event)
            raise RuntimeError(f"{event} in a unit test")

    def thread(self, frame: FrameType, event: str, argument: Any) -> None:
        """The first that each new thread does: Python 3.11 has no audit event for its start."""
        sys.setprofile(None)
        if self.active:
            self.seen.append("a thread")


guard = Guard()
sys.addaudithook(guard)


@pytest.fixture(autouse=True)
def nothing_but_this_thread() -> Iterator[Guard]:
    guard.seen.clear()
    before = threading.getprofile()
    threading.setprofile(guard.thread)
    guard.active = True
    yield guard
    guard.active = False
    threading.setprofile(before)  # type: ignore[arg-type]

    assert guard.seen == [], "a unit test did what belongs to tests/io"
