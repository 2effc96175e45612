"""The parts of serve_config.yaml under `args`, each checked by itself. Secrets are named, never written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from actors.breaker.circuit import Policy
from deployments.config.known_windows import known_window
from deployments.openai_api.embeddings import BUNDLED, MOST_LOCAL_TOKENS
from deployments.providers.time_limits import TimeLimits

Mode = Literal["hybrid", "aws_only", "local_only"]
Models = Mapping[str, Mapping[str, str]]  # a row's name to its providers, each with its own id of the model
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
LEAST_LEASE = 30.0  # a probe that streams renews its lease every ten seconds


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of the images that are fetched for providers."""

    max_bytes: int = 20 * 1024 * 1024  # of one image
    seconds: float = 5.0  # for fetching one image
    hosts: frozenset[str] = (
        frozenset()
    )  # may have private addresses: an image store of one's own; `name` or `name:port`


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeoutOverrides(Strict):
    """Seconds. A value that is not set comes from the application's `timeouts`."""

    timeout_seconds: Seconds | None = None
    connect: Seconds | None = None
    first_token: Seconds | None = None
    idle: Seconds | None = None


class Timeouts(Strict):
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


class BreakerSettings(Strict):
    failure_threshold: Annotated[int, Field(ge=1, le=50)] = 3
    recovery_timeout: Seconds = 60

    def policy(self, longest: float) -> Policy:
        """Return the breaker's policy. `longest` is the longest that a probe may take, in seconds."""
        return Policy(self.failure_threshold, self.recovery_timeout, lease=max(longest + 5, LEAST_LEASE))


def _as_whole(value: object) -> object:
    """Return 35.0 as 35: to a JSON schema it is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_as_whole)]


class Overrides(Strict):
    """Thresholds that an operator may set while running. Null restores the configuration's."""

    model_config = ConfigDict(strict=True)  # a JSON body says `true` and "1" where it means them, unlike YAML
    failure_threshold: Annotated[Whole, Field(ge=1, le=50)] | None = None
    recovery_timeout: Seconds | None = None
    recovery_cap: Seconds | None = None
    window_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    window_calls: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    slow_start: Annotated[float, Field(ge=0, le=3600)] | None = None
    throttle_max: Seconds | None = None


class _Provider(Strict):
    timeouts: TimeoutOverrides = TimeoutOverrides()

    def embedding_model(self, model: str) -> str:
        """Return the name by which the lengths of the model's vectors are known."""
        return model

    def embedding_window(self, model: str) -> int | None:
        """Return how many tokens a text to embed may have, if that is known."""
        return None


class Cloud(_Provider):
    context_windows: dict[Annotated[str, Field(min_length=1)], Annotated[int, Field(ge=1)]] = {}

    def window(self, model: str) -> int | None:
        """Return the context window of the provider's model in tokens, None if it is not known."""
        return self.context_windows.get(model) or known_window(model)


class Bedrock(Cloud):
    kind: Literal["bedrock"]
    region_env: str = "AWS_REGION"
    region: str | None = None
    endpoint_url: str | None = None

    def resolved_region(self) -> str | None:
        return self.region or os.environ.get(self.region_env)

    def missing(self) -> str | None:
        if not self.resolved_region():
            return f"{self.region_env} is not set"
        import botocore.session

        # boto3's own chain: environment, profile, container, instance role.
        if botocore.session.get_session().get_credentials() is None:
            return "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
        return None


class OpenAI(Cloud):
    kind: Literal["openai"]
    api_key_env: str | None = None
    base_url: str | None = None
    traceparent: bool = False  # send our trace headers: for a server of one's own that traces too

    def key_env(self) -> str | None:
        """Return the variable of the key. A server at `base_url` needs one only if `api_key_env` names it."""
        return self.api_key_env or (None if self.base_url else "OPENAI_API_KEY")

    def missing(self) -> str | None:
        return explain_unset(self.key_env())


class Google(Cloud):
    kind: Literal["google"]
    api_key_env: str = "GOOGLE_API_KEY"
    base_url: str | None = None
    api_version: str | None = None

    def missing(self) -> str | None:
        return explain_unset(self.api_key_env)


class Local(_Provider):
    kind: Literal["local"]
    model_path: str | None = None
    slots: Annotated[int, Field(ge=1, le=64)] = 2
    context: Annotated[int, Field(ge=256)] = 2048
    threads: Annotated[int, Field(ge=1, le=256)] = 1

    def window(self, model: str) -> int | None:
        return self.context

    def embedding_model(self, model: str) -> str:
        return BUNDLED if self.model_path is None else model

    def embedding_window(self, model: str) -> int | None:
        return min(self.context, MOST_LOCAL_TOKENS)

    def missing(self) -> str | None:
        if self.model_path and not os.path.isfile(self.model_path):
            return f"model_path {self.model_path} does not exist"
        return None


ProviderSettings = Annotated[Bedrock | OpenAI | Google | Local, Field(discriminator="kind")]


def explain_unset(variable: str | None) -> str | None:
    """Return the sentence that an environment variable is not set, None if it is or none is named."""
    return f"{variable} is not set" if variable and not os.environ.get(variable) else None


class Auth(Strict):
    """Where keys are. Those of `api_keys_env` are `key`, `key:tenant` or `key:tenant:name`, separated by commas."""

    api_keys_env: str | None = None
    admin_key_env: str | None = None
    keys_file: Annotated[str, Field(min_length=1)] | None = None
    unguarded: bool = False  # set by `auth: none`: every caller that reaches the server passes

    @property
    def needs_keys(self) -> bool:
        """Return whether every caller must have a key."""
        return self.api_keys_env is not None or self.keys_file is not None


class ImageSettings(Strict):
    """Images that a message names by URL. They are fetched for providers that take only bytes."""

    max_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024)] = 20 * 1024 * 1024
    seconds: Seconds = 5
    # May have private addresses: an image store of one's own. A port other than 80 and 443 is named: `store:9000`.
    hosts: list[str] = []

    def limits(self) -> ImageLimits:
        return ImageLimits(self.max_bytes, self.seconds, frozenset(host.lower() for host in self.hosts))


# A name of this server as clients write it, without a port. `*`: every name.
Host = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9_.-]+)$", max_length=255)]

# Scheme, host and port, as a browser writes it: in lower case and without a path (RFC 6454).
Origin = Annotated[
    str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?)$", max_length=255)
]


class CorsSettings(Strict):
    """The web pages of other origins whose scripts may call the HTTP API from a browser. `*`: all pages."""

    origins: Annotated[list[Origin], Field(min_length=1)]

    @model_validator(mode="after")
    def _all_or_some(self) -> "CorsSettings":
        if "*" in self.origins and len(self.origins) > 1:
            raise ValueError("cors.origins: * stands for all origins, so it stands alone")
        return self


class EmbeddingRow(Strict):
    """A row of embeddings: targets whose vectors have the same length."""

    dimensions: Annotated[int, Field(ge=1, le=65_536)]
    targets: dict[Name, Annotated[str, Field(min_length=1)]]


class Modes(Strict):
    """The providers of each mode, in order of preference. By default their kinds decide."""

    hybrid: list[Name] | None = None
    aws_only: list[Name] | None = None
    local_only: list[Name] | None = None
