"""The bodies of vendors' errors, as a VendorError. Pure.

Each server that speaks OpenAI's API writes them in its own way.

What is kept of a text is bounded: a server may repeat a request of many megabytes, or answer with a page.
"""

import re
from collections.abc import Mapping

from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.vendor_errors.rules import VendorError

MOST_TEXT = 4096  # characters that are kept and searched
_MOST_FAULTS = 16  # of a validator's list


def read_error(body: JsonValue, status: int) -> VendorError:
    """Return what an error's body says, whatever its shape: an empty message if it says nothing that we can read."""
    if isinstance(body, list):
        body = body[0] if body else None  # Gemini's OpenAI-compatible API
    if isinstance(body, str):
        return VendorError(status, plain(body))
    outer = body if isinstance(body, Mapping) else {}
    inner = outer.get("error")
    if isinstance(inner, str):  # xAI, Ollama, LM Studio
        outer, inner = {**outer, "message": inner}, None
    told: JsonObject = inner if isinstance(inner, Mapping) else outer
    message, param = _message_of(told)
    raw = (told.get("metadata") or {}).get("raw") if isinstance(told.get("metadata"), Mapping) else None
    if isinstance(raw, str) and raw not in message:
        message = f"{message[: MOST_TEXT // 2]}: {raw}"  # OpenRouter: what the vendor behind it said
    message = plain(message)
    return VendorError(
        status,
        message,
        _inner_code(told) or _word(told.get("code")) or _word(told.get("status")),
        _word(told.get("type")),
        _word(told.get("param")) or param or param_in(message),
        retry_delay(told.get("details")),
    )


def _inner_code(told: JsonObject) -> str | None:
    """Return Azure's inner code of its content filter: the code outside may only say that the request is bad."""
    inner = told.get("innererror") or told.get("inner_error")
    code = inner.get("code") if isinstance(inner, Mapping) else None
    return "content_filter" if code == "ResponsibleAIPolicyViolation" else None


def _message_of(told: JsonObject) -> tuple[str, str | None]:
    """Return the text, and the path of the field that a validator names."""
    message = told.get("message")
    if isinstance(message, str) and message:
        return message[:MOST_TEXT], None
    detail = message if message else told.get("detail") or told.get("errors")
    if isinstance(detail, Mapping):
        detail = detail.get("detail") or detail.get("error") or [detail]
    if isinstance(detail, str):
        return detail[:MOST_TEXT], None
    listed = detail[:_MOST_FAULTS] if isinstance(detail, list) else ()
    faults = [fault for fault in listed if isinstance(fault, Mapping)]
    texts = [f"{_path(f.get('loc'))}: {_text_of(f)}".strip(": ") for f in faults]
    texts += [fault[:MOST_TEXT] for fault in listed if isinstance(fault, str)]
    return "; ".join(texts), next((path for f in faults if (path := _path(f.get("loc")))), None)


def _text_of(fault: Mapping[str, JsonValue]) -> str:
    found = next((t for name in ("msg", "message", "type") if isinstance(t := fault.get(name), str)), "")
    return found[:MOST_TEXT]


def _path(where: JsonValue) -> str:
    """Return a validator's path without the word for the body as a whole."""
    parts = [str(part)[:64] for part in where[:16] if part != "body"] if isinstance(where, list | tuple) else []
    return ".".join(parts)


def _word(value: JsonValue) -> str | None:
    return str(value)[:256] if isinstance(value, str | int) and not isinstance(value, bool) and str(value) else None


# A page: of a CDN, a firewall or a proxy, which is no answer of the vendor's API.
PAGE = "an HTML page"
_IS_PAGE = re.compile(r"\s*(?:<\?xml[^>]*>\s*|<!--[^>]{0,200}-->\s*)*<(?:!doctype html|html|head|title|body)\b", re.I)
_TITLE = re.compile(r"<title[^>]*>\s*([^<]{1,200}?)\s*</title", re.IGNORECASE)


def plain(text: str) -> str:
    """Return a text that is short enough to be kept and searched. Of a page only the title is kept."""
    text = text[:MOST_TEXT]
    if _IS_PAGE.match(text) is None:
        return text
    title = _TITLE.search(text)
    return f"{PAGE}: {title.group(1)}" if title else PAGE


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


def param_by_word(message: str, params: Mapping[str, str]) -> str | None:
    """Return OpenAI's name of the first field whose word in a vendor's API, the key of `params`, is in the text."""
    return next((param for word, param in params.items() if word in message), None)


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
