"""Other versions than ours, of Ray and of Python: `uv run pytest -m clients`.

A program with another one than the cluster's is told both. All Pythons that we name get all packages as wheels.
"""

import pathlib
import platform
import subprocess

import pytest
import ray

from tests.clients.client import Missing, program
from tests.clients.environments import environment
from tests.cluster.conftest import Cluster
from tests.cluster.other_users import said_to
from tests.cluster.test_other_users import address, check_refusal, token
from tests.readme import PYTHONS, ROOT

pytestmark = pytest.mark.clients


@pytest.mark.parametrize(("python", "version"), [("3.11", "2.54.0"), ("3.12", ray.__version__)])
def test_another_version_of_ray_or_python_is_told_both(
    llm: Cluster, tmp_path: pathlib.Path, python: str, version: str
) -> None:
    try:
        interpreter = environment(tmp_path / "environment", f"ray[serve]=={version}", python=python)
    except Missing as missing:
        pytest.skip(f"Python {python} is not installed: {missing}")
    said = said_to(tmp_path, address(), token(), python=interpreter)
    check_refusal(
        said, f"Ray {ray.__version__}, Python {platform.python_version()}", f"Ray {version}, Python {python}."
    )


@pytest.mark.parametrize("python", PYTHONS)
def test_nobody_needs_a_compiler_for_a_package(python: int) -> None:
    resolve = ["pip", "compile", "pyproject.toml", "--all-extras", "--group", "dev", "--only-binary", ":all:"]
    command = [program("uv"), *resolve, "--quiet", "--python-version", f"3.{python}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ray==" in done.stdout
