"""The application behind the tier `gpu` of these tests: it answers what a fake of OpenAI's wire answers."""

from typing import Any

from ray import serve

from tests.fakes.relay import Relay


def build_app(args: dict[str, Any]) -> serve.Application:
    options: dict[str, Any] = {"max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 0.1}}
    deployment: Any = serve.deployment(**options)(Relay)
    made: serve.Application = deployment.bind(args["url"])
    return made
