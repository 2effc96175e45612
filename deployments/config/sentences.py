"""The one sentence for what is wrong with the configuration. Pure.

A value is never repeated, and a key of the file only if it can't be a secret: people mix up places.
"""

from collections.abc import Mapping
from datetime import date

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deployments.providers.kinds import KINDS
from deployments.secrecy import shown
from deployments.validation import meant, reason_of


def sentence_of(error: ValidationError) -> str:
    """Return the first error as one sentence that begins with its key."""
    first = error.errors(include_url=False)[0]
    key = _key_of(first)
    match first["type"]:
        case "unknown_key":
            return _of_unknown_key(key, first["ctx"]["key"], first["ctx"]["known"])
        case "value_error":  # of what belongs together: its text begins with a key itself
            return f"{key}.{first['ctx']['error']}" if key else str(first["ctx"]["error"])
        case "missing":
            return f"{key}: required key is missing"
        case "union_tag_invalid" | "union_tag_not_found":
            return _of_kind(key, first["input"])
    return f"{key}: {'is empty' if first['input'] is None else reason_of(first) + _quotes(first)}"


def key_of(error: ValidationError) -> str:
    """Return the key that the first error is about, as its sentence names it."""
    first = error.errors(include_url=False)[0]
    return shown(first["ctx"]["key"]) if first["type"] == "unknown_key" else _key_of(first)


def _quotes(error: ErrorDetails) -> str:
    unquoted = error["type"] == "string_type" and isinstance(error["input"], int | float | date)
    return ": put it into quotes" if unquoted else ""


def _key_of(error: ErrorDetails) -> str:
    # A discriminated union puts its tag into the path, which the file does not have.
    path = [part for i, part in enumerate(error["loc"]) if not (i == 2 and error["loc"][0] == "providers")]
    return ".".join(shown(part) for part in path if part != "[key]")


def _of_unknown_key(section: str, key: object, known: list[str]) -> str:
    where = f"{section}.{shown(key)}" if section else shown(key)
    names = f" (known: {', '.join(known)})"
    return f"{where}: unknown key{meant(key, known) or names}"


def _of_kind(key: str, given: object) -> str:
    kind = given.get("kind") if isinstance(given, Mapping) else None
    known = [row.name for row in KINDS.values() if row.in_configuration == row.name]
    return f"{key}.kind: must be one of {', '.join(known)}{meant(kind, known)}"
