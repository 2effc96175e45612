"""A machine with nothing on it: own processes, network and home folder, by Linux's namespaces. All ports are free."""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator

from tests.cluster.conftest import eventually

# Bash is its first process, because that one has to take leave of those that nobody waits for.
FIRST = "ip link set lo up && mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && echo up && sleep infinity & wait"
OWN = ["--pid", "--net", "--mount"]


class Machine:
    """`command` puts a command into it; the command's own environment and folder stay."""

    def __init__(self, first: int):
        self.first = first

    def command(self, *words: str) -> list[str]:
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self.first}", *user, *OWN, f"--wd={os.getcwd()}", *words]

    def shell(self, script: str, home: pathlib.Path, folder: pathlib.Path, seconds: float = 240) -> str:
        """Return what a shell prints that starts with next to no variables. It must end well."""
        plain = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            self.command("bash", "-e", "-c", f"cd '{folder}'\n{script}"),
            env=plain,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self) -> list[str]:
        """Return the command lines of its processes, without its first ones and `ps` itself."""
        listed = subprocess.run(self.command("ps", "-eo", "args="), capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if not line.startswith(("bash -c ip", "sleep inf", "ps -eo"))]


@contextlib.contextmanager
def new_machine() -> Iterator[Machine]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    start = ["unshare", *user, *OWN, "--fork", "--mount-proc", "--kill-child", "bash", "-c", FIRST]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "up\n"
            children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children")
            yield Machine(int(eventually(lambda: children.read_text().split())[0]))
        finally:
            run.kill()  # and with it its first process, which ends all others
