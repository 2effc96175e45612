"""What the builder asks of Ray Serve for each deployment."""

import pathlib
from typing import Any

import pytest
import yaml

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
    assert made.keys() == {INGRESS, "aws_bedrock", "openai", "google_genai", "local"}
    assert {each._deployment_config.max_surge_percent for each in made.values()} == {100}
