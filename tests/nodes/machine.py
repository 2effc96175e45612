"""One machine of a Ray cluster, and what can happen to it: a process in namespaces of its own, as in a pod.

Its processes are in a PID namespace, where `ray start --block` is the first one. The folders of Ray and of HAProxy are
its own, and outlive them as a disk does.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.nodes.network import Network

OWN = ("/tmp/ray", "/tmp/haproxy-serve")  # where Ray and Serve write by default


@dataclass
class Machine:
    """`words` are those of its `ray start`."""

    network: Network
    name: str
    disk: pathlib.Path  # what it has written
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    address: str = ""
    run: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.address = self.network.add(self.name)
        for path in map(pathlib.Path, OWN):
            path.mkdir(exist_ok=True)  # somewhere to mount its own
            self._own(path).mkdir(parents=True)

    def _own(self, path: pathlib.Path) -> pathlib.Path:
        return self.disk / path.name

    def start(self) -> None:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-ip-address={self.address}", "--block"]
        mounts = "".join(f"mount --bind {self._own(pathlib.Path(path))} {path} && " for path in OWN)
        script = mounts + 'mount -t proc proc /proc && exec "$@"'
        command = ["ip", "netns", "exec", self.network.namespace(self.name)]
        command += ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command += ["sh", "-c", script, "sh", *ray, *self.words]
        with (self.disk / "ray.log").open("ab") as log:
            environment = {**os.environ, **self.environment}
            self.run = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    @property
    def alive(self) -> bool:
        return self.run is not None and self.run.poll() is None

    @property
    def first(self) -> int:
        """Return the process that is the first of its namespace: the child of `unshare`."""
        assert self.run is not None
        children = pathlib.Path(f"/proc/{self.run.pid}/task/{self.run.pid}/children")
        return int(children.read_text().split()[0])

    def pids(self) -> Iterator[tuple[int, str]]:
        """Yield the number and the name of each of its processes."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.network.namespace(self.name)], check=True, capture_output=True, text=True
        )
        for pid in map(int, listed.stdout.split()):
            try:
                yield pid, pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue

    def signal(self, number: signal.Signals, name: str | None = None) -> int:
        """Send a signal to all of its processes, or to those of this name. Return to how many."""
        sent = 0
        for pid, known in list(self.pids()):
            if name is None or known == name:
                os.kill(pid, number)
                sent += 1
        return sent

    def kill_raylet(self) -> None:
        assert self.signal(signal.SIGKILL, "raylet") == 1

    def kill(self) -> None:
        """End all at once; the kernel closes their connections."""
        if self.run is not None:
            self.run.kill()  # and, by --kill-child, the first of its namespace, and so all
            self.run.wait(30)
        deadline = time.monotonic() + 30
        while list(self.pids()):
            assert time.monotonic() < deadline, list(self.pids())
            time.sleep(0.05)

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes asks a pod."""
        os.kill(self.first, signal.SIGTERM)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def cut(self) -> None:
        self.network.cut(self.name)

    def mend(self) -> None:
        self.network.mend(self.name)
