"""A port that is taken is told with its holder, before anything starts."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deployments.ops.serve_run.ports import Port, explain_taken

HOLDER = """
import socket, sys, time
s = socket.create_server((sys.argv[1], 0))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def held(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], Port]]:
    command = [sys.executable, "-c", HOLDER, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Port(int(process.stdout.readline()), "127.0.0.1", "http_options.port")
        process.communicate("")


def test_the_process_that_holds_a_port_is_named(held: tuple[subprocess.Popen[str], Port]) -> None:
    process, port = held
    said = explain_taken([port])
    assert said is not None
    assert said.startswith(f"Port {port.number} (http_options.port) is taken by process {process.pid} (")
    assert said.endswith("No earlier Breakwater left it behind, so it goes on. Stop it, or set another port.")


def test_a_free_port_and_one_that_is_only_closing_are_free() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = Port(server.getsockname()[1], "127.0.0.1", "x")
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    accepted.close()  # the server's side closes first, so its address stays for a while
    client.close()
    server.close()
    assert explain_taken([port]) is None


def test_our_own_process_is_found_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = explain_taken([Port(server.getsockname()[1], "127.0.0.1", "x")])
    assert said is not None
    assert f"process {os.getpid()} (" in said
