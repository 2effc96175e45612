"""The application's configuration: `args` in serve_config.yaml. An unknown key is an error that names it.

Secrets are named by environment variable, never written.
"""

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from actors.breaker.circuit import Policy
from deployments.config.base.section import Section
from deployments.config.base.values import Alias, Host, Name, Title
from deployments.config.ledger import Accounting
from deployments.config.options.extras import ExtraOptions, RowTarget, TargetSettings, model_id
from deployments.config.places import Cloud, explain_key
from deployments.config.providers import ProviderSettings, row_of
from deployments.config.rows import EVERY_ROW, RowSettings
from deployments.config.sentences import sentence_of
from deployments.config.settings import (
    AffinitySettings,
    Auth,
    BreakerSettings,
    CorsSettings,
    EmbeddingRow,
    IdempotencySettings,
    ImageSettings,
    Mode,
    Models,
    Modes,
    PrioritySettings,
    ScopeSettings,
    Timeouts,
)
from deployments.errors import ConfigError
from deployments.openai_api.chat import Drop
from deployments.openai_api.embeddings import other_lengths
from deployments.providers.extras import Extras, RowExtras
from deployments.providers.kinds import KINDS
from deployments.providers.time_limits import TimeLimits
from deployments.secrecy import shown
from deployments.validation import meant

INGRESS = "Ingress"


class Config(Accounting):
    """The checked `args`. docs/configuration.md documents each key."""

    mode: Mode = "hybrid"
    modes: Modes = Modes()
    providers: dict[Name, ProviderSettings]
    models: dict[Title, Annotated[dict[Name, RowTarget], Field(min_length=1)]]
    rows: dict[Title, RowSettings] = Field(default_factory=dict)
    aliases: dict[Alias, Title] = Field(default_factory=dict)
    breaker: BreakerSettings = BreakerSettings()
    timeouts: Timeouts = Timeouts()
    auth: Auth = Auth()
    embeddings: dict[Title, EmbeddingRow] = Field(default_factory=dict)
    images: ImageSettings = ImageSettings()
    affinity: AffinitySettings = AffinitySettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    cors: CorsSettings | None = None
    hosts: list[Host] = Field(default_factory=list)
    drop_unsupported: Drop = "hints"
    priorities: PrioritySettings = PrioritySettings()
    tenants: list[Title] | None = None
    scopes: ScopeSettings = ScopeSettings()
    cluster: Literal["trusted"] | None = None  # nobody but us reaches Ray's own ports

    @model_validator(mode="after")
    def _rows_and_modes(self) -> "Config":
        if not self.providers:
            raise ValueError("providers: at least one is needed")
        if INGRESS in self.providers:
            raise ValueError(f"providers.{INGRESS}: the name is taken by the ingress deployment")
        if not self.models:
            raise ValueError("models: at least one row is needed")
        for key, provider in self._named_providers():
            if provider not in self.providers:
                known = ", ".join(map(shown, self.providers))
                raise ValueError(f"{key}: no such provider (known: {known}){meant(provider, self.providers)}")
        for row, embedding in self.embeddings.items():
            for provider, model in embedding.targets.items():
                key = f"embeddings.{shown(row)}.targets.{provider}"
                if not KINDS[kind := self.providers[provider].kind].embeds:
                    raise ValueError(f"{key}: providers of kind {kind} make no embeddings")
                if not self.providers[provider].makes_embeddings():
                    raise ValueError(f"{key}: {provider} makes no embeddings without embeddings_method")
                if (length := self._length_refused(provider, model, embedding.dimensions)) is not None:
                    raise ValueError(f"{key}: the vectors of {shown(model)} {length}, not {embedding.dimensions}")
        for name, settings in self.providers.items():
            for model in settings.context_windows if isinstance(settings, Cloud) else ():
                if not any(targets.get(name) == model for targets in self.chat_models().values()):
                    raise ValueError(
                        f"providers.{name}.context_windows.{shown(model)}: no row has this model of {name}"
                    )
        if not self.tier_names():
            raise ValueError(f"mode: {self.mode} leaves no tier of {', '.join(map(shown, self.providers))}")
        for row, targets in self.models.items():
            if not any(name in self.tier_names() for name in targets):
                raise ValueError(f"models.{shown(row)}: mode {self.mode} leaves it no provider")
        for row, embedding in self.embeddings.items():
            if not any(name in self.tier_names() for name in embedding.targets):
                raise ValueError(f"embeddings.{shown(row)}.targets: mode {self.mode} leaves it no provider")
        return self

    @model_validator(mode="after")
    def _true_names(self) -> "Config":
        """Refuse names of local models that are not true: answers, the ledger and metrics repeat them."""
        called: dict[str, str] = {}
        for key, provider, model in self._targets():
            settings = self.providers[provider]
            if (why := settings.objection(model)) is not None:
                raise ValueError(f"{key}: {why}")
            if settings.has_one_model and called.setdefault(provider, model) != model:
                raise ValueError(f"{key}: another row calls the one model of this provider {shown(called[provider])}")
        return self

    @model_validator(mode="after")
    def _may_be_added(self) -> "Config":
        for key, provider, options in self._options():
            kind = KINDS[row_of(self.providers[provider])]
            if (why := options.objection_to_extras(kind.in_configuration, kind.owned)) is not None:
                raise ValueError(f"{key}.{why}")
        return self

    @model_validator(mode="after")
    def _methods_that_fit(self) -> "Config":
        for name, settings in self.providers.items():
            kind = KINDS[row_of(settings)]
            fit = ("none", *(() if kind.in_process else ("prefill", "instruct")))
            for pattern, word in settings.continues.items():
                if not kind.passes_through and word not in fit:
                    raise ValueError(f"providers.{shown(name)}.continues.{shown(pattern)}: its API has no {word}")
        return self

    @model_validator(mode="after")
    def _known_tags(self) -> "Config":
        known = {tag for _, _, options in self._options() for tag in options.tags}
        known |= {tag for p in self.providers.values() for tags in p.place_tags().values() for tag in tags}
        named = (("tenants", self.scopes.tenants), ("keys", self.scopes.keys))
        for key, tags in ((f"scopes.{kind}.{shown(name)}", tags) for kind, of in named for name, tags in of.items()):
            for tag in tags:
                if tag not in known:
                    raise ValueError(f"{key}: no provider or target has the tag {shown(tag)}{meant(tag, known)}")
        return self

    @model_validator(mode="after")
    def _known_aliases(self) -> "Config":
        rows = [*self.models, *self.embeddings]
        for alias, row in self.aliases.items():
            if row not in rows:
                known = ", ".join(map(shown, rows))
                raise ValueError(
                    f"aliases.{shown(alias)}: no such row: {shown(row)} (known: {known}){meant(row, rows)}"
                )
            if alias in rows:
                raise ValueError(f"aliases.{shown(alias)}: a row has this name")
        return self

    @model_validator(mode="after")
    def _known_rows(self) -> "Config":
        for row in self.rows:
            if row != EVERY_ROW and row not in self.models:
                known = ", ".join(map(shown, self.models))
                raise ValueError(f"rows.{shown(row)}: no such row (known: {known}){meant(row, self.models)}")
        return self

    def aliases_of(self, rows: Collection[str]) -> dict[str, str]:
        """Return the other names, and the patterns of names, of these rows."""
        return {alias: row for alias, row in self.aliases.items() if row in rows}

    def _targets(self) -> Iterator[tuple[str, str, str]]:
        """Yield each target's key in the file, provider and model."""
        for row, targets in self.chat_models().items():
            yield from ((f"models.{shown(row)}.{shown(name)}", name, model) for name, model in targets.items())
        for row, embedding in self.embeddings.items():
            key = f"embeddings.{shown(row)}.targets"
            yield from ((f"{key}.{shown(name)}", name, model) for name, model in embedding.targets.items())

    def _options(self) -> Iterator[tuple[str, str, ExtraOptions]]:
        """Yield what is added to requests: its key in the file, and the provider that gets them."""
        yield from ((f"providers.{shown(name)}", name, settings) for name, settings in self.providers.items())
        for row, provider, target in self.target_settings():
            yield f"models.{shown(row)}.{shown(provider)}", provider, target

    def target_settings(self) -> Iterator[tuple[str, str, TargetSettings]]:
        """Yield the row, the provider and the settings of each target that has more than its model's id."""
        for row, targets in self.models.items():
            for provider, target in targets.items():
                if isinstance(target, TargetSettings):
                    yield row, provider, target

    def extras_of(self, provider: str) -> RowExtras:
        """Return what is added to a provider's requests. The values of variables are read now."""
        own = [(row, target) for row, name, target in self.target_settings() if name == provider]
        of_rows = {(row, it.model): extras for row, it in own if (extras := _extras(it)) is not None}
        return RowExtras(_extras(self.providers[provider]), of_rows)

    def unset_extra(self, provider: str) -> str | None:
        """Return why what is added to a provider's requests is not there: a variable that is not set; None if it is."""
        for key, name, options in self._options():
            for place, variable in options.variables() if name == provider else ():
                if (why := explain_key(variable)) is not None:
                    return f"{key}.{place}: {why}"
        return None

    def _named_providers(self) -> Iterator[tuple[str, str]]:
        """Yield each place that names a provider, with the name."""
        yield from ((key, provider) for key, provider, _ in self._targets())
        for mode, names in self.modes.model_dump(exclude_none=True).items():
            yield from ((f"modes.{mode}.{shown(name)}", name) for name in names)

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

    def chat_models(self) -> Models:
        """Return the rows of chats: each provider's own id of the model."""
        return {row: {name: model_id(it) for name, it in targets.items()} for row, targets in self.models.items()}

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


def _extras(options: ExtraOptions) -> Extras | None:
    return None if options.adds_nothing else Extras(options.extra_body, options.headers(), options.query())


def parse(args: object) -> Config:
    """Return the application's args, checked. Raises ConfigError with one sentence that names the key."""
    if not args:
        raise ConfigError("args: providers and models are missing")
    if not isinstance(args, Mapping):
        raise ConfigError("args: must be an object with providers and models")
    try:
        return Config.model_validate(dict(args))
    except ValidationError as error:
        raise ConfigError(sentence_of(error)) from None


class Tunables(Section):
    """The keys that may change while running: `user_config` of the deployment Ingress."""

    breaker: dict[str, object] = Field(default_factory=dict)
    timeouts: dict[str, object] = Field(default_factory=dict)


def apply_user_config(config: Config, user_config: object) -> Config:
    """Return the config with `user_config` over its `breaker` and `timeouts`, key by key. Raises ConfigError."""
    try:
        over = Tunables.model_validate(user_config or {})
        if "connect" in over.timeouts:
            raise ConfigError("timeouts.connect: can't change while running: the providers' clients are built with it")
        changed = config.model_dump(exclude={"breaker", "timeouts"}, exclude_unset=True) | {
            "breaker": config.breaker.model_dump() | over.breaker,
            "timeouts": config.timeouts.model_dump() | over.timeouts,
        }
        return Config.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(sentence_of(error)) from None


LOOPBACK = "127.0.0.1"  # where Serve listens by default


def is_loopback(host: str) -> bool:
    """Return whether an address or a name can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
