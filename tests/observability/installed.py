"""Debian's Prometheus as its service runs it: the unit's settings, as systemd reads them, its user, its disk.

There may be no systemd to run it here. So systemd-analyze reads the unit with its drop-ins, and a mount namespace gives
the program what PrivateTmp, ProtectHome and ProtectSystem leave of the disk.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.cluster.conftest import free_port
from tests.observability.prometheus import Prometheus, program, served
from tests.readme import ROOT, commands

PAGE = "docs/monitoring.md"
UNIT = pathlib.Path("/usr/lib/systemd/system/prometheus.service")
HOMES = ("/home", "/root", "/run/user")  # systemd.exec(5), ProtectHome=
SYSTEM = ("/usr", "/boot", "/etc")  # ProtectSystem=full
PROGRAMS = ("prometheus", "promtool", "systemd-analyze", "unshare", "setpriv")


@dataclass(frozen=True, slots=True)
class Service:
    """The package's service over a folder that has been put in place of the machine's /etc."""

    root: pathlib.Path

    def settings(self) -> dict[str, bool]:
        """Return which of its restrictions hold, as systemd makes them of the unit and its drop-ins."""
        there = self.root / str(UNIT)[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(UNIT, there)
        ask = ["systemd-analyze", "security", "--offline=yes", f"--root={self.root}", "--json=short", UNIT.name]
        said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        return {each["json_field"]: bool(each["set"]) for each in json.loads(said)}

    def command(self, *words: str) -> list[str]:
        """Return a command line that does this as the service would."""
        [user] = re.findall(r"^User=(\w+)$", UNIT.read_text(), re.MULTILINE)
        drop = f"setpriv --reuid {user} --regid {user} --init-groups --no-new-privs --bounding-set=-all"
        script = "\n".join(["set -e", *self._mounts(), "cd /", f"exec {drop} {shlex.join(words)}"])
        return ["unshare", "--mount", "bash", "-c", script]

    def _mounts(self) -> Iterator[str]:
        settings = self.settings()
        yield f"mount --bind {self.root}/etc/prometheus /etc/prometheus"
        yield f"mount --bind {self.root}/data /var/lib/prometheus/metrics2"
        if settings["ProtectSystem"]:
            yield from (f"mount --bind {path} {path} && mount -o remount,bind,ro {path}" for path in SYSTEM)
        if settings["ProtectHome"]:
            yield from (f"mount -t tmpfs -o mode=000 tmpfs {path}" for path in HOMES if os.path.isdir(path))
        if settings["PrivateTmp"]:
            yield from (f"mount -t tmpfs tmpfs {path}" for path in ("/tmp", "/var/tmp"))

    @property
    def start(self) -> str:
        """The program of the unit's ExecStart."""
        [found] = re.findall(r"^ExecStart=(\S+) \$ARGS$", UNIT.read_text(), re.MULTILINE)
        return str(found)

    def sees(self, path: pathlib.Path) -> bool:
        return subprocess.run(self.command("test", "-r", str(path))).returncode == 0

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        """Run the unit's ExecStart, on a port of its own."""
        address, log = f"127.0.0.1:{free_port()}", self.root / "prometheus.log"
        with served(self.command(self.start, f"--web.listen-address={address}"), address, log) as prometheus:
            yield prometheus


def installed(folder: pathlib.Path, ray: pathlib.Path, *, drop_in: bool) -> Service:
    """Put our files in place, by the commands of the page. `ray` is where Ray's temp folder is here."""
    for name in PROGRAMS:
        program(name)
    if os.geteuid() != 0:
        pytest.skip("only root can give Prometheus the disk as its service sees it")
    (folder / "etc" / "prometheus").mkdir(parents=True)
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "prometheus")
    for line in commands(PAGE):
        if line.startswith("sudo install ") and (drop_in or ".service.d/" not in line):
            words = [f"{folder}{word}" if word.startswith("/etc/") else word for word in shlex.split(line)[1:]]
            subprocess.run(words, cwd=ROOT, check=True)
    config = folder / "etc" / "prometheus" / "prometheus.yml"
    text = config.read_text()
    assert "/tmp/ray/" in text
    assert "/var/lib/ray/" in text
    config.write_text(re.sub(r"/(?:tmp|var/lib)/ray/", f"{ray}/", text))
    return Service(folder)
