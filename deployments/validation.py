"""What pydantic found wrong, in our words: nothing else knows its types of errors. Pure.

No sentence repeats a value, because a secret may stand in it by mistake.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

from pydantic_core import ErrorDetails, PydanticCustomError

# What a value must be, by pydantic's types of errors. `{...}` is of the error's context.
_NUMBER, _WHOLE, _SWITCH = "must be a number", "must be a whole number", "must be true or false"
_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("float_parsing", "float_type", "decimal_parsing", "decimal_type"), _NUMBER),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("bool_parsing", "bool_type"), _SWITCH),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), "must be an object"),
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_long": "has more than {max_length} characters",
    "too_long": "has more than {max_length} entries",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} entries",
    "missing": "is missing",
}
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "an object"),
    (type(None), "null"),
)


def wrong(reason: str) -> PydanticCustomError:
    """Return the error of a value in our own words, for a validator to raise. It must not repeat the value."""
    return PydanticCustomError("wrong", "{reason}", {"reason": reason})


def reason_of(error: ErrorDetails) -> str:
    """Return what is wrong with the value, as the predicate of a sentence."""
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "wrong":
        return str(context["reason"])
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "is empty"
    reason = _REASONS.get(kind, error["msg"][:1].lower() + error["msg"][1:]).format_map(context)
    if kind == "literal_error":
        return reason + meant(given, re.findall(r"'([^']*)'", context["expected"]))
    return f"{reason}, not {_kind_of(given)}" if kind.endswith("_type") else reason


def meant(given: object, known: Iterable[str]) -> str:
    """Return a guess at what was meant, to be put behind a sentence; empty without one."""
    near = difflib.get_close_matches(str(given)[:64].lower(), [name[:64] for name in known], 1, 0.75)
    return f", did you mean {near[0]}?" if near else ""


def _kind_of(value: object) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "that")
