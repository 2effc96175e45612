"""Which of the ports that a start needs are taken, and by which process. Linux."""

import contextlib
import os
import pathlib
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

PROC = pathlib.Path("/proc")
LISTENING = "0A"  # in /proc/net/tcp
SERVE_RUN = re.compile(r"\bserve\b.* run\b|\bserve\.scripts run\b")
LONGEST_COMMAND = 100  # characters that are shown


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a start needs. `setting` is where another one is chosen."""

    number: int
    host: str
    setting: str


def ports_of(options: Mapping[str, object], environment: Mapping[str, str]) -> list[Port]:
    """Return the fixed ports of `http_options` and of HAProxy, as Ray Serve has them by default."""
    host = str(options.get("host", "0.0.0.0"))
    fixed = (
        ("RAY_SERVE_HAPROXY_METRICS_PORT", 9101, "0.0.0.0"),
        ("RAY_SERVE_HAPROXY_STATS_PORT", 8404, "127.0.0.1"),
        ("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", 8500, host),
    )
    of_haproxy = [Port(int(environment.get(name, number)), where, name) for name, number, where in fixed]
    return [Port(int(str(options.get("port", 8000))), host, "http_options.port"), *of_haproxy]


def explain_taken(ports: Iterable[Port]) -> str | None:
    """Return a sentence on the first port that is taken; None if all are free."""
    for port in ports:
        if _is_taken(port):
            holder = _holder(port.number)
            by = "" if holder is None else f" by process {holder}"
            return f"Port {port.number} ({port.setting}) is taken{by}. Stop that, or set another port."
    return None


def _is_taken(port: Port) -> bool:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        socket.create_server((port.host, port.number), family=family).close()
    except OSError:
        return True
    return False


def _holder(number: int) -> str | None:
    """Return the process that listens there, as `PID (command)`; the `serve run` that it belongs to, if any."""
    sockets = {f"socket:[{inode}]" for inode in _listening(number)}
    for process in _processes():
        if sockets & set(_open_files(process)):
            ours = next((p for p in _ancestry(process) if SERVE_RUN.search(_command(p))), process)
            return f"{ours} ({_command(ours)[:LONGEST_COMMAND]})"
    return None


def _listening(number: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == number:
                    yield words[9]


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _open_files(process: int) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it is another user's, or it has ended
        for entry in (PROC / str(process) / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(entry)


def _ancestry(process: int) -> Iterator[int]:
    while process > 1:
        yield process
        try:
            stat = (PROC / str(process) / "stat").read_text()
        except OSError:
            return
        process = int(stat.rpartition(")")[2].split()[1])


def _command(process: int) -> str:
    try:
        return (PROC / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"
