"""The types of single values in serve_config.yaml, each with its own sentence for what it may not be. Pure."""

import datetime
import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from deployments.secrecy import is_key, objection_to_variable
from deployments.validation import NO_TAG, TAG, wrong

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|min|m|h)")
# What a client adds to a base URL by itself.
_ADDED = ("/chat/completions", "/completions", "/embeddings", "/responses", "/v1/messages")
_UNFILLED = "is not filled in from the environment: write the value itself, without $ and {}"


def read_seconds(value: object) -> object:
    """Return the seconds of a text as 2m; anything else as it is, to be checked."""
    if isinstance(value, bool):
        raise wrong("must be seconds, as 10, 10s, 500ms or 2m, not true or false")
    if not isinstance(value, str):
        return value
    if (found := _DURATION.fullmatch(value.strip().lower())) is not None:
        return float(found[1]) * _UNITS[found[2]]
    try:
        return float(value)
    except ValueError:
        raise wrong("must be seconds, as 10, 10s, 500ms or 2m") from None


def _check_variable(name: str) -> str:
    if (why := objection_to_variable(name)) is not None:
        raise wrong(why)
    return name


def _check_url(url: str) -> str:
    if (why := _objection_to_url(url)) is not None:
        raise wrong(why)
    return url


def _objection_to_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is checked when it is read
    except ValueError:
        return "is no URL: its host or its port can't be read"
    if "${" in url:
        return _UNFILLED
    if parts.scheme not in ("http", "https") or not url[len(parts.scheme) :].startswith("://"):
        return "needs http:// or https:// before the host"
    return _objection_to_parts(parts)


def _objection_to_parts(parts: SplitResult) -> str | None:
    if not parts.hostname or any(sign.isspace() for sign in parts.geturl()):
        return "has no host" if not parts.hostname else "has a blank"
    if parts.query or parts.fragment:
        return "ends with ?... or #..., which would not be sent"
    for end in _ADDED:
        if parts.path.rstrip("/").endswith(end):
            return f"must end before {end}, which is added to it"
    return None


def azure_endpoint(url: str) -> str | None:
    """Return the endpoint of an Azure resource as the portal shows it, without what is added to it; None if it is none.

    A gateway in front of it may have a path.
    """
    if _objection_to_url(url) is not None or "/deployments" in url:
        return None
    return re.sub(r"(?:/openai(?:/v1)?)?/*$", "", url)


def _check_azure_endpoint(url: str) -> str:
    if (found := azure_endpoint(url)) is None:
        raise wrong(_objection_to_url(url) or "must end before /openai/deployments, which is added to it")
    return found


def _check_azure_version(value: object) -> object:
    if isinstance(value, datetime.date):
        raise wrong('must be in quotes, as "2024-10-21": without them YAML reads a date')
    return value


def _check_model(model: str) -> str:
    if "${" in model:
        raise wrong(_UNFILLED)
    if any(sign.isspace() for sign in model):
        raise wrong("has a blank, which no model's id has")
    return model


def _check_no_key(name: str) -> str:
    if is_key(name):
        raise wrong("looks like a key, not a name")
    return name


def matches(pattern: str, reason: str) -> AfterValidator:
    """Return the check that a text has this form as a whole. `reason` goes behind its key in a sentence."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if form.fullmatch(text) is None:
            raise wrong(reason)
        return text

    return AfterValidator(check)


def check_whole(value: object) -> object:
    """Refuse true and false, which YAML writes as yes, no, on and off too: they would be 1 and 0."""
    if isinstance(value, bool):
        raise wrong("must be a number, not true or false")
    return value


def _check_concurrency(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= 100_000):
        return value
    raise wrong("must be a whole number of calls, 1 to 100000, or auto")


NoSwitch = BeforeValidator(check_whole)
Concurrency = Annotated[int | str, BeforeValidator(_check_concurrency)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), BeforeValidator(read_seconds)]
SecondsOrNone = Annotated[float, Field(ge=0, le=3600), BeforeValidator(read_seconds)]
Variable = Annotated[str, AfterValidator(_check_variable)]
Url = Annotated[str, AfterValidator(_check_url)]
Filled = Annotated[str, Field(min_length=1)]
Title = Annotated[Filled, AfterValidator(_check_no_key)]
ModelId = Annotated[Title, AfterValidator(_check_model)]
REGION, NO_REGION = r"[a-z]{2,}(-[a-z]+)+-[0-9]+", "is no region, as us-east-1"
Region = Annotated[str, matches(REGION, NO_REGION)]
ApiDate = Annotated[str, matches(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "is no version, as 2023-06-01")]
HeaderWord = Annotated[str, matches(r"[A-Za-z0-9_.-]{1,128}", "may have letters, digits, - _ and .")]
# IAM, identifiers: partition, account, path and name of a role.
Role = Annotated[str, matches(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+", "is no ARN of a role")]
AzureEndpoint = Annotated[str, AfterValidator(_check_azure_endpoint)]
AzureVersion = Annotated[
    str,
    matches(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?", 'is no version of Azure, as "2024-10-21"'),
    BeforeValidator(_check_azure_version),
]
Project = Annotated[str, matches(r"([a-z][a-z0-9.-]*:)?[a-z0-9][a-z0-9-]*", "is no project's id")]
Location = Annotated[
    str, matches(r"global|us|eu|[a-z]+-[a-z]+[0-9]+", "is no location, as us-central1, global, us or eu")
]
Version = Annotated[str, matches(r"v[0-9]+[a-z0-9]*", "is no version, as v1beta")]
Tag = Annotated[Title, matches(TAG, NO_TAG)]
# Of an application and of a deployment of Serve, which takes any text: "LLMServer:Qwen--Qwen3-8B".
ServeName = Annotated[Title, matches(r"\S+", "has a blank, which no name of Serve's has")]
Method = Annotated[str, matches(r"[A-Za-z][A-Za-z0-9_]*", "is no name of a method")]
Alias = Annotated[Title, Field(max_length=256)]
Name = Annotated[Title, matches(r"[A-Za-z0-9_.-]+", "is no name, which has letters, digits, _, . and - alone")]
# A word in metrics, headers and targets: `provider#place/model`.
PlaceName = Annotated[
    Title, Field(max_length=64), matches(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "may have small letters, digits and -")
]
Days = Annotated[
    str, matches(r"([2-9]|[1-9][0-9]{1,4})d|forever", "must be whole days, at least 2, as 90d, or forever")
]

# A name of this server as clients write it, without a port. `*`: every name.
Host = Annotated[
    str,
    Field(max_length=255),
    matches(r"\*|[A-Za-z0-9_.-]+", "must be a name alone, without a scheme and a port, or *"),
]

# Scheme, host and port, as a browser writes it: in lower case and without a path (RFC 6454).
Origin = Annotated[
    str,
    Field(max_length=255),
    matches(
        r"\*|[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?",
        "must be as https://chat.example, with its scheme, in lower case and without a path, or *",
    ),
]
