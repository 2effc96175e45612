"""The application's configuration: `args` in serve_config.yaml. An unknown key is an error that names it.

Secrets are named by environment variable, never written.
"""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from actors.breaker.circuit import Policy
from deployments.config.ledger import Accounting
from deployments.config.settings import (
    Auth,
    BreakerSettings,
    Cloud,
    CorsSettings,
    EmbeddingRow,
    Host,
    ImageSettings,
    Mode,
    Models,
    Modes,
    Name,
    ProviderSettings,
    Strict,
    Timeouts,
)
from deployments.errors import ConfigError
from deployments.openai_api.chat import Drop
from deployments.openai_api.embeddings import other_lengths
from deployments.providers.kinds import KINDS
from deployments.providers.time_limits import TimeLimits

INGRESS = "Ingress"


class Config(Accounting):
    """The checked `args`. docs/configuration.md documents each key."""

    mode: Mode = "hybrid"
    modes: Modes = Modes()
    providers: dict[Name, ProviderSettings]
    models: dict[Annotated[str, Field(min_length=1)], dict[Name, Annotated[str, Field(min_length=1)]]]
    breaker: BreakerSettings = BreakerSettings()
    timeouts: Timeouts = Timeouts()
    auth: Auth = Auth()
    embeddings: dict[Annotated[str, Field(min_length=1)], EmbeddingRow] = Field(default_factory=dict)
    images: ImageSettings = ImageSettings()
    cors: CorsSettings | None = None
    hosts: list[Host] = Field(default_factory=list)
    drop_unsupported: Drop = "hints"
    tenants: list[Annotated[str, Field(min_length=1)]] | None = None
    cluster: Literal["trusted"] | None = None  # nobody but us reaches Ray's own ports

    @model_validator(mode="after")
    def _rows_and_modes(self) -> "Config":
        if not self.providers:
            raise ValueError("providers: at least one is needed")
        if INGRESS in self.providers:
            raise ValueError(f"providers.{INGRESS}: the name is taken by the ingress deployment")
        if not self.models:
            raise ValueError("models: at least one row is needed")
        known = ", ".join(self.providers)
        for row, targets in self.models.items():
            for provider in targets:
                if provider not in self.providers:
                    raise ValueError(f"models.{row}.{provider}: no such provider (known: {known})")
        for row, embedding in self.embeddings.items():
            for provider, model in embedding.targets.items():
                key = f"embeddings.{row}.targets.{provider}"
                if provider not in self.providers:
                    raise ValueError(f"{key}: no such provider (known: {known})")
                if (length := self._length_refused(provider, model, embedding.dimensions)) is not None:
                    raise ValueError(f"{key}: the vectors of {model} {length}, not {embedding.dimensions}")
        for name, settings in self.providers.items():
            for model in settings.context_windows if isinstance(settings, Cloud) else ():
                if not any(targets.get(name) == model for targets in self.models.values()):
                    raise ValueError(f"providers.{name}.context_windows.{model}: no row has this model of {name}")
        for mode, names in self.modes.model_dump(exclude_none=True).items():
            for name in names:
                if name not in self.providers:
                    raise ValueError(f"modes.{mode}: no such provider: {name}")
        if not self.tier_names():
            raise ValueError(f"mode: {self.mode} leaves no tier of {', '.join(self.providers)}")
        for row, targets in self.models.items():
            if not any(name in self.tier_names() for name in targets):
                raise ValueError(f"models.{row}: mode {self.mode} leaves it no provider")
        for row, embedding in self.embeddings.items():
            if not any(name in self.tier_names() for name in embedding.targets):
                raise ValueError(f"embeddings.{row}.targets: mode {self.mode} leaves it no provider")
        return self

    def _length_refused(self, provider: str, model: str, dimensions: int) -> str | None:
        """Return the vector lengths of a model that can't have this one, in words; None if it can."""
        settings = self.providers[provider]
        return other_lengths(settings.embedding_model(model), dimensions)

    @field_validator("auth", mode="before")
    @classmethod
    def _read_none(cls, value: object) -> object:
        return Auth(unguarded=True) if value == "none" else value

    def explain_exposure(self, host: str) -> str | None:
        """Return why the application must not serve at this address without keys; None if it may."""
        if self.auth.unguarded or self.auth.needs_keys or is_loopback(host):
            return None
        ways = "set auth.api_keys_env or auth.keys_file, or auth: none if that is meant"
        return f"auth: {host} can be reached from other machines: {ways}"

    def explain_open_cluster(self, host: str, nodes: int, *, protected: bool) -> str | None:
        """Return why the application must not run on a cluster of so many nodes at this address; None if it may.

        Whoever reaches a port of Ray's runs code there. `protected`: Ray asks everybody for its token, or for TLS.
        """
        if protected or self.cluster == "trusted" or (nodes <= 1 and is_loopback(host)):
            return None
        return (
            "cluster: whoever reaches a port of Ray's can run code on it: set RAY_AUTH_MODE=token and a token, or "
            "RAY_USE_TLS=1, where Ray starts on each node; or cluster: trusted, if nobody else reaches those ports"
        )

    def tier_names(self) -> list[str]:
        """Return the providers of this mode, in order of preference, with credentials or without."""
        chosen = getattr(self.modes, self.mode)
        if chosen is not None:
            return list(chosen)
        kinds = [kind.name for kind in KINDS.values() if self.mode in kind.modes]
        names = [name for name, p in self.providers.items() if p.kind in kinds]
        # The mode has an order of its own, that of the table of kinds, whatever the order of the providers.
        return sorted(names, key=lambda n: kinds.index(self.providers[n].kind)) if self.mode == "aws_only" else names

    def embedding_models(self) -> Models:
        """Return the rows of embeddings, as `models` has those of chats."""
        return {name: row.targets for name, row in self.embeddings.items()}

    def limits_of(self, provider: str) -> TimeLimits:
        """Return the time limits of one provider, in seconds."""
        return self.timeouts.limits(self.providers[provider].timeouts)

    def policy(self) -> Policy:
        """Return the breaker's policy. Its lease outlives the longest call that any provider may have."""
        every = [self.limits_of(name) for name in self.providers]
        return self.breaker.policy(max(max(x.total, x.first_token + x.connect) for x in every))


def parse(args: object) -> Config:
    """Return the application's args, checked. Raises ConfigError with one sentence that names the key."""
    if not isinstance(args, Mapping) or not args:
        raise ConfigError("args: providers and models are missing")
    try:
        return Config.model_validate(dict(args))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


class Tunables(Strict):
    """The keys that may change while running: `user_config` of the deployment Ingress."""

    breaker: dict[str, object] = Field(default_factory=dict)
    timeouts: dict[str, object] = Field(default_factory=dict)


def apply_user_config(config: Config, user_config: object) -> Config:
    """Return the config with `user_config` over its `breaker` and `timeouts`, key by key. Raises ConfigError."""
    try:
        over = Tunables.model_validate(user_config or {})
        if "connect" in over.timeouts:
            raise ConfigError("timeouts.connect: can't change while running: the providers' clients are built with it")
        changed = config.model_dump(exclude={"breaker", "timeouts"}) | {
            "breaker": config.breaker.model_dump() | over.breaker,
            "timeouts": config.timeouts.model_dump() | over.timeouts,
        }
        return Config.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


LOOPBACK = "127.0.0.1"  # where Serve listens by default


def is_loopback(host: str) -> bool:
    """Return whether an address or a name can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # A discriminated union puts its tag into the path, which the file does not have.
    path = [str(p) for i, p in enumerate(first["loc"]) if not (i == 2 and first["loc"][0] == "providers")]
    key = ".".join(p for p in path if p != "[key]")
    match first["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key"
        case "value_error":
            return str(first["ctx"]["error"])
        case "missing":
            return f"{key}: required key is missing"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"{key}.kind: must be one of {', '.join(KINDS)}"
        case _:
            return f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}"
