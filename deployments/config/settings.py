"""The parts of serve_config.yaml under `args`, each checked by itself. Secrets are named, never written."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.breaker.circuit import Policy
from deployments.config.known_windows import known_window
from deployments.config.values import (
    NO_REGION,
    REGION,
    ApiDate,
    Filled,
    HeaderWord,
    ModelId,
    Name,
    NoSwitch,
    Origin,
    Region,
    Seconds,
    SecondsOrNone,
    Title,
    Url,
    Variable,
    Version,
)
from deployments.openai_api.embeddings import BUNDLED, MOST_LOCAL_TOKENS
from deployments.providers.time_limits import TimeLimits
from deployments.secrecy import unset

Mode = Literal["hybrid", "aws_only", "local_only"]
Models = Mapping[str, Mapping[str, str]]  # a row's name to its providers, each with its own id of the model
LEAST_LEASE = 30.0  # a probe that streams renews its lease every ten seconds
BUNDLED_MODEL = "smollm2-135m"  # the one name of the weights that come with Breakwater


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of the images that are fetched for providers."""

    max_bytes: int = 20 * 1024 * 1024  # of one image
    seconds: float = 5.0  # for fetching one image
    hosts: frozenset[str] = (
        frozenset()
    )  # may have private addresses: an image store of one's own; `name` or `name:port`


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Section(Strict):
    """A part of the file."""

    @model_validator(mode="before")
    @classmethod
    def _know_keys(cls, given: object) -> object:
        """Refuse a key that is not known, first of all and with the names that are: pydantic would name none."""
        for key in given if isinstance(given, Mapping) else ():
            if key not in cls.model_fields:
                raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "known": list(cls.model_fields)})
        return given


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


class _Provider(Section):
    has_one_model: ClassVar[bool] = False  # whatever a row calls it
    timeouts: TimeoutOverrides = TimeoutOverrides()

    def objection(self, model: str) -> str | None:
        """Return why the model must not have this name, by which answers, the ledger and metrics call it."""
        return None

    def embedding_model(self, model: str) -> str:
        """Return the name by which the lengths of the model's vectors are known."""
        return model

    def embedding_window(self, model: str) -> int | None:
        """Return how many tokens a text to embed may have, if that is known."""
        return None


class Cloud(_Provider):
    context_windows: dict[Title, Annotated[int, NoSwitch, Field(ge=1)]] = {}

    def window(self, model: str) -> int | None:
        """Return the context window of the provider's model in tokens, None if it is not known."""
        return self.context_windows.get(model) or known_window(model)


class Bedrock(Cloud):
    kind: Literal["bedrock"]
    region_env: Variable = "AWS_REGION"
    region: Region | None = None
    endpoint_url: Url | None = None

    def resolved_region(self) -> str | None:
        return self.region or os.environ.get(self.region_env)

    def missing(self) -> str | None:
        if not (region := self.resolved_region()):
            return unset(self.region_env, "region_env")
        if re.fullmatch(REGION, region) is None:
            return f"the value of {self.region_env} {NO_REGION}"
        return _missing_aws_credentials()


def _missing_aws_credentials() -> str | None:
    import botocore.exceptions
    import botocore.session

    ways = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
    try:
        # boto3's own chain: environment, profile, container, instance role.
        found = botocore.session.get_session().get_credentials()
    except botocore.exceptions.ProfileNotFound:
        return "AWS_PROFILE names a profile that is not there"
    except botocore.exceptions.PartialCredentialsError:
        return f"only a part of the AWS credentials is there: {ways}"
    except botocore.exceptions.BotoCoreError as error:  # its text may hold what stands in a file of credentials
        return f"the AWS credentials can't be read ({type(error).__name__}): {ways}"
    return f"no AWS credentials: {ways}" if found is None else None


class OpenAI(Cloud):
    kind: Literal["openai"]
    api_key_env: Variable | None = None
    base_url: Url | None = None
    api: Literal["chat", "responses"] = "chat"
    traceparent: bool = False  # send our trace headers: for a server of one's own that traces too

    def key_env(self) -> str | None:
        """Return the variable of the key. A server at `base_url` needs one only if `api_key_env` names it."""
        return self.api_key_env or (None if self.base_url else "OPENAI_API_KEY")

    def missing(self) -> str | None:
        return explain_key(self.key_env())


class Google(Cloud):
    kind: Literal["google"]
    api_key_env: Variable = "GOOGLE_API_KEY"
    base_url: Url | None = None
    api_version: Version | None = None

    def missing(self) -> str | None:
        return explain_key(self.api_key_env)


class Anthropic(Cloud):
    kind: Literal["anthropic"]
    api_key_env: Variable = "ANTHROPIC_API_KEY"
    auth: Literal["x-api-key", "bearer"] = "x-api-key"
    base_url: Url | None = None
    anthropic_version: ApiDate = "2023-06-01"
    betas: list[HeaderWord] = []
    workspace_id: HeaderWord | None = None

    def missing(self) -> str | None:
        return explain_key(self.api_key_env)


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


ProviderSettings = Annotated[Bedrock | OpenAI | Google | Anthropic | Local, Field(discriminator="kind")]


def row_of(settings: ProviderSettings) -> str:
    """Return the name of the provider's row in `providers/kinds.py`: its kind, or a variant of that."""
    by_responses = isinstance(settings, OpenAI) and settings.api == "responses"
    return "openai_responses" if by_responses else settings.kind


def explain_unset(variable: str | None, key: str = "api_key_env") -> str | None:
    """Return the sentence that an environment variable is not set, None if it is or `key` names none."""
    return unset(variable, key) if variable and not os.environ.get(variable, "").strip() else None


def explain_key(variable: str | None) -> str | None:
    """Return why the key in a variable can't be sent, without repeating it; None if it can, or none is named."""
    if variable is None or (why := explain_unset(variable)) is not None:
        return why if variable else None
    if (key := os.environ[variable])[:1] in "\"'":
        return f"the key in {variable} is in quotes, which would be sent"
    if key != key.strip() or not (key.isascii() and key.isprintable()):
        return f"the key in {variable} has a blank or a line break at an end, or a sign that no header can have"
    return None


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
    hosts: list[str] = []

    def limits(self) -> ImageLimits:
        return ImageLimits(self.max_bytes, self.seconds, frozenset(host.lower() for host in self.hosts))


class CorsSettings(Section):
    """The web pages of other origins whose scripts may call the HTTP API from a browser. `*`: all pages."""

    origins: Annotated[list[Origin], Field(min_length=1)]

    @model_validator(mode="after")
    def _all_or_some(self) -> "CorsSettings":
        if "*" in self.origins and len(self.origins) > 1:
            raise ValueError("origins: * stands for all origins, so it stands alone")
        return self


class EmbeddingRow(Section):
    """A row of embeddings: targets whose vectors have the same length."""

    dimensions: Annotated[int, NoSwitch, Field(ge=1, le=65_536)]
    targets: Annotated[dict[Name, ModelId], Field(min_length=1)]


class Modes(Section):
    """The providers of each mode, in order of preference. By default their kinds decide."""

    hybrid: list[Name] | None = None
    aws_only: list[Name] | None = None
    local_only: list[Name] | None = None
