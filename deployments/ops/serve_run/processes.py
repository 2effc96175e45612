"""What /proc says of processes: who listens at a port, and what each of them is. Linux."""

import contextlib
import os
import pathlib
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, field

PROC = pathlib.Path("/proc")
LISTENING = "0A"  # in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it stands. What may not be read, as of another user's, is empty."""

    pid: int
    parent: int
    program: str  # the path of the file that it runs, which nobody can choose as a command line can be chosen
    words: tuple[str, ...]
    is_own: bool = True  # of this user and this namespace of pids
    environment: dict[str, str] = field(default_factory=dict, repr=False)  # it has secrets

    @property
    def command(self) -> str:
        return " ".join(" ".join(self.words).split()) or "?"


def read(pid: int) -> Process | None:
    """Return a process; None if there is none, or it has ended and only waits to be buried."""
    here = PROC / str(pid)
    try:
        state, parent = (here / "stat").read_text().rpartition(")")[2].split()[:2]
        owner = here.stat().st_uid
    except (OSError, ValueError):
        return None
    if state in "ZX":
        return None
    words = tuple(part for part in _text(here / "cmdline").split("\0") if part)
    pairs = (pair.partition("=") for pair in _text(here / "environ").split("\0") if "=" in pair)
    is_own = owner == os.geteuid() and _link(here / "ns" / "pid") == _link(PROC / "self" / "ns" / "pid")
    program = _link(here / "exe").removesuffix(" (deleted)")
    return Process(pid, int(parent), program, words, is_own, {name: value for name, _, value in pairs})


def ancestry(pid: int) -> Iterator[Process]:
    """Yield a process and those that it descends from, without the first of all."""
    while pid > 1 and (found := read(pid)) is not None:
        yield found
        pid = found.parent


def listeners(port: int) -> list[int]:
    """Return the processes that listen at a port, as far as this user may see."""
    sockets = {f"socket:[{inode}]" for _, inode in _sockets(port)}
    return [process for process in _processes() if sockets & set(_open_files(process))] if sockets else []


def users(port: int) -> set[str]:
    """Return the names of the users who listen at a port."""
    return {_name_of(user) for user, _ in _sockets(port)}


def _sockets(port: int) -> Iterator[tuple[int, str]]:
    """Yield the user and the inode of each socket that listens there."""
    for table in ("tcp", "tcp6"):
        for line in _text(PROC / "net" / table).splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                yield int(words[7]), words[9]


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _open_files(process: int) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it is another user's, or it has ended
        for entry in (PROC / str(process) / "fd").iterdir():
            yield _link(entry)


def _link(path: pathlib.Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
