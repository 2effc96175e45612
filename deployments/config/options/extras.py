"""What may be added to each request of a provider, or of one target of a row. Secrets are named, never written."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, PlainValidator, TypeAdapter

from deployments.config.base.section import Section
from deployments.config.base.values import Filled, ModelId, Tag, Variable, matches
from deployments.secrecy import is_key, shown
from deployments.validation import wrong

# What a request is sent by, and who sends it. All else may be set.
OWNED_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
    | {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding"}
    | {"connection", "keep-alive", "te", "trailer", "upgrade", "expect", "accept"}
    | {"traceparent", "tracestate", "anthropic-version", "anthropic-beta", "anthropic-workspace-id"}
)
OWNED_HEADER_BEGINNINGS = ("x-amz-",)  # AWS's signature
OWNED_QUERY = frozenset({"api-version", "alt", "key"})

_IS_KEY = "looks like a key: put it into an environment variable, and {env: ITS_NAME} here"
_NAMES_SECRET = re.compile(r"key|token|secret|auth|passw|credential", re.IGNORECASE)


class FromEnv(Section):
    """A value that is in an environment variable."""

    env: Variable


def _read_word(value: object) -> object:
    """Return a number or a switch as it stands in a URL or a header."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _check_word(text: str) -> str:
    if is_key(text):
        raise wrong(_IS_KEY)
    if "${" in text:
        raise wrong("is not filled in from the environment: write {env: NAME}")
    if text != text.strip() or not (text.isascii() and text.isprintable()):
        raise wrong("has a blank or a line break at an end, or a sign that no header can have")
    return text


def _of_word_or_variable(value: object) -> "str | FromEnv":
    is_named = isinstance(value, Mapping | FromEnv)
    return _VARIABLE.validate_python(value) if is_named else _WORD.validate_python(value)


_WORD: TypeAdapter[str] = TypeAdapter(Annotated[Filled, AfterValidator(_check_word), BeforeValidator(_read_word)])
_VARIABLE: TypeAdapter[FromEnv] = TypeAdapter(FromEnv)
Word = Annotated[Any, PlainValidator(_of_word_or_variable)]  # a union would be serialized twice
HeaderName = Annotated[str, matches(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "is no name of a header")]  # RFC 9110, 5.6.2


def _check_json(value: JsonValue) -> JsonValue:
    for text in _texts(value):
        if is_key(text):
            raise wrong("has what looks like a key, and no secret stands in a configuration")
    return value


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


class ExtraOptions(Section):
    """What is added to each request, and the tags by which requests keep to some targets.

    `extra_body` goes deep: an object in it goes into the object that is there.
    """

    extra_body: Annotated[dict[str, JsonValue], AfterValidator(_check_json)] = Field(default_factory=dict)
    extra_headers: dict[HeaderName, Word] = Field(default_factory=dict)
    extra_query: dict[Filled, Word] = Field(default_factory=dict)
    tags: list[Tag] = Field(default_factory=list)

    @property
    def adds_nothing(self) -> bool:
        return not (self.extra_body or self.extra_headers or self.extra_query)

    def headers(self) -> dict[str, str]:
        """Return the headers, by their names in lower case, with the values of variables in them."""
        return {name.lower(): _value(word) for name, word in self.extra_headers.items()}

    def query(self) -> dict[str, str]:
        """Return the query, with the values of variables in it."""
        return {name: _value(word) for name, word in self.extra_query.items()}

    def variables(self) -> Iterator[tuple[str, str]]:
        """Yield the key of each value that is in an environment variable, and the variable."""
        for key, words in (("extra_headers", self.extra_headers), ("extra_query", self.extra_query)):
            yield from ((f"{key}.{shown(name)}", w.env) for name, w in words.items() if isinstance(w, FromEnv))

    def objection_to_extras(self, kind: str, owned: frozenset[str] | None) -> str | None:
        """Return the first thing that may not be added to a provider's requests, behind its key; None if all may.

        `owned` are the fields that are ours in requests of its kind, by their paths; None if it has no requests.
        """
        if self.adds_nothing:
            return None
        if owned is None:
            key = "extra_body" if self.extra_body else "extra_headers" if self.extra_headers else "extra_query"
            return f"{key}: a provider of kind {kind} is sent no requests over the network, so nothing can be added"
        for path in _paths(self.extra_body):
            if path in owned:
                return f"extra_body.{path}: is Breakwater's own, and can't be set here"
        lowered = [name.lower() for name in self.extra_headers]
        for name, word in self.extra_headers.items():
            if name.lower() in OWNED_HEADERS or name.lower().startswith(OWNED_HEADER_BEGINNINGS):
                return f"extra_headers.{shown(name)}: is Breakwater's own, and can't be set here"
            if lowered.count(name.lower()) > 1:
                return f"extra_headers.{shown(name)}: is there twice, in upper and in lower case"
            if why := _objection_to_secret(name, word):
                return f"extra_headers.{shown(name)}: {why}"
        for name, word in self.extra_query.items():
            if name.lower() in OWNED_QUERY or name.lower().startswith(OWNED_HEADER_BEGINNINGS):
                return f"extra_query.{shown(name)}: is Breakwater's own, and can't be set here"
            if why := _objection_to_secret(name, word):
                return f"extra_query.{shown(name)}: {why}"
        return None


def _objection_to_secret(name: str, word: str | FromEnv) -> str | None:
    if isinstance(word, FromEnv) or _NAMES_SECRET.search(name) is None:
        return None
    return "may be a secret by its name: put it into an environment variable, and {env: ITS_NAME} here"


def _paths(body: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield the paths of the fields of a body, down to the second level, where those that are ours end."""
    for name, value in body.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)


def _value(word: str | FromEnv) -> str:
    return os.environ.get(word.env, "") if isinstance(word, FromEnv) else word


class TargetSettings(ExtraOptions):
    """A target of a row that has more than its model's id."""

    model: ModelId


def _read_target(value: object) -> str | TargetSettings:
    more = isinstance(value, Mapping | TargetSettings)
    return _SETTINGS.validate_python(value) if more else _MODEL.validate_python(value)


_MODEL: TypeAdapter[str] = TypeAdapter(ModelId)
_SETTINGS: TypeAdapter[TargetSettings] = TypeAdapter(TargetSettings)
RowTarget = Annotated[Any, PlainValidator(_read_target)]  # as Word


def model_id(target: str | TargetSettings) -> str:
    return target if isinstance(target, str) else target.model
