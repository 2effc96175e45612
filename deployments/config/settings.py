"""The parts of serve_config.yaml under `args`, each checked by itself. Secrets are named, never written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from actors.breaker.circuit import Policy
from deployments.config.base.section import Section
from deployments.config.base.values import (
    Filled,
    ModelId,
    Name,
    NoSwitch,
    Origin,
    Seconds,
    SecondsOrNone,
    Tag,
    Title,
    Variable,
    read_seconds,
)
from deployments.overload.line import Priority
from deployments.providers.time_limits import TimeLimits
from deployments.secrecy import unset

Mode = Literal["hybrid", "aws_only", "local_only"]
Models = Mapping[str, Mapping[str, str]]  # a row's name to its providers, each with its own id of the model
LEAST_LEASE = 30.0  # a probe that streams renews its lease every ten seconds


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of the images that are fetched for providers."""

    max_bytes: int = 20 * 1024 * 1024  # of one image
    seconds: float = 5.0  # for fetching one image
    hosts: frozenset[str] = (
        frozenset()
    )  # may have private addresses: an image store of one's own; `name` or `name:port`


class TimeoutOverrides(Section):
    """Seconds. A value that is not set comes from the application's `timeouts`."""

    timeout_seconds: Seconds | None = None
    connect: Seconds | None = None
    first_token: Seconds | None = None
    idle: Seconds | None = None


class Timeouts(Section):
    """Seconds. `timeout_seconds` ends a call without a stream, `deadline` the whole request."""

    timeout_seconds: Seconds = 30
    connect: Seconds = 3
    first_token: Seconds = 10
    idle: Seconds = 15
    deadline: Seconds = 60

    def limits(self, over: TimeoutOverrides) -> TimeLimits:
        """Return the limits of a provider with these overrides."""

        def pick(name: str) -> float:
            value = getattr(over, name)
            return float(getattr(self, name) if value is None else value)

        total = pick("timeout_seconds")
        return TimeLimits(pick("connect"), min(pick("first_token"), total), pick("idle"), total)


class BreakerSettings(Section):
    failure_threshold: Annotated[int, NoSwitch, Field(ge=1, le=50)] = 3
    recovery_timeout: Seconds = 60

    def policy(self, longest: float) -> Policy:
        """Return the breaker's policy. `longest` is the longest that a probe may take, in seconds."""
        return Policy(self.failure_threshold, self.recovery_timeout, lease=max(longest + 5, LEAST_LEASE))


def _as_whole(value: object) -> object:
    """Return 35.0 as 35: to a JSON schema it is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_as_whole)]


class Overrides(Section):
    """Thresholds that an operator may set while running. Null restores the configuration's."""

    model_config = ConfigDict(strict=True)  # a JSON body says `true` and "1" where it means them, unlike YAML
    failure_threshold: Annotated[Whole, NoSwitch, Field(ge=1, le=50)] | None = None
    recovery_timeout: Seconds | None = None
    recovery_cap: Seconds | None = None
    window_ratio: Annotated[float, NoSwitch, Field(gt=0, le=1)] | None = None
    window_calls: Annotated[Whole, NoSwitch, Field(ge=1, le=1_000_000)] | None = None
    slow_start: SecondsOrNone | None = None
    throttle_max: Seconds | None = None


def explain_unset(variable: str | None, key: str = "api_key_env") -> str | None:
    """Return the sentence that an environment variable is not set, None if it is or `key` names none."""
    return unset(variable, key) if variable and not os.environ.get(variable, "").strip() else None


class Auth(Section):
    """Where keys are. Those of `api_keys_env` are `key`, `key:tenant` or `key:tenant:name`, separated by commas."""

    api_keys_env: Variable | None = None
    admin_key_env: Variable | None = None
    keys_file: Filled | None = None
    unguarded: bool = False  # set by `auth: none`: every caller that reaches the server passes

    @property
    def needs_keys(self) -> bool:
        """Return whether every caller must have a key."""
        return self.api_keys_env is not None or self.keys_file is not None


class ImageSettings(Section):
    """Images that a message names by URL. They are fetched for providers that take only bytes."""

    max_bytes: Annotated[int, NoSwitch, Field(ge=1, le=64 * 1024 * 1024)] = 20 * 1024 * 1024
    seconds: Seconds = 5
    # May have private addresses: an image store of one's own. A port other than 80 and 443 is named: `store:9000`.
    hosts: list[str] = Field(default_factory=list)

    def limits(self) -> ImageLimits:
        return ImageLimits(self.max_bytes, self.seconds, frozenset(host.lower() for host in self.hosts))


class AffinitySettings(Section):
    """`seconds`: how long a conversation's prompt is taken to be in a provider's cache; 0: none is remembered.
    `longest`: how long a conversation may stay away from the first target of its row.
    """

    seconds: SecondsOrNone = 300
    longest: Seconds = 3600


class IdempotencySettings(Section):
    """How requests that are sent twice share one answer.

    `join`: a request with the idempotency key of one that still runs joins it. `keep`: seconds that a whole answer with
    a key is kept from its end. `linger`: seconds that a request goes on without its client, and that an answer which
    nobody got is kept. `unavailable`: what happens to a request with a key while nobody knows the others.
    """

    join: bool = True
    keep: Annotated[float, Field(ge=0, le=86_400), BeforeValidator(read_seconds)] = 0
    linger: SecondsOrNone = 30
    unavailable: Literal["answer", "refuse"] = "answer"


class CorsSettings(Section):
    """The web pages of other origins whose scripts may call the HTTP API from a browser. `*`: all pages."""

    origins: Annotated[list[Origin], Field(min_length=1)]

    @model_validator(mode="after")
    def _all_or_some(self) -> "CorsSettings":
        if "*" in self.origins and len(self.origins) > 1:
            raise ValueError("origins: * stands for all origins, so it stands alone")
        return self


class ScopeSettings(Section):
    """The tags that targets must have to serve a tenant, or the holder of a key, by name."""

    tenants: dict[Title, list[Tag]] = Field(default_factory=dict)
    keys: dict[Title, list[Tag]] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tenants or self.keys)

    def of(self, tenant: str | None, key: str | None) -> frozenset[str]:
        """Return the tags for who has this tenant and a key of this name."""
        return frozenset((*self.tenants.get(tenant or "", ()), *self.keys.get(key or "", ())))


class PrioritySettings(Section):
    """The highest priority that who has a tenant, or the holder of a key, may have, by name; `others`: all others."""

    tenants: dict[Title, Priority] = Field(default_factory=dict)
    keys: dict[Title, Priority] = Field(default_factory=dict)
    others: Priority = "normal"

    def most(self, key: str | None, tenant: str | None) -> Priority:
        """Return the highest priority of who has this key and this tenant: what its key says counts first."""
        return self.keys.get(key or "") or self.tenants.get(tenant or "") or self.others


class EmbeddingRow(Section):
    """A row of embeddings: targets whose vectors have the same length."""

    dimensions: Annotated[int, NoSwitch, Field(ge=1, le=65_536)]
    targets: Annotated[dict[Name, ModelId], Field(min_length=1)]


class Modes(Section):
    """The providers of each mode, in order of preference. By default their kinds decide."""

    hybrid: list[Name] | None = None
    aws_only: list[Name] | None = None
    local_only: list[Name] | None = None
