"""Claude on Vertex AI: the address of each model, Google's own errors, and what the configuration may say."""

import asyncio
from typing import Any

import pytest

from deployments.config.application import ConfigError, parse
from deployments.config.providers import Anthropic
from deployments.providers.anthropic.classify import refusal_of
from deployments.providers.anthropic.native import native_body
from deployments.providers.anthropic.request import Terms
from deployments.providers.anthropic.server import VertexServer, with_betas
from deployments.providers.base import Call
from deployments.providers.credentials.addresses import Vertex
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.credentials.schedule import Fresh
from deployments.providers.time_limits import TimeLimits
from deployments.vendor_prices.table import vendor_price

PROJECT = "projects/my-project"


def asked(model: str, *, stream: bool = False, base_url: str | None = None, **where: Any) -> tuple[str, dict[str, str]]:
    async def fetch() -> Fresh[str]:
        return Fresh("token")

    async def main() -> tuple[str, dict[str, str]]:
        token = Renewed("Google Cloud", fetch)
        server = VertexServer(Vertex("my-project", **where), token, base_url=base_url, betas=["a-1"])
        url, headers = await server.endpoint(model, stream=stream)
        await token.close()
        return str(url), headers

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
    ],
)
def test_each_location_has_its_host(location: str, host: str) -> None:
    url, headers = asked("claude-sonnet-5", stream=True, location=location)
    models = f"{PROJECT}/locations/{location}/publishers/anthropic/models"
    assert url == f"https://{host}/v1/{models}/claude-sonnet-5:streamRawPredict"
    assert headers["authorization"] == "Bearer token"
    assert headers["anthropic-beta"] == "a-1"
    assert "anthropic-version" not in headers


def test_a_request_of_messages_goes_there_as_its_client_wrote_it() -> None:
    async def fetch() -> Fresh[str]:
        return Fresh("token")

    given = {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "inference_geo": "eu"}
    told = {"extra_content": {"betas": ["b-2", "a-1"], "effort": None}}
    call = Call({**given, **told}, "claude-sonnet-5", "row", TimeLimits(), api="messages")
    made, betas = native_body(call, Terms(), stream=True)

    async def main() -> tuple[Any, dict[str, str]]:
        server = VertexServer(Vertex("my-project"), Renewed("Google Cloud", fetch), betas=["a-1"])
        _, headers = await server.endpoint(call.model, stream=True)
        await server.credential.close()
        return server.body(made), with_betas(headers, betas)

    body, headers = asyncio.run(main())
    assert body == {**given, "stream": True, "anthropic_version": "vertex-2023-10-16"}
    assert (headers["anthropic-beta"], headers["authorization"]) == ("a-1,b-2", "Bearer token")


def test_a_gateway_before_it_and_who_pays() -> None:
    url, headers = asked("claude-sonnet-4-5@20250929", base_url="https://gate.example/vertex/v1/", quota_project="bill")
    assert url.startswith(f"https://gate.example/vertex/v1/{PROJECT}/locations/global/")
    assert url.endswith("/claude-sonnet-4-5@20250929:rawPredict")
    assert headers["x-goog-user-project"] == "bill"


@pytest.mark.parametrize("model", ["../../x", "a/b", "a?b", "a#b", "a:countTokens", "a;b", "a%2fb"])
def test_a_model_of_any_name_stays_in_its_place(model: str) -> None:
    url, _ = asked(model)
    head, _, name = url.rpartition("/")
    assert head.endswith("/publishers/anthropic/models")
    assert name.endswith(":rawPredict")
    assert not set("?#;:") & set(name.removesuffix(":rawPredict"))


@pytest.mark.parametrize(
    ("status", "word", "message", "kind"),
    [
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/online_prediction", "throttled"),
        (404, "NOT_FOUND", "Publisher Model `projects/p/locations/l/x` was not found", "model_missing"),
        (400, "FAILED_PRECONDITION", "Publisher Model x is not servable in region us-central1.", "model_missing"),
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "credential"),
        (403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied", "credential"),
        (503, "UNAVAILABLE", "The service is currently unavailable.", "overloaded"),
    ],
)
def test_googles_own_errors_are_read(status: int, word: str, message: str, kind: str) -> None:
    body = f'{{"error": {{"code": {status}, "message": "{message}", "status": "{word}"}}}}'
    for shape in (body, f"[{body}]"):
        outcome = refusal_of(status, {}, shape.encode(), {}).outcome
        assert (outcome.kind, outcome.message) == (kind, message)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vertex": {"express": True}}, "Claude on Vertex AI needs a project"),
        ({"vertex": {}, "api_key_env": "X"}, "api_key_env: is of Anthropic's own servers"),
        ({"vertex": {}, "workspace_id": "w"}, "workspace_id: is of Anthropic's own servers"),
    ],
)
def test_what_is_of_anthropics_own_servers_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse({"providers": {"p": {"kind": "anthropic", **settings}}, "models": {"default": {"p": "claude-x"}}})


def test_its_price_is_known() -> None:
    address = Anthropic(kind="anthropic", vertex={"project": "my-project"}).billing_address()  # type: ignore[arg-type]
    assert address is not None
    price = vendor_price(address, "claude-sonnet-4-5@20250929")
    assert price is not None
    assert (price["input"], price["output"]) == ("3", "15")
