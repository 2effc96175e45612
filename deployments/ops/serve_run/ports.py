"""Which of the ports that a start needs are taken, and by which process. Linux."""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deployments.ops.serve_run.left_behind import is_raylet, is_serve_run
from deployments.ops.serve_run.processes import Process, ancestry, listeners, users

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
    """Return who holds the first port that is taken, and what to do; None if all are free."""
    for port in ports:
        if is_taken(port):
            return f"Port {port.number} ({port.setting}) is taken{_by(port.number)} or set another port."
    return None


def is_taken(port: Port) -> bool:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        socket.create_server((port.host, port.number), family=family).close()
    except OSError:
        return True
    return False


def _by(number: int) -> str:
    """Return who listens there, and how to stop it: a process, or the `serve run` or Ray that it belongs to."""
    for pid in listeners(number):
        above = list(ancestry(pid))
        if (run := next((each for each in above if is_serve_run(each)), None)) is not None:
            return f" by process {_shown(run)}, which runs. Stop it by Ctrl-C or by `kill {run.pid}`,"
        if any(is_raylet(each) for each in above):
            return f" by process {_shown(above[0])} of a Ray that runs. Stop what it serves by `serve shutdown`,"
        if above:
            return f" by process {_shown(above[0])}. No earlier Breakwater left it behind, so it goes on. Stop it,"
    others = sorted(users(number))
    return f" by a process of user {', '.join(others)}. Have it stopped," if others else ". Stop who has it,"


def _shown(process: Process) -> str:
    return f"{process.pid} ({process.command[:LONGEST_COMMAND]})"
