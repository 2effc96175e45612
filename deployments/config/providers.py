"""The providers of serve_config.yaml: one class of settings for each kind. Secrets are named, never written.

`found` says by which credential a provider is called, or why it can't be. Places are in places.py.
"""

import os
import re
from collections.abc import Hashable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deployments.config.base.values import (
    NO_REGION,
    REGION,
    ApiDate,
    Filled,
    HeaderWord,
    Method,
    NoSwitch,
    Region,
    Role,
    ServeName,
    Title,
    Url,
    Variable,
    Version,
)
from deployments.config.options.converse import ConverseOptions
from deployments.config.places import Azure, Cloud, Found, Provider, Vertex, WithCredential, WithVertex, found_key
from deployments.openai_api.embeddings import BUNDLED, MOST_LOCAL_TOKENS
from deployments.providers.credentials.addresses import Azure as AzureAddress
from deployments.providers.credentials.addresses import objection_by_generate_content, objection_on_vertex
from deployments.providers.credentials.identities import BEDROCK_KEY, AwsIdentity, EntraIdentity
from deployments.secrecy import unset

BUNDLED_MODEL = "smollm2-135m"  # the one name of the weights that come with Breakwater


# Who bills, by the price list.
_AZURE, _VERTEX = "https://any.openai.azure.com", "https://aiplatform.googleapis.com"


Cache = Literal["auto"] | None  # whether we mark what a vendor may keep of a prompt, where its client does not


class Bedrock(ConverseOptions, WithCredential):
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

    def address(self) -> str:
        return self.endpoint_url or self.resolved_region() or ""

    def quota(self) -> Hashable:
        """AWS counts by account and region (Bedrock, Quotas). Of an account a role's ARN alone tells."""
        if self.role_arn is not None:
            return self.role_arn.split(":")[4], self.resolved_region()
        return self.profile, _key_in(self.key_env()), self.resolved_region()

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


class OpenAI(WithVertex):
    kind: Literal["openai"]
    api_key_env: Variable | None = None
    base_url: Url | None = None
    azure: Azure | None = None
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

    def objection(self, model: str) -> str | None:
        return None if self.vertex is None else objection_on_vertex(model)

    def address(self) -> str:
        if self.azure is not None:
            return self.azure.resolved_endpoint() or ""
        vertex = None if self.vertex is None else self.vertex.address().openai_url
        return self.base_url or vertex or "https://api.openai.com"

    def quota(self) -> Hashable:
        """Azure counts by resource, Vertex AI by project and location, OpenAI by project, which is known by its key."""
        if self.azure is not None:
            return self.azure.resolved_endpoint()
        return _of_project(self.vertex) if self.vertex is not None else (self.address(), _key_in(self.key_env()))

    def found(self) -> Found:
        if self.azure is not None and self.azure.resolved_endpoint() is None:
            variable = self.azure.endpoint_env
            value = os.environ.get(variable)
            return None, f"the value of {variable} is no URL of Azure" if value else unset(variable, "endpoint_env")
        if (identity := self.entra()) is not None:
            from deployments.providers.credentials.entra import describe

            return describe(identity)
        return self.vertex.found() if self.vertex is not None else found_key(self.key_env())


class Google(WithVertex):
    kind: Literal["google"]
    api_key_env: Variable = "GOOGLE_API_KEY"
    base_url: Url | None = None
    api_version: Version | None = None

    def billing_address(self) -> str | None:
        return _VERTEX if self.vertex is not None else self.base_url or "https://generativelanguage.googleapis.com"

    def objection(self, model: str) -> str | None:
        return None if self.vertex is None else objection_by_generate_content(model)

    def address(self) -> str:
        vertex = None if self.vertex is None else self.vertex.address().openai_url
        return self.base_url or vertex or "https://generativelanguage.googleapis.com"

    def quota(self) -> Hashable:
        """Google counts by project: by that of Vertex AI and its location, or by that of a key."""
        if self.vertex is not None and not self.vertex.express:
            return _of_project(self.vertex)
        return self.address(), _key_in(self.api_key_env)

    def found(self) -> Found:
        if self.vertex is not None and not self.vertex.express:
            return self.vertex.found()
        return found_key(self.api_key_env)


class Anthropic(WithVertex):
    kind: Literal["anthropic"]
    api_key_env: Variable = "ANTHROPIC_API_KEY"
    auth: Literal["x-api-key", "bearer"] = "x-api-key"
    base_url: Url | None = None
    anthropic_version: ApiDate = "2023-06-01"
    betas: list[HeaderWord] = Field(default_factory=list)
    workspace_id: HeaderWord | None = None
    cache: Cache = None

    @model_validator(mode="after")
    def _whose(self) -> "Anthropic":
        if self.vertex is not None and self.vertex.express:
            raise ValueError("vertex.express: is for kind google: Claude on Vertex AI needs a project")
        for name in ("api_key_env", "auth", "anthropic_version", "workspace_id"):
            if self.vertex is not None and name in self.model_fields_set:
                raise ValueError(f"{name}: is of Anthropic's own servers, so vertex can't stand beside it")
        return self

    def billing_address(self) -> str | None:
        return _VERTEX if self.vertex is not None else self.address()

    def address(self) -> str:
        if self.vertex is not None:
            return self.base_url or f"https://{self.vertex.address().host}"
        return self.base_url or "https://api.anthropic.com"

    def quota(self) -> Hashable:
        """Anthropic counts by organization and workspace (Rate limits), which are known by the key.

        Vertex AI counts by project, location and model (Google Cloud, Claude: quotas).
        """
        if self.vertex is not None:
            return _of_project(self.vertex)
        return self.address(), self.workspace_id, _key_in(self.api_key_env)

    def found(self) -> Found:
        return found_key(self.api_key_env) if self.vertex is None else self.vertex.found()


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

    def tells_callers(self) -> frozenset[str]:
        return frozenset({"request_id"})


class Local(Provider):
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

    def found(self) -> Found:
        gone = self.model_path is not None and not os.path.isfile(self.model_path)
        return None, "model_path names no file that is there" if gone else None


ProviderSettings = Annotated[Bedrock | OpenAI | Google | Anthropic | Serve | Local, Field(discriminator="kind")]


def _of_project(vertex: Vertex) -> Hashable:
    address = vertex.address()
    return address.project or vertex.credentials_file, address.location


def _key_in(variable: str | None) -> str | None:
    """Return the key in a variable: two variables may hold one. It is compared, and goes nowhere."""
    return os.environ.get(variable, variable) if variable else None


def row_of(settings: ProviderSettings) -> str:
    """Return the name of the provider's row in `providers/kinds.py`: its kind, or a variant of that."""
    by_responses = isinstance(settings, OpenAI) and settings.api == "responses"
    return "openai_responses" if by_responses else settings.kind
