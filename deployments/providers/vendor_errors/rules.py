"""The errors of vendors: how their bodies are read, and the tables by which they get an outcome kind. Pure.

A vendor's own type, status and code come first. Many vendors have no code for what matters most, whether the request,
this model or our account there is at fault; then only the text tells. Each kind of provider keeps its rules in a table
of its own, and each rule names its source. What no rule knows is `rejected`: the next tier may take it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployments.openai_api.json_types import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class VendorError:
    """What a vendor's error says.

    `status` is that of HTTP, `code` and `type` are the vendor's own words, `param` is a path in the request.
    """

    status: int
    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """An error for which status, code and text are these; empty conditions hold for each. `text` is searched."""

    kind: str
    source: str
    text: re.Pattern[str] | None = None
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()

    def holds(self, error: VendorError, asked: JsonValue) -> bool:
        """Return whether it is this error, of the request `asked`.

        An error may quote the request. What moves a circuit must not rest on words that a client chose: they could
        close a vendor to everybody.
        """
        if self.statuses and error.status not in self.statuses:
            return False
        if self.codes and error.code not in self.codes and error.type not in self.codes:
            return False
        if self.text is None:
            return True
        found = self.text.search(error.message)
        return found is not None and not (self.kind in _MOVES_CIRCUITS and _says(asked, found.group()))


_MOVES_CIRCUITS = frozenset({"credential", "quota", "model_missing", "throttled", "overloaded", "server_error"})
_SPACES = re.compile(r"(?:\s|\\+[nrt])+")


def _says(asked: JsonValue, words: str) -> bool:
    """Return whether the request has these words anywhere. Nobody can tell whose they are where it is not known."""
    return asked is None or _spaced(words) in _spaced(json.dumps(asked, ensure_ascii=False, default=str))


def _spaced(text: str) -> str:
    return _SPACES.sub(" ", text.casefold())


def rule(kind: str, source: str, *texts: str, statuses: Iterable[int] = (), codes: str = "") -> Rule:
    """Return a rule. `texts` are patterns without regard to case, of which one is enough; `codes` are words."""
    pattern = re.compile("|".join(texts), re.IGNORECASE) if texts else None
    return Rule(kind, source, pattern, frozenset(statuses), frozenset(codes.split()))


def kind_of(error: VendorError, rules: Sequence[Rule], asked: JsonValue = None) -> str:
    """Return the outcome kind of an HTTP error: by the first rule that holds, else by its status.

    `asked` is the request that the vendor answers; None where it is not known.
    """
    held = next((known.kind for known in rules if known.holds(error, asked)), None)
    kind = held or _KIND_OF_STATUS.get(error.status) or ("server_error" if error.status >= 500 else "rejected")
    return "throttled" if kind == "overloaded" and error.retry_after is not None else kind


_KIND_OF_STATUS = {
    401: "credential",
    402: "quota",
    403: "credential",
    404: "model_missing",
    408: "server_error",
    409: "conflict",
    424: "server_error",
    429: "throttled",
    503: "overloaded",
    529: "overloaded",
}


def param_by_word(message: str, params: Mapping[str, str]) -> str | None:
    """Return OpenAI's name of the first field whose word in a vendor's API, the key of `params`, is in the text."""
    return next((param for word, param in params.items() if word in message), None)


# Bodies. Each server that speaks OpenAI's API writes its errors in its own way.


def read_error(body: JsonValue, status: int) -> VendorError:
    """Return what an error's body says, whatever its shape: an empty message if it says nothing that we can read."""
    if isinstance(body, list):
        body = body[0] if body else None  # Gemini's OpenAI-compatible API
    if isinstance(body, str):
        return VendorError(status, body)
    outer = body if isinstance(body, Mapping) else {}
    inner = outer.get("error")
    if isinstance(inner, str):  # xAI, Ollama, LM Studio
        outer, inner = {**outer, "message": inner}, None
    told: JsonObject = inner if isinstance(inner, Mapping) else outer
    message, param = _message_of(told)
    raw = (told.get("metadata") or {}).get("raw") if isinstance(told.get("metadata"), Mapping) else None
    if isinstance(raw, str) and raw not in message:
        message = f"{message}: {raw}"  # OpenRouter: what the vendor behind it said
    return VendorError(
        status,
        message,
        _word(told.get("code")) or _word(told.get("status")),
        _word(told.get("type")),
        _word(told.get("param")) or param or param_in(message),
        retry_delay(told.get("details")),
    )


def _message_of(told: JsonObject) -> tuple[str, str | None]:
    """Return the text, and the path of the field that a validator names."""
    message = told.get("message")
    if isinstance(message, str) and message:
        return message, None
    detail = message if message else told.get("detail") or told.get("errors")
    if isinstance(detail, Mapping):
        detail = detail.get("detail") or [detail]
    if isinstance(detail, str):
        return detail, None
    faults = [fault for fault in detail or () if isinstance(fault, Mapping)] if isinstance(detail, list) else []
    texts = [f"{_path(f.get('loc'))}: {f.get('msg') or f.get('message') or f.get('type')}".strip(": ") for f in faults]
    return "; ".join(texts), next((path for f in faults if (path := _path(f.get("loc")))), None)


def _path(where: JsonValue) -> str:
    """Return a validator's path without the word for the body as a whole."""
    parts = [str(part) for part in where if part != "body"] if isinstance(where, list | tuple) else []
    return ".".join(parts)


def _word(value: JsonValue) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and str(value) else None


_NAMED = re.compile(
    r"(?:unsupported (?:parameter|value)s?|unrecognized request arguments? supplied"
    r"|unknown (?:parameter|field|name|argument)|unexpected (?:keyword )?argument"
    r"|property|argument|parameter|field|loc)\s?[:`'\"\[(]\W{0,4}(?:body\W{1,4})?"
    r"([a-z][a-z_]*(?:[.\[]\d+\]?(?:\.[a-z_]+)*)?)(?=[`'\"\s,:)\]]|$)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[`'\"]([a-z]+(?:_[a-z]+)+)[`'\"]")


def param_in(message: str) -> str | None:
    """Return the field that an error's text names; None if it names none that we can tell."""
    if found := _NAMED.search(message):
        return found.group(1)
    found = _QUOTED.search(message)
    return found.group(1) if found else None


def retry_delay(details: JsonValue) -> float | None:
    """Return the seconds of Google's RetryInfo among an error's details."""
    found = None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            found = _seconds(detail.get("retryDelay")) or found
    return found


def _seconds(text: JsonValue) -> float | None:
    """Return the seconds of a protobuf duration, as "36s"."""
    try:
        return float(str(text).removesuffix("s")) if text else None
    except ValueError:
        return None
