"""Debian's Prometheus service, put in place as the page says, finds a cluster's targets and our rules."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import eventually, free_port, serve_env
from tests.observability.asked import ALERTS, rules
from tests.observability.installed import PAGE, installed
from tests.observability.prometheus import Prometheus
from tests.readme import command, commands

pytestmark = pytest.mark.prometheus

FILE = "prom_metrics_service_discovery.json"


@contextlib.contextmanager
def node(temp: pathlib.Path) -> Iterator[None]:
    """A node of Ray's, started by the page's command, on other ports and in another folder."""
    [line] = [line for line in commands(PAGE) if line.startswith("uv run ray start")]
    words = line.replace("/var/lib/ray", str(temp)).split()[3:]
    ports = [f"--{name}={free_port()}" for name in ("port", "dashboard-port", "dashboard-agent-listen-port")]
    script = [sys.executable, "-m", "ray.scripts.scripts", *words, *ports, "--block"]
    with (temp / "start.log").open("w") as log:
        run = subprocess.Popen(script, env=node_env(temp), stdout=log, stderr=log)
    try:
        eventually(lambda: run.poll() is not None or (temp / FILE).exists(), 120)
        assert run.poll() is None, (temp / "start.log").read_text()
        yield
    finally:
        run.terminate()
        run.wait(60)


def node_env(temp: pathlib.Path) -> dict[str, str]:
    token = temp / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    return {"PATH": "/usr/bin:/bin", "HOME": str(temp), **serve_env(), "RAY_AUTH_TOKEN_PATH": str(token)}


@pytest.fixture(scope="module", params=["/tmp", "/var/lib"])
def ray_folder(request: pytest.FixtureRequest) -> Iterator[pathlib.Path]:
    """Ray's temp folder, where other users may look. Ray's sockets want a short path."""
    temp = pathlib.Path(tempfile.mkdtemp(prefix="bw-", dir=request.param))
    temp.chmod(0o755)
    try:
        with node(temp):
            yield temp
    finally:
        shutil.rmtree(temp)


def all_is_found(prometheus: Prometheus, discovery: pathlib.Path) -> None:
    """Each target of Ray's file is up, and each of our rules has been evaluated without an error."""
    there = set(json.loads(discovery.read_text())[0]["targets"])
    assert there

    def up() -> set[str]:
        return {each["labels"]["instance"] for each in prometheus.targets() if each["health"] == "up"}

    eventually(lambda: up() == there, 60)
    eventually(lambda: {rule["health"] for rule in prometheus.rules().values()} == {"ok"}, 60)
    assert len(prometheus.rules()) == len(rules()) > 0


def test_the_service_finds_all_with_the_drop_in_where_ray_is_in_tmp_and_as_it_is_elsewhere(
    ray_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    in_tmp = ray_folder.parts[1] == "tmp"
    service = installed(tmp_path, ray_folder, drop_in=in_tmp)
    check = service.command("promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    said = subprocess.run(check, capture_output=True, text=True, check=True).stdout
    assert f"SUCCESS: {len(rules())} rules found" in said
    with service.running() as prometheus:
        all_is_found(prometheus, ray_folder / FILE)


def test_the_drop_in_alone_lets_the_packages_service_see_rays_file_in_tmp(
    ray_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """And a checkout in a home folder it never sees: so the rules are copied."""
    views = {with_it: installed(tmp_path / str(with_it), ray_folder, drop_in=with_it) for with_it in (False, True)}
    in_tmp = ray_folder.parts[1] == "tmp"
    assert {with_it: view.settings()["PrivateTmp"] for with_it, view in views.items()} == {False: True, True: False}
    assert {with_it: view.sees(ray_folder / FILE) for with_it, view in views.items()} == {False: not in_tmp, True: True}
    assert all(view.settings()["ProtectHome"] for view in views.values())


def test_the_services_own_view_has_no_homes(tmp_path: pathlib.Path) -> None:
    service = installed(tmp_path, tmp_path, drop_in=True)
    home = pathlib.Path(tempfile.mkdtemp(dir="/home"))
    try:
        home.chmod(0o755)
        rules_there = home / ALERTS.name
        shutil.copy(ALERTS, rules_there)
        assert not service.sees(rules_there)
        assert service.sees(pathlib.Path("/etc/prometheus/breakwater.yml"))
    finally:
        shutil.rmtree(home)


def test_the_page_restarts_the_service_by_commands_of_systemd() -> None:
    assert (
        command("sudo systemctl daemon-reload") == "sudo systemctl daemon-reload && sudo systemctl restart prometheus"
    )
