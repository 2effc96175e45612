"""What the builder asks of Ray Serve for each deployment."""

import pathlib
import traceback
from typing import Any

import pytest
import yaml
from ray.serve.exceptions import RayServeException

from deployments import app
from deployments.config.application import INGRESS

SHIPPED = pathlib.Path(__file__).parents[2] / "serve_config.yaml"


@pytest.fixture
def made() -> dict[str, Any]:
    """The deployments of the shipped config, by name."""
    bound = app.build_app(yaml.safe_load(SHIPPED.read_text())["applications"][0]["args"])
    others = bound._bound_deployment.init_args[1]
    return {each._bound_deployment.name: each._bound_deployment for each in (bound, *others.values())}


def test_of_every_deployment_the_new_replicas_start_before_the_old_ones_stop(made: dict[str, Any]) -> None:
    assert made.keys() == {INGRESS, "aws_bedrock", "openai", "google_genai", "anthropic", "local"}
    assert {each._deployment_config.max_surge_percent for each in made.values()} == {100}


def test_a_deploy_that_is_refused_repeats_no_key_to_ray_or_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    args = yaml.safe_load(SHIPPED.read_text())["applications"][0]["args"]
    key = "sk-proj-abcdef1234567890"
    args["providers"]["openai"]["api_key_env"] = key
    with pytest.raises(RayServeException) as refused:
        app.build_app(args)
    told = "".join([*traceback.format_exception(refused.value), repr(refused.value), *capfd.readouterr()])
    assert "providers.openai.api_key_env: looks like a key" in told
    assert key not in told


def test_who_has_no_keys_has_no_replica_of_a_cloud(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Each is a process that a first start would wait for. An option in the shipped file would start one too."""
    for name in ("OPENAI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    made = request.getfixturevalue("made")
    least = {name: each._deployment_config.autoscaling_config.min_replicas for name, each in made.items()}
    assert least == {INGRESS: 1, "aws_bedrock": 0, "openai": 0, "google_genai": 0, "anthropic": 0, "local": 1}
    assert "deployments" not in yaml.safe_load(SHIPPED.read_text())["applications"][0]
