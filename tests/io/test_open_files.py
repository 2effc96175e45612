"""The limit of open files: raised as far as it may be, and refused where HAProxy could not start."""

import subprocess
import sys

import pytest

ASK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from deployments.ops.serve_run.open_files import raise_limit
print(raise_limit({environment}))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}


def asked(soft: int, hard: int, environment: dict[str, str]) -> list[str]:
    code = ASK.format(soft=soft, hard=hard, environment=environment)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("environment", [HAPROXY, {}])
def test_a_low_limit_is_raised_to_what_is_allowed(environment: dict[str, str]) -> None:
    assert asked(1024, 12_000, environment) == ["None", "12000 12000"]


def test_what_haproxy_could_not_start_with_is_one_sentence() -> None:
    said, limits = asked(1024, 2048, HAPROXY)
    assert said == (
        "Each process may open 2048 files (ulimit -Hn), and HAProxy needs 10440: raise that limit, as "
        "docker run --ulimit nofile=65536 does, or set RAY_SERVE_HAPROXY_MAXCONN to less than 4096."
    )
    assert limits == "2048 2048"


def test_without_haproxy_or_with_fewer_connections_it_is_enough() -> None:
    assert asked(1024, 2048, {})[0] == "None"
    assert asked(1024, 2048, HAPROXY | {"RAY_SERVE_HAPROXY_MAXCONN": "500"})[0] == "None"
