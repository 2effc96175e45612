"""Where models are on clouds that have more than a base URL. Plain data: no SDK is imported."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Azure:
    """A resource of Azure OpenAI or Foundry.

    `api_version` is that of the dated API; None for v1. `deployments` has the names of deployments by model: a model
    that is not in it has its own name there.
    """

    endpoint: str
    api_version: str | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vertex:
    """A project of Google Cloud, and where its models run: a region, `global`, `us` or `eu`.

    In express mode there is no project, and a key says who asks. `quota_project` is billed, where that is another.
    """

    project: str | None = None
    location: str = "global"
    express: bool = False
    quota_project: str | None = None

    @property
    def host(self) -> str:
        """Return the host of the location (Google Cloud, Vertex AI locations)."""
        where = self.location
        return {
            "global": "aiplatform.googleapis.com",
            "us": "aiplatform.us.rep.googleapis.com",
            "eu": "aiplatform.eu.rep.googleapis.com",
        }.get(where, f"{where}-aiplatform.googleapis.com")

    @property
    def openai_url(self) -> str:
        """Return the base URL of OpenAI's API there (Google Cloud, Vertex AI: OpenAI compatibility)."""
        return f"https://{self.host}/v1/projects/{self.project}/locations/{self.location}/endpoints/openapi"


_CLAUDE = re.compile(r"(?:^|/)claude-")


def objection_on_vertex(model: str) -> str | None:
    """Return why a model of Vertex AI can't be asked, and what to do instead; None if it can."""
    if _CLAUDE.search(model) is None:
        return None
    return (
        "Claude on Vertex AI speaks Anthropic's API alone, at an address of its own (rawPredict): ask it by kind "
        "anthropic with vertex"
    )


def objection_by_generate_content(model: str) -> str | None:
    """Return why a model of Vertex AI can't be asked by generateContent, and what to do instead; None if it can."""
    maker = re.search(r"(?:^|publishers/)([a-z0-9-]+)/", model)
    if maker is None or maker[1] in ("google", "publishers", "models", "projects", "tunedModels"):
        return objection_on_vertex(model)
    return objection_on_vertex(model) or (
        "models of other makers speak OpenAI's API on Vertex AI: ask it by kind openai with vertex"
    )
