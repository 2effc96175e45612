"""A program with another version of Ray or Python than the cluster's is told both. `uv run pytest -m clients`."""

import pathlib
import platform

import pytest
import ray

from tests.clients.client import Missing
from tests.clients.environments import environment
from tests.cluster.conftest import Cluster
from tests.cluster.other_users import said_to
from tests.cluster.test_other_users import address, check_refusal, token

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
