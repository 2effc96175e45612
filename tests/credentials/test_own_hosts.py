"""What the environment says for OpenAI alone goes to OpenAI alone. The real SDK would send it to any server."""

import asyncio
from collections.abc import Mapping

import httpx2
import openai
import pytest

from deployments.providers.credentials.addresses import Azure
from deployments.providers.openai.server import Server

FOREIGN = ("https://api.mistral.ai/v1", "http://127.0.0.1:8000/v1", "https://api.openai.com.example/v1")


@pytest.fixture(autouse=True)
def environment(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ours")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-ours")


def headers_of(base_url: str | None = None, azure: Azure | None = None) -> Mapping[str, str]:
    server = Server(httpx2.AsyncClient(), api_key="sk-fake", base_url=base_url, azure=azure)
    found = asyncio.run(server.headers())
    return {name.lower(): value for name, value in found.items()}


@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_organization_and_project_go_to_openais_own_hosts(base_url: str | None) -> None:
    headers = headers_of(base_url)
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-ours", "proj-ours")


@pytest.mark.parametrize("base_url", FOREIGN)
def test_organization_and_project_go_to_nobody_else(base_url: str) -> None:
    sdk = openai.AsyncOpenAI(api_key="sk-fake", base_url=base_url)
    assert sdk.default_headers["OpenAI-Organization"] == "org-ours", "the SDK does not send them any more"
    headers = headers_of(base_url)
    assert not [name for name in headers if name.startswith("openai-")]
    assert headers["authorization"] == "Bearer sk-fake"


@pytest.mark.parametrize("version", [None, "2024-10-21"])
def test_organization_and_project_do_not_go_to_azure(version: str | None) -> None:
    headers = headers_of(azure=Azure("https://ours.openai.azure.com", version))
    assert not [name for name in headers if name.startswith("openai-")]


def test_headers_of_the_environment_go_where_the_configuration_names_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-gateway: ours\nAuthorization: Bearer other")
    assert headers_of()["x-gateway"] == "ours"
    foreign = headers_of(FOREIGN[0])
    assert "x-gateway" not in foreign
    assert foreign["authorization"] == "Bearer sk-fake"


def test_a_server_that_the_environment_names_gets_no_organization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", FOREIGN[0])
    assert not [name for name in headers_of() if name.startswith("openai-")]
