"""What the processes of a running application listen at."""

import contextlib
import ipaddress
import pathlib
import re
from collections.abc import Iterator

LISTENING = "0A"
CONNECTED = "03"  # of a UNIX socket
# The names that docs/operations.md has for the processes, by their command line.
NAMES = {
    r"/haproxy ": "HAProxy",
    r"ray::ServeReplica:\w+:Ingress": "a replica of `Ingress`",
    r"ray::ServeReplica:\w+:": "a provider's replica",
    r"ray::(Proxy|ProxyActor)\b": "Ray Serve's own proxy",
    r"ray::|/ray/|ray\.serve\.scripts": "another process of Ray's",
}
METRICS_AGENT = r"ray::DashboardAgent|dashboard/agent\.py"


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield from descendants(int(child))


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def name_of(command: str) -> str:
    found = next((name for pattern, name in NAMES.items() if re.search(pattern, command)), None)
    assert found, f"a process that no page names: {command}"
    return found


def address_of(text: str) -> tuple[str, int]:
    """From /proc/net/tcp or tcp6: words of four bytes, each with its last byte first."""
    address, port = text.split(":")
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    return str(ipaddress.ip_address(b"".join(words))), int(port, 16)


def listening(pid: int) -> Iterator[tuple[str, int]]:
    """Each address and port at which one process listens."""
    held = held_by(pid)
    with contextlib.suppress(OSError):
        for family in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                row = line.split()
                if row[3] == LISTENING and f"socket:[{row[9]}]" in held:
                    yield address_of(row[1])


def unix_connections(pid: int, name: str) -> int:
    """How many connections a process holds at UNIX sockets whose abstract name, `@` first, begins so."""
    held = held_by(pid)
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    named = [row for row in rows if row[5] == CONNECTED and row[7:] and row[7].startswith(name)]
    return sum(f"socket:[{row[6]}]" in held for row in named)


def held_by(pid: int) -> set[str]:
    """What a process has open, as `socket:[4711]`."""
    held = set()
    with contextlib.suppress(OSError):
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(str(fd.readlink()))
    return held


def reach_of(address: str) -> str:
    ip = ipaddress.ip_address(address)
    return "this machine" if ip.is_loopback else "everybody" if ip.is_unspecified else "the node's address"
