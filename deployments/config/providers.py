"""The providers of serve_config.yaml: one class of settings for each kind. Secrets are named, never written.

`missing` says why a provider can't be called, and `credential` by what it is.
"""

import os
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deployments.config.known_windows import known_window
from deployments.config.settings import Section, TimeoutOverrides, explain_unset
from deployments.config.values import (
    NO_REGION,
    REGION,
    ApiDate,
    AzureEndpoint,
    AzureVersion,
    Filled,
    HeaderWord,
    Location,
    Method,
    ModelId,
    NoSwitch,
    Project,
    Region,
    Role,
    ServeName,
    Title,
    Url,
    Variable,
    Version,
    azure_endpoint,
)
from deployments.openai_api.embeddings import BUNDLED, MOST_LOCAL_TOKENS
from deployments.providers.credentials.addresses import Azure as AzureAddress
from deployments.providers.credentials.addresses import Vertex as VertexAddress
from deployments.providers.credentials.addresses import objection_by_generate_content, objection_on_vertex
from deployments.providers.credentials.identities import AZURE_SCOPE, BEDROCK_KEY, AwsIdentity, EntraIdentity
from deployments.secrecy import shown, unset

BUNDLED_MODEL = "smollm2-135m"  # the one name of the weights that come with Breakwater


@dataclass(frozen=True, slots=True)
class Tier:
    """One provider as it stands in this deployment."""

    name: str
    kind: str  # `functions` for an external provider
    left_out: str | None  # why the provider is not called; None if it is


class _Provider(Section):
    has_one_model: ClassVar[bool] = False  # whatever a row calls it
    timeouts: TimeoutOverrides = TimeoutOverrides()

    def objection(self, model: str) -> str | None:
        """Return why the model must not have this name, by which answers, the ledger and metrics call it."""
        return None

    def credential(self) -> str | None:
        """Return in words by what it is called, without showing it; None if it needs nothing, or `missing` says why."""
        return None

    def makes_embeddings(self) -> bool:
        """Return whether it makes embeddings, where providers of its kind do."""
        return True

    def embedding_model(self, model: str) -> str:
        """Return the name by which the lengths of the model's vectors are known."""
        return model

    def embedding_window(self, model: str) -> int | None:
        """Return how many tokens a text to embed may have, if that is known."""
        return None

    def billing_address(self) -> str | None:
        """Return the URL of the API by which the vendor's list prices are known; None if nobody bills by a list."""
        return None


class Cloud(_Provider):
    context_windows: dict[Title, Annotated[int, NoSwitch, Field(ge=1)]] = Field(default_factory=dict)

    def window(self, model: str) -> int | None:
        """Return the context window of the provider's model in tokens, None if it is not known."""
        return self.context_windows.get(model) or known_window(model)


_AZURE, _VERTEX = "https://any.openai.azure.com", "https://aiplatform.googleapis.com"  # who bills, by the price list

Cache = (
    Literal["auto"] | None
)  # who marks what a vendor may keep of a prompt: the client alone, or we where it does not
Found = tuple[str | None, str | None]  # a credential in words, and why there is none: one of them is None


class _WithCredential(Cloud):
    def missing(self) -> str | None:
        """Return why the provider can't be called, None if it can."""
        return self.found()[1]

    def credential(self) -> str | None:
        return self.found()[0]

    def found(self) -> Found:
        raise NotImplementedError


class Bedrock(_WithCredential):
    """`profile`, `role_arn` and `external_id` say who asks where that is not whom boto3 finds by itself."""

    kind: Literal["bedrock"]
    region_env: Variable = "AWS_REGION"
    region: Region | None = None
    endpoint_url: Url | None = None
    api_key_env: Variable | None = None
    profile: Title | None = None
    role_arn: Role | None = None
    external_id: Filled | None = None
    cache: Cache = None

    @model_validator(mode="after")
    def _whose_id(self) -> "Bedrock":
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id: is for role_arn, which is not there")
        return self

    def billing_address(self) -> str | None:
        return "https://bedrock-runtime.us-east-1.amazonaws.com"  # its list has no regions, but in the models' ids

    def resolved_region(self) -> str | None:
        return self.region or os.environ.get(self.region_env)

    def identity(self) -> AwsIdentity:
        return AwsIdentity(self.profile, self.role_arn, self.external_id)

    def key_env(self) -> str | None:
        """Return the variable of an API key. The usual one is not asked for a profile's or a role's sake."""
        named = self.profile is not None or self.role_arn is not None
        return self.api_key_env or (None if named else BEDROCK_KEY)

    def found(self) -> Found:
        if not (region := self.resolved_region()):
            return None, unset(self.region_env, "region_env")
        if re.fullmatch(REGION, region) is None:
            return None, f"the value of {self.region_env} {NO_REGION}"
        variable = self.key_env()
        if variable is not None and (self.api_key_env is not None or os.environ.get(variable)):
            if (self.endpoint_url or "").startswith("http:"):
                return None, "endpoint_url: an API key goes over https alone"
            return found_key(variable)
        from deployments.providers.credentials.aws import describe

        return describe(self.identity(), region)


class Azure(Section):
    """A resource of Azure OpenAI or Foundry. Without `api_version` it is asked by its v1 API."""

    endpoint: AzureEndpoint | None = None
    endpoint_env: Variable = "AZURE_OPENAI_ENDPOINT"
    api_version: AzureVersion | None = None
    deployments: dict[Title, ModelId] = Field(default_factory=dict)
    auth: Literal["key", "managed_identity", "workload_identity", "service_principal", "default"] = "key"
    tenant_id: Title | None = None
    client_id: Title | None = None
    client_secret_env: Variable = "AZURE_CLIENT_SECRET"
    scope: Url = AZURE_SCOPE

    def resolved_endpoint(self) -> str | None:
        return azure_endpoint(self.endpoint or os.environ.get(self.endpoint_env) or "")

    def identity(self) -> EntraIdentity | None:
        """Return who asks Microsoft Entra ID for tokens; None where a key is sent."""
        if self.auth == "key":
            return None
        return EntraIdentity(self.auth, self.tenant_id, self.client_id, self.client_secret_env, self.scope)


class Vertex(Section):
    """A project of Google Cloud. `express`: no project, and the provider's API key says who asks."""

    project: Project | None = None
    project_env: Variable = "GOOGLE_CLOUD_PROJECT"
    location: Location = "global"
    credentials_file: Filled | None = None
    express: bool = False

    @model_validator(mode="after")
    def _a_key_or_a_project(self) -> "Vertex":
        if self.express and (self.project is not None or self.credentials_file is not None):
            raise ValueError("express: is without a project and a file of credentials: the API key says who asks")
        return self

    def address(self) -> VertexAddress:
        project = None if self.express else self.project or os.environ.get(self.project_env)
        return VertexAddress(project, self.location, self.express)

    def found(self) -> Found:
        """Return the credentials of Google Cloud in words, or why there are none. Looks for the metadata server."""
        from deployments.providers.credentials.google import describe

        identity, words = describe(self.credentials_file)
        if identity is None:
            return None, words
        if (self.address().project or identity.project) is None:
            return None, f"{unset(self.project_env, 'project_env')}, and the credentials name no project"
        return f"Google Cloud, {words}", None


class OpenAI(_WithCredential):
    kind: Literal["openai"]
    api_key_env: Variable | None = None
    base_url: Url | None = None
    azure: Azure | None = None
    vertex: Vertex | None = None
    api: Literal["chat", "responses"] = "chat"
    cache: Cache = None
    traceparent: bool = False  # send our trace headers: for a server of one's own that traces too

    @model_validator(mode="after")
    def _one_server(self) -> "OpenAI":
        if self.azure is not None and (self.base_url is not None or self.vertex is not None):
            raise ValueError("azure: has an address of its own, so base_url and vertex can't stand beside it")
        if self.vertex is not None and self.vertex.express:
            raise ValueError("vertex.express: is for kind google: OpenAI's API on Vertex AI needs a project")
        if self.vertex is not None and self.api == "responses":
            raise ValueError("api: Vertex AI has chat completions alone")
        return self

    def key_env(self) -> str | None:
        """Return the variable of the key. A server at `base_url` needs one only if `api_key_env` names it."""
        if self.vertex is not None or (self.azure is not None and self.azure.auth != "key"):
            return None
        usual = "OPENAI_API_KEY" if self.azure is None else "AZURE_OPENAI_API_KEY"
        return self.api_key_env or (None if self.base_url else usual)

    def billing_address(self) -> str | None:
        if self.azure is not None:
            return _AZURE  # whatever gateway is before it
        return _VERTEX if self.vertex is not None else self.base_url or "https://api.openai.com"

    def azure_address(self) -> AzureAddress | None:
        if self.azure is None:
            return None
        return AzureAddress(self.azure.resolved_endpoint() or "", self.azure.api_version, self.azure.deployments)

    def entra(self) -> EntraIdentity | None:
        return None if self.azure is None else self.azure.identity()

    def vertex_address(self) -> VertexAddress | None:
        return None if self.vertex is None else self.vertex.address()

    def google_file(self) -> str | None:
        return None if self.vertex is None else self.vertex.credentials_file

    def objection(self, model: str) -> str | None:
        return None if self.vertex is None else objection_on_vertex(model)

    def found(self) -> Found:
        if self.azure is not None and self.azure.resolved_endpoint() is None:
            variable = self.azure.endpoint_env
            value = os.environ.get(variable)
            return None, f"the value of {variable} is no URL of Azure" if value else unset(variable, "endpoint_env")
        if (identity := self.entra()) is not None:
            from deployments.providers.credentials.entra import describe

            return describe(identity)
        return self.vertex.found() if self.vertex is not None else found_key(self.key_env())


class Google(_WithCredential):
    kind: Literal["google"]
    api_key_env: Variable = "GOOGLE_API_KEY"
    base_url: Url | None = None
    api_version: Version | None = None
    vertex: Vertex | None = None

    def billing_address(self) -> str | None:
        return _VERTEX if self.vertex is not None else self.base_url or "https://generativelanguage.googleapis.com"

    def vertex_address(self) -> VertexAddress | None:
        return None if self.vertex is None else self.vertex.address()

    def google_file(self) -> str | None:
        return None if self.vertex is None else self.vertex.credentials_file

    def objection(self, model: str) -> str | None:
        return None if self.vertex is None else objection_by_generate_content(model)

    def found(self) -> Found:
        if self.vertex is not None and not self.vertex.express:
            return self.vertex.found()
        return found_key(self.api_key_env)


class Anthropic(_WithCredential):
    kind: Literal["anthropic"]
    api_key_env: Variable = "ANTHROPIC_API_KEY"
    auth: Literal["x-api-key", "bearer"] = "x-api-key"
    base_url: Url | None = None
    anthropic_version: ApiDate = "2023-06-01"
    betas: list[HeaderWord] = Field(default_factory=list)
    workspace_id: HeaderWord | None = None
    cache: Cache = None

    def billing_address(self) -> str | None:
        return self.base_url or "https://api.anthropic.com"

    def found(self) -> Found:
        return found_key(self.api_key_env)


class Serve(Cloud):
    """A deployment of the same cluster. Whether it is there is known only when it is called."""

    kind: Literal["serve"]
    app: ServeName
    deployment: ServeName | None = None
    method: Method = "chat"
    stream_method: Method | None = None
    embeddings_method: Method | None = None
    multiplexed: bool = False

    def makes_embeddings(self) -> bool:
        return self.embeddings_method is not None

    def missing(self) -> str | None:
        return None


class Local(_Provider):
    kind: Literal["local"]
    has_one_model: ClassVar[bool] = True
    model_path: Filled | None = None
    slots: Annotated[int, NoSwitch, Field(ge=1, le=64)] = 2
    context: Annotated[int, NoSwitch, Field(ge=256)] = 2048
    threads: Annotated[int, NoSwitch, Field(ge=1, le=256)] = 1

    def window(self, model: str) -> int | None:
        return self.context

    def objection(self, model: str) -> str | None:
        if self.model_path is None:
            only = f"without model_path {BUNDLED_MODEL} answers, so that is its name here"
            return None if model == BUNDLED_MODEL else only
        if model == BUNDLED_MODEL and BUNDLED_MODEL not in os.path.basename(self.model_path).lower():
            return f"with model_path another model than {BUNDLED_MODEL} answers, so it needs its own name here"
        return None

    def embedding_model(self, model: str) -> str:
        return BUNDLED if self.model_path is None else model

    def embedding_window(self, model: str) -> int | None:
        return min(self.context, MOST_LOCAL_TOKENS)

    def missing(self) -> str | None:
        if self.model_path and not os.path.isfile(self.model_path):
            return "model_path names no file that is there"
        return None


ProviderSettings = Annotated[Bedrock | OpenAI | Google | Anthropic | Serve | Local, Field(discriminator="kind")]


def row_of(settings: ProviderSettings) -> str:
    """Return the name of the provider's row in `providers/kinds.py`: its kind, or a variant of that."""
    by_responses = isinstance(settings, OpenAI) and settings.api == "responses"
    return "openai_responses" if by_responses else settings.kind


def found_key(variable: str | None) -> Found:
    """Return the key in a variable in words, or why it can't be sent. Without a variable there is nothing to say."""
    if variable is None or (why := explain_key(variable)) is not None:
        return None, None if variable is None else why
    return f"the key in {shown(variable)}", None


def explain_key(variable: str | None) -> str | None:
    """Return why the key in a variable can't be sent, without repeating it; None if it can, or none is named."""
    if variable is None or (why := explain_unset(variable)) is not None:
        return why if variable else None
    if (key := os.environ[variable])[:1] in "\"'":
        return f"the key in {variable} is in quotes, which would be sent"
    if key != key.strip() or not (key.isascii() and key.isprintable()):
        return f"the key in {variable} has a blank or a line break at an end, or a sign that no header can have"
    return None
