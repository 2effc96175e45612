"""What the settings of each kind of provider have: where it is, by whose credential it is asked, and its places.

A provider may have several places, which are keys, accounts or regions. Each has the provider's settings, with its own
over them (`at_places`). Secrets are named, never written.
"""

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from actors.breaker.places import Site
from deployments.config.base.section import Section
from deployments.config.base.values import (
    AzureEndpoint,
    AzureVersion,
    Concurrency,
    Filled,
    HeaderWord,
    Location,
    ModelId,
    NoSwitch,
    PlaceName,
    Project,
    Region,
    Role,
    Tag,
    Title,
    Url,
    Variable,
    azure_endpoint,
)
from deployments.config.options.extras import ExtraOptions
from deployments.config.settings import TimeoutOverrides, explain_unset
from deployments.providers.credentials.addresses import Vertex as VertexAddress
from deployments.providers.credentials.identities import AZURE_SCOPE, EntraIdentity
from deployments.providers.known_windows import known_window
from deployments.secrecy import shown, unset

Found = tuple[str | None, str | None]  # a credential in words, and why there is none: one of them is None


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


class Place(Section):
    """One of a provider's keys, accounts or regions: what it has otherwise than the provider.

    `bucket` names what the vendor counts its calls against: places of one bucket are throttled together. `weight` is
    its share of the sessions where they are spread. `tags` are beside those of the provider.
    """

    name: PlaceName
    bucket: PlaceName | None = None
    tags: list[Tag] = Field(default_factory=list)
    weight: Annotated[float, NoSwitch, Field(gt=0, le=1000)] = 1
    api_key_env: Variable | None = None
    base_url: Url | None = None
    endpoint_url: Url | None = None
    region_env: Variable | None = None
    region: Region | None = None
    profile: Title | None = None
    role_arn: Role | None = None
    external_id: Filled | None = None
    azure: Azure | None = None
    vertex: Vertex | None = None
    workspace_id: HeaderWord | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """Return the provider's settings that are otherwise here."""
        return self.model_dump(exclude_unset=True, exclude={"name", "bucket", "tags", "weight"})


# What a setting of a place stands in for: the provider's own would go before it.
_STANDS_FOR: Mapping[str, tuple[str, ...]] = {
    "region_env": ("region",),
    "endpoint_env": ("endpoint",),
    "project_env": ("project",),
    "profile": ("api_key_env",),
    "role_arn": ("api_key_env",),
}


def overlaid(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provider's settings as a place has them. Sections are overlaid key by key."""
    gone = {key for named in over for key in _STANDS_FOR.get(named, ())} - over.keys()
    kept = {key: value for key, value in settings.items() if key not in gone}
    inner = {
        key: overlaid(kept[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(kept.get(key), dict)
    }
    return {**kept, **over, **inner}


@dataclass(frozen=True, slots=True)
class PlaceState:
    """One place as it stands in this deployment."""

    site: Site
    left_out: str | None  # why it is not called; None if it is
    credential: str | None = None  # in words

    @property
    def name(self) -> str:
        return self.site.name


@dataclass(frozen=True, slots=True)
class Tier:
    """One provider as it stands in this deployment."""

    name: str
    kind: str  # `functions` for an external provider
    left_out: str | None  # why the provider is not called; None if it is
    places: tuple[PlaceState, ...] = ()
    credential: str | None = None  # in words


# How a model is asked to go on with a text: see continuation/methods.py.
Continues = Literal["prefill", "continue_final_message", "prefix", "partial", "instruct", "none"]


def server_of(address: str) -> str:
    """Return the host and the port of a URL, by which servers are told apart."""
    return urlsplit(address).netloc.rpartition("@")[2].lower() or address


class Provider(ExtraOptions):
    has_one_model: ClassVar[bool] = False  # whatever a row calls it
    timeouts: TimeoutOverrides = TimeoutOverrides()
    whole_as_stream: Literal["auto", "always", "never"] = "auto"
    continues: dict[Filled, Continues] = Field(default_factory=dict)
    concurrency: Concurrency | None = None

    def objection(self, model: str) -> str | None:
        """Return why the model must not have this name, by which answers, the ledger and metrics call it."""
        return None

    def found(self) -> Found:
        """Return the credential in words that do not show it, and why the provider can't be called.

        Neither if it needs no credential. A network may be asked.
        """
        return None, None

    def missing(self) -> str | None:
        """Return why the provider can't be called, None if it can."""
        return self.found()[1]

    def base_models(self) -> Mapping[str, str]:
        """Return the vendor's own id of each model that has another name here."""
        return {}

    def base_model(self, model: str) -> str:
        """Return the vendor's own id of a model, by which its window, its price and its habits are known."""
        return self.base_models().get(model, model)

    def usual_tier(self) -> str | None:
        """Return the vendor's tier that serves a request which names none; None for the usual one."""
        return None

    def tells_callers(self) -> frozenset[str]:
        """Return what the vendor is told of who asks: parts of `tenant`, `agent` and `request_id`."""
        return frozenset()

    def makes_embeddings(self) -> bool:
        """Return whether it makes embeddings, where providers of its kind do."""
        return True

    def embedding_model(self, model: str) -> str:
        """Return the name by which the lengths of the model's vectors are known."""
        return self.base_model(model)

    def embedding_window(self, model: str) -> int | None:
        """Return how many tokens a text to embed may have, if that is known."""
        return None

    def billing_address(self) -> str | None:
        """Return the URL of the API by which the vendor's list prices are known; None if nobody bills by a list."""
        return None

    def at_places(self) -> dict[str, Self]:
        """Return the settings of each place by its name; none if the provider has no places."""
        return {}

    def place_tags(self) -> dict[str, frozenset[str]]:
        """Return the tags that each place has of its own."""
        return {}

    def place_states(self) -> tuple[PlaceState, ...]:
        """Return how each place stands in this environment."""
        return ()


class Cloud(Provider):
    context_windows: dict[Title, Annotated[int, NoSwitch, Field(ge=1)]] = Field(default_factory=dict)

    def window(self, model: str) -> int | None:
        """Return the context window of the provider's model in tokens, None if it is not known."""
        return self.context_windows.get(model) or known_window(self.base_model(model))


class WithCredential(Cloud):
    places: list[Place] = Field(default_factory=list)
    places_order: Literal["listed", "spread"] = "listed"

    @model_validator(mode="after")
    def _of_this_kind(self) -> Self:
        """Refuse two places of one name, and settings that this kind has not, or not together."""
        names = [place.name for place in self.places]
        for at, place in enumerate(self.places):
            if place.name in names[:at]:
                raise ValueError(f"places.{at}.name: an earlier place has it")
            if foreign := [key for key in place.overrides if key not in type(self).model_fields]:
                raise ValueError(f"places.{at}.{foreign[0]}: providers of this kind have no such setting")
            try:
                self._at(place)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                path = ".".join(map(str, (*first["loc"], first.get("ctx", {}).get("error", first["msg"]))))
                raise ValueError(f"places.{at}.{path}") from None
        return self

    def _at(self, place: Place) -> Self:
        own = self.model_dump(exclude_unset=True, exclude={"places", "places_order"})
        return type(self).model_validate(overlaid(own, place.overrides))

    def at_places(self) -> dict[str, Self]:
        return {place.name: self._at(place) for place in self.places}

    def place_tags(self) -> dict[str, frozenset[str]]:
        return {place.name: frozenset(place.tags) for place in self.places if place.tags}

    def sites(self) -> list[Site]:
        """Return the places as far as failures and sessions are concerned. Looks for no credential."""
        sites, buckets = list[Site](), dict[Hashable, str]()
        for place, there in zip(self.places, self.at_places().values(), strict=True):
            # Without a word of the operator a bucket has a name that no place can have.
            bucket = place.bucket or buckets.setdefault(there.quota(), f"that of {place.name}")
            sites.append(Site(place.name, server_of(there.address()), bucket, float(place.weight)))
        return sites

    def place_states(self) -> tuple[PlaceState, ...]:
        found = [there.found() for there in self.at_places().values()]
        return tuple(PlaceState(site, why, words) for site, (words, why) in zip(self.sites(), found, strict=True))

    def address(self) -> str:
        """Return the URL that is asked, or what its host is made from."""
        raise NotImplementedError

    def quota(self) -> Hashable:
        """Return against what the vendor counts the calls, as far as the settings tell.

        It may hold a key: it is compared, and shown to nobody.
        """
        raise NotImplementedError


class WithVertex(WithCredential):
    """`vertex`: its models are asked for on Vertex AI, in a project of Google Cloud."""

    vertex: Vertex | None = None

    def vertex_address(self) -> VertexAddress | None:
        return None if self.vertex is None else self.vertex.address()

    def google_file(self) -> str | None:
        return None if self.vertex is None else self.vertex.credentials_file


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
