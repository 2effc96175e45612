"""Processes of a system: which they are, what CPU they took, what memory they hold; and how they are started and ended.

A system is started in a session of its own, and whatever it forks stays in that session.
CPU is the kernel's own clock of each process, in nanoseconds, so that short runs can be told apart.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
PAGE = os.sysconf("SC_PAGE_SIZE")
# What a process's command line has, and what we call it; the first that fits. All else of Ray is `ray`.
ROLES = (
    ("ray::ServeReplica:llm:Ingress", "ingress"),
    ("ray::ServeReplica:llm:first", "provider, first"),
    ("ray::ServeReplica:llm:", "provider, second"),
    ("ray::BreakerActor", "breaker actor"),
    ("ray::LedgerActor", "ledger actor"),
    ("haproxy -", "haproxy"),
    ("ray::ServeController", "serve controller"),
    ("ray::HAProxyManager", "serve proxies"),
    ("ray::ProxyActor", "serve proxies"),
    ("/raylet/raylet", "raylet"),
    ("/gcs/gcs_server", "gcs"),
    ("ray::DashboardAgent", "agents"),
    ("ray::RuntimeEnvAgent", "agents"),
    ("litellm", "litellm"),
    ("@portkey-ai/gateway", "portkey"),
    ("dashboard", "dashboard"),
    ("serve.scripts run", "serve run"),
    ("ray", "ray, the rest"),
    ("tests.bench.upstream", "upstream"),
)


class CannotRun(Exception):
    """One sentence that says what is missing."""


def role_of(command: str) -> str:
    return next((role for part, role in ROLES if part in command), command.split(" ")[0].rpartition("/")[2])


def members(session: int) -> dict[int, str]:
    """Process ids of a session with their roles."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # After the name, which may have any characters.
            state, _, _, its_session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(its_session) == session and state != "Z":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = role_of(command)
    return found


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process with all its threads, also those that have ended; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes it
    return 0.0


def rss_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def pss_of(pid: int) -> int:
    """Bytes of a process's proportional set size."""
    with contextlib.suppress(OSError):
        found = _PSS.search(pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


class Clocks:
    """The CPU of a session from now on."""

    def __init__(self, session: int | None):
        self._session = session
        self._began = {pid: cpu_of(pid) for pid in self._members()}

    @classmethod
    def since_start(cls, session: int) -> dict[str, float]:
        """Return what a session's processes have taken since they were started, as `spent` does."""
        clocks = cls(None)
        clocks._session = session
        return clocks.spent()

    def _members(self) -> dict[int, str]:
        return members(self._session) if self._session is not None else {}

    def spent(self) -> dict[str, float]:
        """Seconds by role, the greatest first. A process that came meanwhile counts from its start."""
        taken: Counter[str] = Counter()
        for pid, role in self._members().items():
            taken[role] += max(0.0, cpu_of(pid) - self._began.get(pid, 0.0))
        return dict(taken.most_common())


def busy_of(cores: set[int]) -> float:
    """Seconds that these cores have worked, for whomever."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name in {f"cpu{core}" for core in cores}:
            user, nice, system, _idle, _waiting, irq, softirq, steal = (int(time) for time in times[:8])
            total += (user + nice + system + irq + softirq + steal) / tick
    return total


def memory_of(session: int) -> dict[str, float]:
    """Megabytes of memory by role, the greatest first. What processes share counts once, in equal parts."""
    held: Counter[str] = Counter()
    for pid, role in members(session).items():
        held[role] += pss_of(pid)
    return {role: size / 2**20 for role, size in held.most_common()}


def pin(session: int, cores: set[int]) -> None:
    """Every thread of a session to these cores; what they start later inherits that."""
    threads = set()
    while new := _threads(session) - threads:
        for thread in new:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores)
        threads |= new


def _threads(session: int) -> set[int]:
    found = set()
    for pid in members(session):
        with contextlib.suppress(OSError):
            found |= {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    return found


def is_free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return True
    return False


@contextlib.contextmanager
def running(
    command: Sequence[str], log: pathlib.Path, env: Mapping[str, str], cwd: pathlib.Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a session of its own. In the end nobody of that session is left."""
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask as Ctrl-C does, then more firmly. Serve ends its replicas itself, which takes some seconds."""
    for sign, seconds in ((signal.SIGINT, 45.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        first = sign is signal.SIGINT
        for pid in [process.pid] if first and process.poll() is None else members(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and members(process.pid):
            process.poll()
            if first and process.returncode is not None:
                break  # who is left will not go by itself
            time.sleep(0.1)
        process.poll()


def ended(run: Callable[[pathlib.Path], None]) -> int:
    """Run a bench in a folder of its own, and return its exit code. A signal ends first what the bench has started."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # a shell's background job is told to ignore SIGINT
    try:
        with tempfile.TemporaryDirectory(prefix="breakwater-bench-") as folder:
            run(pathlib.Path(folder))
    except CannotRun as error:
        print(f"this bench can't run: {error}", file=sys.stderr)
        return 1
    return 0


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
