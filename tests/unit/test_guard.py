"""Who guards the unit tests: conftest.py notices what belongs to another folder, though a test may catch it."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from tests.unit.conftest import Guard


def bound() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))


def connected() -> None:
    with socket.socket() as s:
        s.connect(("127.0.0.1", 9))


def looked_up() -> None:
    socket.getaddrinfo("localhost", 80)


def ran() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def ran_by_a_shell() -> None:
    os.system("true")


def forked() -> None:
    if os.fork() == 0:
        os._exit(0)


@pytest.mark.parametrize("what", [bound, connected, looked_up, ran, ran_by_a_shell, forked])
def test_a_socket_or_a_process_is_an_error_where_it_is_made(
    what: Callable[[], None], nothing_but_this_thread: Guard
) -> None:
    with pytest.raises(RuntimeError, match="in a unit test"):
        what()
    assert len(nothing_but_this_thread.seen) == 1
    nothing_but_this_thread.seen.clear()


def test_a_thread_is_noticed(nothing_but_this_thread: Guard) -> None:
    thread = threading.Thread(target=len, args=("",))
    try:
        thread.start()
        thread.join()
    except RuntimeError:  # from Python 3.12 on it does not even start
        pass
    assert nothing_but_this_thread.seen
    nothing_but_this_thread.seen.clear()


def test_an_executor_is_noticed(nothing_but_this_thread: Guard) -> None:
    async def main() -> None:
        await asyncio.to_thread(len, "")

    with contextlib.suppress(RuntimeError):
        asyncio.run(main())
    assert nothing_but_this_thread.seen
    nothing_but_this_thread.seen.clear()


def test_an_event_loop_is_none_of_it(nothing_but_this_thread: Guard) -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    asyncio.run(main())
    assert nothing_but_this_thread.seen == []
