"""What a program is told that can't reach Breakwater: one error, and one sentence that says what to do."""

import copy
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import yaml
from ray import serve

from deployments.client import connect
from tests.cluster.conftest import Cluster, eventually, free_port
from tests.cluster.other_users import said_to
from tests.cluster.test_whole_path import deploy

pytestmark = pytest.mark.machine

QUICK = 10.0  # seconds; Ray's own limits are 20 and 40 s, or none


def token() -> str:
    return subprocess.run(["ray", "get-auth-token"], capture_output=True, text=True, check=True).stdout.strip()


def address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def check_refusal(said: dict[str, Any], *words: str) -> None:
    assert (said["class"], said["status"]) == ("Unavailable", 503), said
    assert said["seconds"] < QUICK
    assert "\n" not in said["message"]
    for word in words:
        assert word in said["message"]


def test_a_user_with_the_token_is_answered(llm: Cluster, tmp_path: pathlib.Path) -> None:
    assert said_to(tmp_path, address(), token())["answer"] == "Paris is the capital."


@pytest.mark.parametrize("wrong", [None, "0" * 64])
def test_a_user_without_the_token_or_with_another_is_told_where_it_belongs(
    llm: Cluster, tmp_path: pathlib.Path, wrong: str | None
) -> None:
    said = said_to(tmp_path, address(), wrong)
    check_refusal(said, address(), f"Ray {ray.__version__}", "ray get-auth-token", "RAY_AUTH_TOKEN_PATH")


def test_a_user_whose_ray_does_not_ask_for_a_token_is_told_so_too(llm: Cluster, tmp_path: pathlib.Path) -> None:
    check_refusal(said_to(tmp_path, address(), token(), RAY_AUTH_MODE="disabled"), "RAY_AUTH_MODE=token")


def test_where_no_ray_is_the_error_names_the_address_at_once_and_the_program_ends(tmp_path: pathlib.Path) -> None:
    port = free_port()  # of this machine, which Ray knows by another address
    said = said_to(tmp_path, f"127.0.0.1:{port}", "0" * 64)
    check_refusal(said, f"No Ray answers this process (Ray {ray.__version__}", f":{port}")


def test_a_name_that_is_not_deployed_is_answered_with_those_that_are(llm: Cluster, tmp_path: pathlib.Path) -> None:
    check_refusal(said_to(tmp_path, address(), token(), app="nobody"), "no application 'nobody'", "it has: llm")


@pytest.fixture
def wrong_config(llm: Cluster) -> Iterator[Cluster]:
    """The running application's config with a typo, deployed over it."""
    config = yaml.safe_load(llm.config.read_text())
    broken = copy.deepcopy(config)
    broken["applications"][0]["args"]["providers"]["openai"]["kind"] = "openia"
    deploy(llm, broken)
    eventually(lambda: serve.status().applications["llm"].status == "DEPLOY_FAILED", 90)
    yield llm
    deploy(llm, config)
    eventually(lambda: serve.status().applications["llm"].status == "RUNNING", 120)


def test_a_new_client_is_answered_although_a_wrong_config_was_deployed(
    wrong_config: Cluster, tmp_path: pathlib.Path
) -> None:
    assert wrong_config.post().status_code == 200
    assert said_to(tmp_path, address(), token())["answer"] == "Paris is the capital."
    assert connect().sync.generate_completion("Hi")["response"] == "Paris is the capital."
    said = wrong_config.run(_why())
    assert "providers.openai.kind: must be one of" in said


async def _why() -> str:
    return str(serve.status().applications["llm"].message)
