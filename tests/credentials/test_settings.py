"""What the settings of credentials may say, and what the check answers to what they may not."""

import asyncio
import pathlib
import re
from typing import Any

import httpx2
import openai
import pytest
import yaml

from deployments.config.application import parse
from deployments.config.base.values import azure_endpoint
from deployments.config.providers import Bedrock, OpenAI
from deployments.config.yaml_file import read_yaml
from deployments.errors import AttemptFailed, ConfigError
from deployments.providers.base import Call
from deployments.providers.credentials.addresses import Azure, Vertex
from deployments.providers.google.adapter import GoogleProvider
from deployments.providers.openai.server import Server
from tests.fakes.identity import aws, entra, google
from tests.fakes.vendors import doors
from tests.providers.conftest import LIMITS

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "credentials.md").read_text()


@pytest.fixture(autouse=True)
def environment(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def config(kind: str, model: str = "m", **settings: Any) -> Any:
    return parse({"providers": {"p": {"kind": kind, **settings}}, "models": {"default": {"p": model}}})


def missing(kind: str, **settings: Any) -> str | None:
    return config(kind, **settings).providers["p"].missing()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_configurations(block: str) -> None:
    args = yaml.safe_load(block)
    rows = {name: {name: "m"} for name in args["providers"]}
    assert parse({"models": rows, **args})


# AWS


def test_an_api_key_of_bedrock_goes_over_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", doors.API_KEY)
    assert missing("bedrock") is None
    assert missing("bedrock", endpoint_url="http://127.0.0.1:1") == "endpoint_url: an API key goes over https alone"


def test_an_api_key_of_bedrock_does_not_stand_in_for_a_profile_or_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", doors.API_KEY)
    assert missing("bedrock", profile="no-such") == "profile names a profile that is not there"
    assert "no AWS credentials" in str(missing("bedrock", role_arn=aws.ROLE))
    named = Bedrock(kind="bedrock", profile="llm", api_key_env="AWS_BEARER_TOKEN_BEDROCK")
    assert named.found()[0] == "the key in AWS_BEARER_TOKEN_BEDROCK"


def test_a_named_api_key_that_is_not_there_leaves_the_provider_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert missing("bedrock", api_key_env="KEY_OF_EUROPE") == "KEY_OF_EUROPE is not set"


@pytest.mark.parametrize(
    "arn", ["llm", "arn:aws:iam::123456789012:user/me", "arn:aws:sts::123456789012:assumed-role/x"]
)
def test_what_is_no_role_is_refused(arn: str) -> None:
    with pytest.raises(ConfigError, match=r"role_arn: is no ARN of a role"):
        config("bedrock", role_arn=arn)


def test_an_external_id_without_a_role_is_refused() -> None:
    with pytest.raises(ConfigError, match="external_id: is for role_arn"):
        config("bedrock", external_id="x")


# Azure


@pytest.mark.parametrize(
    ("pasted", "endpoint"),
    [
        ("https://r.openai.azure.com", "https://r.openai.azure.com"),
        ("https://r.openai.azure.com/", "https://r.openai.azure.com"),
        ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com"),
        ("https://r.services.ai.azure.com/openai/v1", "https://r.services.ai.azure.com"),
        ("https://gateway.example/llm/openai", "https://gateway.example/llm"),
        ("https://r.openai.azure.com/openai/deployments/d", None),
        ("https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21", None),
        ("r.openai.azure.com", None),
    ],
)
def test_an_endpoint_is_taken_as_the_portal_shows_it(pasted: str, endpoint: str | None) -> None:
    assert azure_endpoint(pasted) == endpoint


def test_the_endpoint_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", doors.API_KEY)
    assert missing("openai", azure={}) == "AZURE_OPENAI_ENDPOINT is not set"
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "r.openai.azure.com")
    assert missing("openai", azure={}) == "the value of AZURE_OPENAI_ENDPOINT is no URL of Azure"
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/")
    assert missing("openai", azure={}) is None
    settings = config("openai", azure={}).providers["p"]
    assert settings.azure_address() == Azure("https://r.openai.azure.com")


def test_a_version_without_quotes_is_a_date_to_yaml(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("azure: {endpoint: 'https://r.openai.azure.com', api_version: 2024-10-21}")
    read: Any = read_yaml(str(file))
    with pytest.raises(ConfigError, match='api_version: must be in quotes, as "2024-10-21"'):
        config("openai", **read)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("workload_identity", "AZURE_TENANT_ID is not set, and azure.tenant_id is not either"),
        ("service_principal", "AZURE_TENANT_ID is not set, and azure.tenant_id is not either"),
    ],
)
def test_what_an_identity_needs_is_named(way: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    azure = {"endpoint": "https://r.openai.azure.com", "auth": way}
    assert missing("openai", azure=azure) == reason
    azure |= {"tenant_id": entra.TENANT, "client_id": entra.CLIENT}
    last = {
        "workload_identity": "AZURE_FEDERATED_TOKEN_FILE is not set",
        "service_principal": "neither the variable of azure.client_secret_env nor AZURE_CLIENT_CERTIFICATE_PATH is set",
    }
    assert missing("openai", azure=azure) == last[way]


@pytest.mark.parametrize("beside", [{"base_url": "https://x.example/v1"}, {"vertex": {"project": "my-project"}}])
def test_azure_has_an_address_of_its_own(beside: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="azure: has an address of its own"):
        config("openai", azure={"endpoint": "https://r.openai.azure.com"}, **beside)


def test_prices_and_windows_are_those_of_the_model_and_not_of_its_deployment() -> None:
    azure = {"endpoint": "https://r.openai.azure.com", "deployments": {"gpt-4.1": "ours"}}
    settings = config("openai", "gpt-4.1", azure=azure).providers["p"]
    assert isinstance(settings, OpenAI)
    assert settings.window("gpt-4.1") == OpenAI(kind="openai").window("gpt-4.1") is not None


class Unsent(httpx2.AsyncBaseTransport):
    """A transport that sends nothing, and remembers what the SDK would have sent."""

    def __init__(self) -> None:
        self.url = ""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.url = str(request.url)
        return httpx2.Response(200, json={}, request=request)


@pytest.mark.parametrize("version", [None, "2024-10-21", "2025-04-01-preview"])
@pytest.mark.parametrize("operation", ["chat/completions", "embeddings", "responses"])
@pytest.mark.parametrize("model", ["ours", "a/b c", "ünï"])
@pytest.mark.parametrize("endpoint", ["https://r.openai.azure.com", "https://gateway.example/llm"])
def test_the_address_is_the_sdks_own(endpoint: str, version: str | None, operation: str, model: str) -> None:
    unsent = Unsent()
    http = httpx2.AsyncClient(transport=unsent)
    sdk: openai.AsyncOpenAI
    if version is None:
        sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{endpoint}/openai/v1/", http_client=http)
    else:
        sdk = openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_version=version, api_key="k", http_client=http)
    asyncio.run(sdk.post(f"/{operation}", body={"model": model}, cast_to=object))
    server = Server(httpx2.AsyncClient(), api_key="k", azure=Azure(endpoint, version))
    assert str(server.url(operation, model)) == unsent.url


# Google


def test_claude_on_vertex_is_refused_with_what_to_do_instead() -> None:
    for kind, model in (("google", "claude-sonnet-4-5"), ("openai", "anthropic/claude-opus-4-5")):
        with pytest.raises(
            ConfigError, match=r"^models\.default\.p: Claude on Vertex AI .* kind anthropic with vertex$"
        ):
            config(kind, model, vertex={"project": google.PROJECT})


def test_llama_on_vertex_is_for_the_other_kind() -> None:
    vertex = {"project": google.PROJECT}
    with pytest.raises(ConfigError, match=r"ask it by kind openai with vertex$"):
        config("google", "meta/llama-4-maverick", vertex=vertex)
    assert config("openai", "meta/llama-4-maverick", vertex=vertex)
    assert config("google", "google/gemini-3-flash", vertex=vertex)
    assert config("google", f"projects/{google.PROJECT}/locations/us-central1/endpoints/42", vertex=vertex)


def test_a_pinned_claude_on_vertex_is_not_sent() -> None:
    provider = GoogleProvider(api_key="k", vertex=Vertex(express=True))

    async def ask() -> None:
        call = Call({"messages": [{"role": "user", "content": "Hi"}]}, "claude-sonnet-4-5", "p/claude", LIMITS)
        try:
            await provider.complete(call)
        finally:
            await provider.close()

    with pytest.raises(AttemptFailed, match="Claude on Vertex AI") as caught:
        asyncio.run(ask())
    assert caught.value.outcome.kind == "unsupported"


def test_without_credentials_of_google_the_provider_is_left_out() -> None:
    assert "no Google credentials" in str(missing("google", vertex={"project": google.PROJECT}))
    assert "vertex.credentials_file can't be read" in str(missing("google", vertex={"credentials_file": "/no/file"}))


def test_what_can_not_stand_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="express: is without a project"):
        config("google", vertex={"express": True, "project": google.PROJECT})
    with pytest.raises(ConfigError, match=r"vertex\.express: is for kind google"):
        config("openai", vertex={"express": True})
    with pytest.raises(ConfigError, match="api: Vertex AI has chat completions alone"):
        config("openai", vertex={"project": google.PROJECT}, api="responses")


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
    ],
)
def test_the_host_of_openais_api_on_vertex_is_that_of_googles_sdk(location: str, host: str) -> None:
    from google import genai
    from google.auth.credentials import AnonymousCredentials

    client = genai.Client(vertexai=True, project="p", location=location, credentials=AnonymousCredentials())
    assert host in str(client._api_client._http_options.base_url)
    address = Vertex("p", location).openai_url
    assert address == f"https://{host}/v1/projects/p/locations/{location}/endpoints/openapi"
