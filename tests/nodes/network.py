"""A switch and machines with one link each, as network namespaces of Linux. Needs root and iproute2.

A link that is cut is silent: no reset and no FIN, as after a power cut or in a partition.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

NET = "10.77.0"
SWITCH = f"{NET}.1"  # the switch's own address: of whoever is outside of the cluster
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Have this thread, and the threads and processes that it starts, live in the namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter_file(f"/var/run/netns/{namespace}")
        yield
    finally:
        _enter(home)
        os.close(home)


def _enter_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        _enter(fd)
    finally:
        os.close(fd)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Its namespaces are named by this process, so that two runs do not meet."""

    def __init__(self) -> None:
        self._prefix = f"bw{os.getpid()}"
        self.switch = f"{self._prefix}-switch"
        self._machines: list[str] = []

    def __enter__(self) -> "Network":
        ip("netns", "add", self.switch)
        at = "netns", "exec", self.switch, "ip"
        ip(*at, "link", "set", "lo", "up")
        ip(*at, "link", "add", "br0", "type", "bridge")
        ip(*at, "addr", "add", f"{SWITCH}/24", "dev", "br0")
        ip(*at, "link", "set", "br0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._machines, self.switch]:
            ip("netns", "del", name)

    def namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def add(self, name: str) -> str:
        """Add a machine; return its address."""
        namespace = self.namespace(name)
        self._machines.append(namespace)
        address = f"{NET}.{10 + len(self._machines)}"
        ip("netns", "add", namespace)
        ip("-n", self.switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("-n", self.switch, "link", "set", name, "master", "br0", "up")
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", namespace, "link", "set", device, "up")
        return address

    def cut(self, name: str) -> None:
        ip("-n", self.switch, "link", "set", name, "down")

    def mend(self, name: str) -> None:
        ip("-n", self.switch, "link", "set", name, "up")
