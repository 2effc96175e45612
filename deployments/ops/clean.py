"""List what earlier runs have left in the temp folder, and remove it when told to.

    python -m deployments.ops.clean
    python -m deployments.ops.clean --remove

Without `--remove` nothing is touched. A folder goes only if it is

- ours: this user made it, and our breaker or ledger actor ran in that session of Ray's, or our wrapper started that
  HAProxy;
- dead: no process names it, nobody listens on a socket in it, and nothing was written there for an hour
  (`--older-than`).

What it can't know it keeps. The ledger, its journals, keys and Ray's token are no business of this command.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from deployments.ops.spans import span_of

_PROOF = re.compile(rb"^:actor_name:(?:BreakerActor|LedgerActor)$", re.MULTILINE)  # Ray's first lines of a worker's log
_PROOF_BYTES = 4096
_WRAPPED = "option http-ignore-probes"  # deployments/ops/start_haproxy.py has put it there
_SESSION = re.compile(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_\d+")
_NODE = re.compile(r"[0-9a-f]{56}")  # Ray's name of a node
KEPT_WITH = "its session is kept"
_CONNECT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Places:
    """Where Ray keeps its sessions, and where Serve keeps HAProxy's folders."""

    sessions: pathlib.Path
    haproxy: pathlib.Path


@dataclass(frozen=True, slots=True)
class Rules:
    """Whose folders may go, and how many seconds after the last word in them."""

    user: int
    older_than: float


@dataclass(frozen=True, slots=True)
class Leftover:
    """A folder of some run. `kept` says why it stays; None: it can go."""

    path: pathlib.Path
    size: int
    age: float  # seconds since something was written
    kept: str | None


def places(temp_dir: str | None) -> Places:
    """Return the folders where Ray keeps them: `ray._common.utils`, `ray.serve._private.constants`."""
    base = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    config = os.environ.get("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", "/tmp/haproxy-serve/haproxy.cfg")
    return Places(pathlib.Path(temp_dir or os.path.join(base, "ray")), pathlib.Path(config).parent)


def find(where: Places, rules: Rules, now: float) -> list[Leftover]:
    """Return the folders of all runs, sessions first, oldest first."""
    commands = _command_lines()
    sessions = [path for path in _folders(where.sessions) if _SESSION.fullmatch(path.name)]
    ours = {path for path in sessions if _is_our_session(path)}
    found = [_judge(path, rules, now, commands, is_ours=path in ours) for path in sessions]
    kept = {node for each in found if each.kept is not None for node in _nodes(each.path)}
    of_ours = {node for path in ours for node in _nodes(path)}
    for path in _folders(where.haproxy):
        if _NODE.fullmatch(path.name):
            is_ours = path.name in of_ours or _is_our_haproxy(path)
            judged = _judge(path, rules, now, commands, is_ours=is_ours)
            found.append(replace(judged, kept=judged.kept or (KEPT_WITH if path.name in kept else None)))
    return found


def _folders(of: pathlib.Path) -> list[pathlib.Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in of.iterdir() if path.is_dir() and path.name != "session_latest")
    return []


def _judge(path: pathlib.Path, rules: Rules, now: float, commands: str, *, is_ours: bool) -> Leftover:
    age = now - _last_written(path)
    return Leftover(path, _size(path), age, _why_kept(path, rules, age, commands, is_ours=is_ours))


def _why_kept(path: pathlib.Path, rules: Rules, age: float, commands: str, *, is_ours: bool) -> str | None:
    if path.is_symlink() or path.lstat().st_uid != rules.user:
        return "another user's, or a link"
    if path.name in commands:
        return "in use by a process"
    if age < rules.older_than:
        return "written to lately"
    if not is_ours:
        return "not known to be Breakwater's"
    return "in use: a socket answers" if any(map(_is_listened_on, _sockets(path))) else None


def _command_lines() -> str:
    """Return the command lines of all processes but this one. Ray's daemons and HAProxy name their folders in them."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        if file.parent.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                found.append(file.read_bytes().decode(errors="replace"))
    return "\n".join(found)


def _is_our_session(path: pathlib.Path) -> bool:
    return any(_PROOF.search(_beginning(file)) for file in path.glob("logs/worker-*.out"))


def _beginning(file: pathlib.Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_PROOF_BYTES)
    except OSError:
        return b""


def _is_our_haproxy(path: pathlib.Path) -> bool:
    with contextlib.suppress(OSError):
        return _WRAPPED in (path / "haproxy.cfg").read_text(errors="replace")
    return False


def _nodes(session: pathlib.Path) -> Iterator[str]:
    """Return the names of the nodes of a session, which Ray's files of ports end with."""
    for file in session.glob("*_port_*"):
        yield file.name.rpartition("_")[2]


def _files(path: pathlib.Path) -> Iterator[os.stat_result]:
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(folder, name))


def _size(path: pathlib.Path) -> int:
    return sum(found.st_size for found in _files(path) if stat.S_ISREG(found.st_mode))


def _last_written(path: pathlib.Path) -> float:
    return max((found.st_mtime for found in _files(path)), default=0.0)


def _sockets(path: pathlib.Path) -> Iterator[pathlib.Path]:
    for file in (*path.iterdir(), *path.glob("sockets/*")):
        if file.is_socket():
            yield file


def _is_listened_on(path: pathlib.Path) -> bool:
    """Return whether anybody may listen there, in another container too: only a refusal says that nobody does."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)  # a socket's whole path may have 107 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(_CONNECT_SECONDS)
            tried.connect(f"/proc/self/fd/{folder}/{path.name}")
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True
    finally:
        os.close(folder)
    return True


def remove(where: Places, rules: Rules, now: float, left: Iterable[Leftover]) -> Iterator[Leftover]:
    """Remove what can go, and yield each folder that is gone. What has come to life meanwhile stays."""
    can_go = {each.path for each in left if each.kept is None}
    for each in find(where, rules, now):
        if each.kept is None and each.path in can_go:
            shutil.rmtree(each.path)
            yield each
    for link in where.sessions.iterdir() if where.sessions.is_dir() else ():
        if link.is_symlink() and any(path in (target := link.readlink(), *target.parents) for path in can_go):
            link.unlink()


def seconds_of(text: str) -> float:
    """Return the seconds of `30m`, `12h` or `7d`. Raises ValueError."""
    if (span := span_of(text)) is None:
        raise ValueError(f"{text}: must be as 30m, 12h or 7d")
    return span.total_seconds()


def line_of(each: Leftover) -> str:
    state = "can go" if each.kept is None else f"kept: {each.kept}"
    return f"{each.path}  {each.size / 1e6:.1f} MB, {each.age / 3600:.0f} h old, {state}"


def main(arguments: list[str]) -> int:
    """Print the list, remove if told to, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.ops.clean", description="Clean up after old runs.")
    parser.add_argument("--remove", action="store_true", help="remove what can go; without it: list it")
    parser.add_argument("--older-than", type=seconds_of, default="1h", help="nothing written since: 30m, 12h, 7d")
    parser.add_argument("--temp-dir", help="that of ray start; without it: RAY_TMPDIR's, or /tmp/ray")
    given = parser.parse_args(arguments)
    where, rules, now = places(given.temp_dir), Rules(os.geteuid(), given.older_than), time.time()
    left = find(where, rules, now)
    for each in left:
        print(line_of(each))
    can_go = [each for each in left if each.kept is None]
    try:
        gone = list(remove(where, rules, now, left)) if given.remove else []
    except OSError as error:
        print(f"not all could be removed: {error}", file=sys.stderr)
        return 1
    verb, which = ("were removed", gone) if given.remove else ("can go; --remove removes them", can_go)
    print(f"{len(which)} of {len(left)} folders, {sum(each.size for each in which) / 1e6:.1f} MB, {verb}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
