"""The application behind the tier `gpu` of these tests: it answers what a fake of OpenAI's wire answers."""

from typing import Any

from ray import serve

from tests.fakes.relay import Relay


class Told(Relay):
    """A relay that tells the fake under which request and session Serve has called it."""

    def headers(self) -> dict[str, str]:
        context: Any = serve.context
        told = context._get_serve_request_context()
        return {"x-serve-request": told.request_id, "x-serve-session": told.session_id}


def build_app(args: dict[str, Any]) -> serve.Application:
    options: dict[str, Any] = {"max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 0.1}}
    deployment: Any = serve.deployment(**options)(Told)
    made: serve.Application = deployment.bind(args["url"])
    return made
