"""Serve's real HAProxy, with Serve's own template, as our wrapper starts it."""

import contextlib
import os
import pathlib
import signal
import socket
import socketserver
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from deployments.ingress.server.unix_socket import abstract_name

ROOT = pathlib.Path(__file__).parents[2]
MANAGER = pathlib.Path(__file__).with_name("haproxy_manager.py")
BODY = 6_000_000  # bytes of a large body
SILENCE = 1  # seconds that HAProxy waits for a replica, in place of those in serve.env


def serve_env() -> dict[str, str]:
    lines = (ROOT / "serve.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def eventually(what: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.02)


class Answers(socketserver.BaseRequestHandler):
    """One connection to an ingress replica."""

    server: "Replica | UnixSocket"

    def handle(self) -> None:
        self.server.connections.append(self.request)
        with contextlib.suppress(OSError):
            while path := self._path():
                answer = {
                    "/-/healthz": self._live,
                    "/flow": self._flow,
                    "/hush": self._hush,
                    "/much": self._much,
                    "/late": self._late,
                }
                {**answer, "/refuse": self._refuse, "/swallow": self._swallow}.get(path, self._say)()

    def _path(self) -> str:
        head = b""
        while not head.endswith(b"\r\n\r\n") and (more := self.request.recv(1)):
            head += more
        return head.split()[1].decode() if head else ""

    def _say(self) -> None:
        self.server.asked += 1
        self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def _live(self) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def _late(self) -> None:
        """An answer and a stream that take longer than a client may stand still."""
        time.sleep(2 * SILENCE)
        self._begin()
        time.sleep(2 * SILENCE)
        self.request.sendall(b"0\r\n\r\n")

    def _refuse(self) -> None:
        """An answer before the body has come, as the ingress closes it."""
        self.request.sendall(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        self.request.close()

    def _swallow(self) -> None:
        """An answer once all of a body of so many bytes has come."""
        left = BODY
        while left and (got := self.request.recv(min(left, 0x40000))):
            left -= len(got)
        self._say()

    def _begin(self) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")

    def _flow(self) -> None:
        """A piece every 50 ms."""
        self._begin()
        while not self.server.end.wait(0.05):
            self.request.sendall(b"4\r\nmore\r\n")
        self.request.sendall(b"0\r\n\r\n")

    def _much(self) -> None:
        """Far more than fits into all the buffers on the way."""
        self._begin()
        for _ in range(400):
            self.request.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        self.request.sendall(b"0\r\n\r\n")

    def _hush(self) -> None:
        """One piece, and then neither more nor an end: a node that has vanished, a process that stands still."""
        self._begin()
        self.server.end.wait()


class Replica(socketserver.ThreadingTCPServer):
    """An ingress replica's socket."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Answers)
        self.asked = 0  # besides checks of its health
        self.connections: list[socket.socket] = []
        self.end = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def die(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.end.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


class UnixSocket(socketserver.ThreadingUnixStreamServer):
    """The UNIX socket beside a replica's port."""

    daemon_threads = True

    def __init__(self, beside: Replica) -> None:
        super().__init__(abstract_name(beside.server_address[1]), Answers)
        self.asked, self.connections, self.end = 0, list[socket.socket](), threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Proxy:
    port: int
    folder: pathlib.Path
    replica: Replica
    stats: int
    metrics: int
    manager: "subprocess.Popen[str] | None" = None
    pids: list[int] = field(default_factory=list)

    def start(self, *others: Replica, **settings: str) -> None:
        self.begin(*others, **settings)
        self._read_pid()

    def begin(self, *others: Replica, **settings: str) -> None:
        env = {
            **os.environ,
            **serve_env(),
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "deployments/ops/haproxy"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.stats),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.metrics),
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            **settings,
        }
        replicas = ["{}:{}".format(*replica.server_address) for replica in (self.replica, *others)]
        command = [sys.executable, str(MANAGER), str(self.folder), str(self.port), *replicas]
        self.manager = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )

    def reload(self) -> None:
        assert self.manager is not None
        assert self.manager.stdin is not None
        self.manager.stdin.write("\n")
        self.manager.stdin.flush()
        self._read_pid()

    def _read_pid(self) -> None:
        assert self.manager is not None
        assert self.manager.stdout is not None
        line = self.manager.stdout.readline()
        assert line.strip(), "HAProxy did not start"
        self.pids.append(int(line))

    def kill_the_manager(self) -> None:
        assert self.manager is not None
        self.manager.kill()
        self.manager.communicate()

    def connect(self, path: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        return client

    def status(self, path: str = "/") -> bytes:
        with contextlib.closing(self.connect(path)) as client:
            return client.recv(1000).split(b"\r\n")[0]


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def runs(pid: int) -> bool:
    """Is there such a process, and it has not ended? An orphan's new parent may take its time to bury it."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def listening(pid: int) -> set[str]:
    """The addresses at which a process listens, as `127.0.0.1:80`; its other sockets are left out."""
    held = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(fd.readlink()))
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    ends = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]
    return {f"{socket.inet_ntoa(bytes.fromhex(address)[::-1])}:{int(port, 16)}" for address, port in ends}


def rest_of(client: socket.socket, already: bytes = b"") -> bytes:
    """All that comes until the end of a chunked answer or of the connection."""
    come = bytearray(already)  # bytes would be copied with each piece
    while not come.endswith(b"0\r\n\r\n") and (more := client.recv(1 << 20)):
        come += more
    return bytes(come)


@pytest.fixture
def proxy(tmp_path: pathlib.Path) -> Iterator[Proxy]:
    made = Proxy(free_port(), tmp_path, Replica(), free_port(), free_port())
    yield made
    made.replica.stop()
    if made.manager is not None and made.manager.poll() is None:
        made.manager.communicate("", timeout=30)
    for pid in made.pids:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


def test_statistics_and_metrics_are_on_loopback_and_the_admin_socket_is_its_users_alone(proxy: Proxy) -> None:
    proxy.start()
    for _ in range(2):
        assert listening(proxy.pids[-1]) == {f"127.0.0.1:{port}" for port in (proxy.port, proxy.stats, proxy.metrics)}
        assert stat.S_IMODE((proxy.folder / "admin.sock").stat().st_mode) == 0o600
        proxy.reload()
    assert proxy.status() == b"HTTP/1.1 200 OK"


def test_a_stream_survives_a_reload_and_the_old_process_ends_after_it(proxy: Proxy) -> None:
    proxy.start()
    with contextlib.closing(proxy.connect("/flow")) as client:
        began = client.recv(1000)
        for _ in range(3):
            proxy.reload()
        assert proxy.status() == b"HTTP/1.1 200 OK"
        assert runs(proxy.pids[0])
        proxy.replica.end.set()
        assert rest_of(client, began).endswith(b"0\r\n\r\n")
    eventually(lambda: not any(runs(pid) for pid in proxy.pids[:-1]))
    assert runs(proxy.pids[-1])


def test_a_stream_that_outlives_the_hard_stop_is_cut(proxy: Proxy) -> None:
    proxy.start(RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S="1")
    with contextlib.closing(proxy.connect("/flow")) as client:
        proxy.reload()
        assert not rest_of(client).endswith(b"0\r\n\r\n")
    eventually(lambda: not runs(proxy.pids[0]))


def test_when_its_parent_is_killed_its_ports_are_free_and_its_streams_come_to_their_end(proxy: Proxy) -> None:
    proxy.start()
    with contextlib.closing(proxy.connect("/flow")) as client:
        began = client.recv(1000)
        proxy.kill_the_manager()
        eventually(lambda: not any(map(listens, (proxy.port, proxy.stats, proxy.metrics))), 5)
        proxy.replica.end.set()
        assert rest_of(client, began).endswith(b"0\r\n\r\n")
    eventually(lambda: not runs(proxy.pids[0]))


def test_after_its_parent_was_killed_another_starts_on_the_same_ports(proxy: Proxy) -> None:
    proxy.start()
    with contextlib.closing(proxy.connect("/flow")):
        proxy.kill_the_manager()
        proxy.start()
        assert proxy.status() == b"HTTP/1.1 200 OK"


SLOW_PYTHON = """#!/bin/sh
echo $$ > {folder}/pid && mv {folder}/pid {folder}/begun
while [ "$(cut -d' ' -f4 /proc/$$/stat)" = "$PPID" ]; do sleep 0.02; done
exec {python} "$@"
"""


def test_none_is_left_behind_whose_parent_was_killed_before_python_had_started(proxy: Proxy) -> None:
    """As when `kill -9` meets a reload: the wrapper then finds itself with another parent, and none dies any more."""
    slow = proxy.folder / "bin" / "python"
    slow.parent.mkdir()
    slow.write_text(SLOW_PYTHON.format(folder=proxy.folder, python=sys.executable))
    slow.chmod(0o700)
    proxy.begin(PATH=f"{slow.parent}:{os.environ['PATH']}")
    eventually((proxy.folder / "begun").exists)
    proxy.pids.append(int((proxy.folder / "begun").read_text()))
    proxy.kill_the_manager()
    eventually(lambda: not runs(proxy.pids[0]))
    assert not any(map(listens, (proxy.port, proxy.stats, proxy.metrics)))


def test_a_stream_of_a_replica_that_has_gone_silent_is_given_up(proxy: Proxy) -> None:
    proxy.start(RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S=str(SILENCE))
    with contextlib.closing(proxy.connect("/hush")) as client:
        began = time.monotonic()
        assert not rest_of(client).endswith(b"0\r\n\r\n")
        assert SILENCE - 0.5 < time.monotonic() - began < SILENCE + 3


@pytest.fixture
def others() -> Iterator[list[Replica]]:
    """A second replica of this node, and one of another."""
    made = [Replica(), Replica("127.0.0.2")]
    yield made
    for replica in made:
        replica.stop()


def test_requests_stay_on_their_node_and_go_to_another_when_none_of_its_replicas_is_up(
    proxy: Proxy, others: list[Replica]
) -> None:
    [second, far] = others
    proxy.start(*others, BREAKWATER_HAPROXY_NEAR="1")
    assert {proxy.status() for _ in range(60)} == {b"HTTP/1.1 200 OK"}
    assert far.asked == 0
    assert proxy.replica.asked + second.asked == 60
    assert min(proxy.replica.asked, second.asked) > 10
    proxy.replica.die()
    second.die()
    eventually(lambda: proxy.status() == b"HTTP/1.1 200 OK")  # two of three that are gone at once are found one by one
    before = far.asked
    assert before > 0
    eventually(lambda: [proxy.status() for _ in range(10)] == [b"HTTP/1.1 200 OK"] * 10)
    assert far.asked >= before + 10


def test_without_the_switch_all_nodes_get_requests(proxy: Proxy, others: list[Replica]) -> None:
    proxy.start(*others)
    assert {proxy.status() for _ in range(60)} == {b"HTTP/1.1 200 OK"}
    assert others[1].asked > 10


def test_a_replica_of_this_node_is_reached_by_its_unix_socket_while_haproxy_finds_one(proxy: Proxy) -> None:
    near = UnixSocket(proxy.replica)
    proxy.start()
    for _ in range(2):
        assert {proxy.status() for _ in range(5)} == {b"HTTP/1.1 200 OK"}
        proxy.reload()
    assert (near.asked, proxy.replica.asked) == (10, 0)
    near.stop()
    for _ in range(2):
        proxy.reload()
        assert {proxy.status() for _ in range(5)} == {b"HTTP/1.1 200 OK"}
    assert (near.asked, proxy.replica.asked) == (10, 10)
    again = UnixSocket(proxy.replica)
    for _ in range(2):
        proxy.reload()
        assert {proxy.status() for _ in range(5)} == {b"HTTP/1.1 200 OK"}
    assert (again.asked, proxy.replica.asked) == (10, 10)
    again.stop()


def test_a_replica_of_another_node_is_reached_by_its_port(proxy: Proxy, others: list[Replica]) -> None:
    """Both have one name, as two nodes have one port: the socket is the one of this node."""
    [_, far] = others
    near = UnixSocket(far)
    proxy.start(far)
    assert {proxy.status() for _ in range(20)} == {b"HTTP/1.1 200 OK"}
    assert far.asked > 0
    assert near.asked == 0
    near.stop()


def test_requests_stay_on_their_node_by_unix_sockets(proxy: Proxy, others: list[Replica]) -> None:
    near = UnixSocket(proxy.replica)
    proxy.start(others[1], BREAKWATER_HAPROXY_NEAR="1")
    assert {proxy.status() for _ in range(20)} == {b"HTTP/1.1 200 OK"}
    assert (near.asked, proxy.replica.asked, others[1].asked) == (20, 0, 0)
    near.stop()


def test_a_reader_that_stops_for_longer_is_not_taken_for_a_silent_replica(proxy: Proxy) -> None:
    proxy.start(RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S=str(SILENCE))
    with contextlib.closing(proxy.connect("/much")) as client:
        began = client.recv(1000)
        time.sleep(2 * SILENCE)
        whole = rest_of(client, began)
    assert whole.endswith(b"0\r\n\r\n")
    assert len(whole) > 400 * 0x10000


def test_a_head_that_does_not_come_to_its_end_is_cut_and_what_is_kept_alive_is_not(proxy: Proxy) -> None:
    proxy.start(BREAKWATER_HAPROXY_HEAD_SECONDS=str(SILENCE))
    with (
        contextlib.closing(proxy.connect("/")) as kept,
        contextlib.closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=20)) as slow,
        contextlib.closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=20)) as silent,
    ):
        assert kept.recv(1000).endswith(b"ok")
        began = time.monotonic()
        slow.sendall(b"GET / HTTP/1.1\r\nx: ")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert slow.recv(1000) == b""
        assert SILENCE - 0.5 < time.monotonic() - began < SILENCE + 3
        assert silent.recv(1000) == b"", "who has only connected would take a 408 for its answer"
        kept.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert kept.recv(1000).endswith(b"ok")


def test_a_refused_body_that_never_comes_to_its_end_is_closed(proxy: Proxy) -> None:
    proxy.start(RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S=str(SILENCE))
    with contextlib.closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=20)) as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + bytes(900_000))
        assert client.recv(1000).startswith(b"HTTP/1.1 408")
        assert rest_of(client) == b"", "it was closed, and nothing more was said"


def test_large_bodies_share_a_rate_and_a_small_one_passes_between_them(proxy: Proxy) -> None:
    proxy.start(BREAKWATER_HAPROXY_BODY_MEGABYTES="4")
    head = b"POST /swallow HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % BODY
    took: list[float] = []

    def send() -> None:
        with contextlib.closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=60)) as client:
            client.sendall(head + bytes(BODY))
            assert client.recv(1000).endswith(b"ok")
            took.append(time.monotonic() - began)

    began = time.monotonic()
    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    assert proxy.status() == b"HTTP/1.1 200 OK"
    assert not took, "a small request does not wait for them"
    for sender in senders:
        sender.join()
    assert len(took) == 3
    assert max(took) > 3 * BODY / 4_194_304 - 2  # the first second's share passes at once


def test_a_client_that_waits_for_its_answer_is_not_taken_for_one_that_stands_still(proxy: Proxy) -> None:
    proxy.start(RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S=str(SILENCE))
    with contextlib.closing(proxy.connect("/late")) as client:
        assert rest_of(client).endswith(b"hello\r\n0\r\n\r\n")


def test_a_reader_that_stops_for_too_long_is_cut(proxy: Proxy) -> None:
    proxy.start(RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S=str(SILENCE))
    with contextlib.closing(proxy.connect("/much")) as client:
        client.recv(1000)
        time.sleep(3 * SILENCE)
        assert not rest_of(client).endswith(b"0\r\n\r\n")
