"""What serve_config.yaml may say, under `args`. Anything else is an error that names the key.

    python -m deployments.config serve_config.yaml

checks a file without starting anything: it prints tiers, rows and what credentials are missing, or
one sentence, and then exits with 1. Secrets are named by environment variable, never written.
"""

import ipaddress
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from actors.breaker.circuit import Policy
from actors.breaker.plan import target_of
from deployments.config.ledger import Accounting
from deployments.config.settings import (
    Auth,
    BreakerSettings,
    Cloud,
    EmbeddingRow,
    ImageSettings,
    Mode,
    Modes,
    Name,
    ProviderSettings,
    Strict,
    Timeouts,
    unset,
)
from deployments.errors import ConfigError
from deployments.openai_api.chat import Drop
from deployments.openai_api.embeddings import lengths_instead
from deployments.providers.base import TimeLimits
from deployments.providers.kinds import KINDS

INGRESS = "Ingress"
Models = Mapping[str, Mapping[str, str]]  # a row's name to its providers, each with its own id of the model


class Config(Accounting):
    mode: Mode = "hybrid"
    modes: Modes = Modes()
    providers: dict[Name, ProviderSettings]
    models: dict[Annotated[str, Field(min_length=1)], dict[Name, Annotated[str, Field(min_length=1)]]]
    breaker: BreakerSettings = BreakerSettings()
    timeouts: Timeouts = Timeouts()
    auth: Auth = Auth()
    embeddings: dict[Annotated[str, Field(min_length=1)], EmbeddingRow] = Field(default_factory=dict)
    images: ImageSettings = ImageSettings()
    drop_unsupported: Drop = "hints"
    tenants: list[Annotated[str, Field(min_length=1)]] | None = None

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
        """What lengths the model has instead, if it can't have this one."""
        settings = self.providers[provider]
        return lengths_instead(settings.embedding_model(model), dimensions)

    @field_validator("auth", mode="before")
    @classmethod
    def _none_is_meant(cls, value: Any) -> Any:
        return Auth(unguarded=True) if value == "none" else value

    def guarded(self, host: str) -> str | None:
        """Why the application must not serve at this address as it is, if so."""
        if self.auth.unguarded or self.auth.api_keys_env or is_loopback(host):
            return None
        return f"auth: {host} can be reached from other machines: set auth.api_keys_env, or auth: none if that is meant"

    def tier_names(self) -> list[str]:
        """The providers of this mode, in order of preference, with credentials or without."""
        chosen = getattr(self.modes, self.mode)
        if chosen is not None:
            return list(chosen)
        kinds = [kind.name for kind in KINDS.values() if self.mode in kind.modes]
        names = [name for name, p in self.providers.items() if p.kind in kinds]
        # The mode has an order of its own, that of the table of kinds, whatever the order of the providers.
        return sorted(names, key=lambda n: kinds.index(self.providers[n].kind)) if self.mode == "aws_only" else names

    def embedding_models(self) -> Models:
        """As `models`, for embeddings."""
        return {name: row.targets for name, row in self.embeddings.items()}

    def limits_of(self, provider: str) -> TimeLimits:
        return self.timeouts.limits(self.providers[provider].timeouts)

    def policy(self) -> Policy:
        every = [self.limits_of(name) for name in self.providers]
        return self.breaker.policy(max(max(x.total, x.first_token + x.connect) for x in every))


@dataclass(frozen=True, slots=True)
class Tier:
    """One provider as it stands in this deployment. `left_out` says why it is not called."""

    name: str
    kind: str
    left_out: str | None


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A checked config with what the environment makes of it."""

    config: Config
    tiers: tuple[Tier, ...]

    @property
    def usable(self) -> list[str]:
        return [tier.name for tier in self.tiers if tier.left_out is None]

    def rows(self) -> dict[str, list[str]]:
        """Row name to targets, in the row's own order; only providers that can be called."""
        return self._callable(self.config.models)

    def embedding_rows(self) -> dict[str, list[str]]:
        """As `rows`, for embeddings."""
        return self._callable(self.config.embedding_models())

    def _callable(self, rows: Models) -> dict[str, list[str]]:
        usable = set(self.usable)
        return {
            row: [target_of(provider, model) for provider, model in models.items() if provider in usable]
            for row, models in rows.items()
        }

    def kinds(self) -> dict[str, str]:
        """The kind of each provider that can be called."""
        return {tier.name: tier.kind for tier in self.tiers if tier.left_out is None}

    def fixed(self) -> frozenset[str]:
        """Providers that have one model each."""
        return frozenset(name for name, kind in self.kinds().items() if KINDS[kind].in_process)

    def windows(self) -> dict[str, int]:
        """Target to context window in tokens, where it is known."""
        return self._windows(self.config.models, lambda settings, model: settings.window(model))

    def embedding_windows(self) -> dict[str, int]:
        """As `windows`, for embeddings."""
        return self._windows(self.config.embedding_models(), lambda settings, model: settings.embedding_window(model))

    def _windows(self, rows: Models, window: Callable[[ProviderSettings, str], int | None]) -> dict[str, int]:
        known = {
            target_of(name, model): window(self.config.providers[name], model)
            for models in rows.values()
            for name, model in models.items()
        }
        return {target: tokens for target, tokens in known.items() if tokens is not None}


def parse(args: Any) -> Config:
    """The application's args. Raises ConfigError: one sentence that names the key."""
    if not isinstance(args, Mapping) or not args:
        raise ConfigError("args: providers and models are missing")
    try:
        return Config.model_validate(dict(args))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


class Tunables(Strict):
    """What may change while running: `user_config` of the deployment Ingress."""

    breaker: dict[str, Any] = Field(default_factory=dict)
    timeouts: dict[str, Any] = Field(default_factory=dict)


def tuned(config: Config, user_config: Any) -> Config:
    """The config with `user_config` over its `breaker` and `timeouts`, key by key. Raises ConfigError."""
    try:
        over = Tunables.model_validate(user_config or {})
        if "connect" in over.timeouts:
            raise ConfigError("timeouts.connect: can't change while running, the providers' clients have it")
        changed = config.model_dump(exclude={"breaker", "timeouts"}) | {
            "breaker": config.breaker.model_dump() | over.breaker,
            "timeouts": config.timeouts.model_dump() | over.timeouts,
        }
        return Config.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def resolve(config: Config) -> ResolvedConfig:
    """What the environment makes of the config. A provider without credentials is left out."""
    chosen = config.tier_names()
    others = [name for name in config.providers if name not in chosen]
    tiers = [Tier(n, config.providers[n].kind, config.providers[n].missing()) for n in chosen]
    tiers += [Tier(n, config.providers[n].kind, f"not in mode {config.mode}") for n in others]
    layout = ResolvedConfig(config, tuple(tiers))
    for key, variable in config.auth.model_dump(exclude_none=True, exclude={"unguarded"}).items():
        if unset(variable):
            raise ConfigError(f"auth.{key}: {variable} is not set")
    if (missing := config.ledger.missing()) is not None:
        raise ConfigError(f"ledger.{missing}")
    if not layout.usable:
        reasons = "; ".join(f"{t.name}: {t.left_out}" for t in tiers)
        raise ConfigError(f"mode: {config.mode} has no tier that can be called ({reasons})")
    return layout


LOOPBACK = "127.0.0.1"  # where Serve listens unless it is told otherwise
EVERYWHERE = "0.0.0.0"  # where it listens by a config file that does not say


def is_loopback(host: str) -> bool:
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


def read_applications(path: str) -> list[tuple[dict[str, Any], str]]:
    """The applications of a Serve config file that are ours, and the host they are served at. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    applications = data.get("applications") if isinstance(data, dict) else None
    ours = [
        a for a in applications or [] if isinstance(a, dict) and a.get("import_path") == "deployments.app:build_app"
    ]
    if not ours:
        raise ConfigError(f"{path}: no application with import_path deployments.app:build_app")
    options = data.get("http_options")
    host = options.get("host", EVERYWHERE) if isinstance(options, dict) else EVERYWHERE
    return [(application, str(host)) for application in ours]


def check(path: str) -> str:
    """A report on a Serve config file. Raises ConfigError."""
    lines: list[str] = []
    for application, host in read_applications(path):
        layout = resolve(parse(application.get("args")))
        if (why := layout.config.guarded(host)) is not None:
            raise ConfigError(why)
        known = {INGRESS, *layout.config.providers}
        overrides = application.get("deployments") or []
        if not isinstance(overrides, list) or not all(isinstance(o, dict) for o in overrides):
            raise ConfigError("deployments: must be a list of options, each with a name")
        for override in overrides:
            if override.get("name") == INGRESS:
                tuned(layout.config, override.get("user_config"))
            if override.get("name") not in known:
                raise ConfigError(
                    f"deployments.{override.get('name')}: no such deployment (known: {', '.join(sorted(known))})"
                )
        lines += [f"application {application.get('name', 'default')}, mode {layout.config.mode}", "tiers:"]
        for number, tier in enumerate(layout.tiers, 1):
            state = "ready" if tier.left_out is None else f"left out: {tier.left_out}"
            lines.append(f"  {number}. {tier.name} ({tier.kind}): {state}")
        lines.append("rows:")
        for row, targets in layout.rows().items():
            lines.append(f"  {row}: {' > '.join(targets) or 'no provider can be called'}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m deployments.config serve_config.yaml", file=sys.stderr)
        return 2
    try:
        print(check(arguments[0]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
