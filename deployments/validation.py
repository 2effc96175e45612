"""What pydantic found wrong, in our words: nothing else knows its types of errors. Pure.

No sentence repeats a value, because a secret may stand in it by mistake.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from pydantic import ValidationError
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
_MOST = 64  # characters of a name that is compared
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
    return f"{reason}, not {kind_of(given)}" if kind.endswith("_type") else reason


def nearest(given: object, known: Iterable[str]) -> str | None:
    """Return the name that was most likely meant; None without a likely one."""
    near = difflib.get_close_matches(
        str(given)[:_MOST].lower(), [name for name in known if len(name) <= _MOST], 1, 0.75
    )
    return near[0] if near else None


def meant(given: object, known: Iterable[str]) -> str:
    """Return a guess at what was meant, to be put behind a sentence; empty without one."""
    near = nearest(given, known)
    return "" if near is None else f", did you mean {near}?"


def kind_of(value: object) -> str:
    """Return what a value is, in the words of JSON."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "that")


# A tag of a target, in a configuration, a keys file and a request.
TAG, NO_TAG = r"[a-z0-9][a-z0-9_.-]{0,63}", "is no tag, which has small letters, digits, _, . and -"

# A client's request.

_Path = tuple[str, ...]
_EXAMPLE = ', as [{"role": "user", "content": "Hi"}]'
# What clients of other APIs call a field.
_OTHERS: Mapping[str, tuple[str, ...]] = {"messages": ("prompt", "input"), "input": ("prompt", "text", "texts")}


def refusal_of(error: ValidationError, fields: Collection[str]) -> tuple[str, str | None, str]:
    """Return message, param and code of the first error, in OpenAI's words.

    `fields` are the names that a client can have written.
    """
    errors = [(_path_of(one, fields), one) for one in error.errors(include_url=False)]
    path, first = _innermost(errors)
    param = ".".join(path) or None
    if first["type"] == "missing":
        message = f"Missing required parameter: '{param}'{_instead(path[-1], first['input'])}."
        return message, param, "missing_required_parameter"
    if first["type"] == "too_short" and param == "messages":
        return "Invalid 'messages': empty array. At least one message is required.", param, "invalid_value"
    reasons = dict.fromkeys(reason_of(one) for found, one in errors if found == path)
    message = f"Invalid '{param}': {_joined(list(reasons))}{_EXAMPLE if param == 'messages' else ''}"
    return message if message.endswith("?") else f"{message}.", param, "invalid_value"


def _path_of(error: ErrorDetails, fields: Collection[str]) -> _Path:
    # pydantic's path has the branch of a union too ("str", "list[_Part]"), which no client wrote.
    return tuple(str(part) for part in error["loc"] if isinstance(part, int) or part in fields)


def _innermost(errors: list[tuple[_Path, ErrorDetails]]) -> tuple[_Path, ErrorDetails]:
    """Return the first error; of a list where a text may stand too, the first inside of the list, however deep."""
    found: tuple[_Path, ErrorDetails] | None = errors[0]
    while found is not None:
        path, first = found
        inside = ((p, e) for p, e in errors if p[: len(path)] == path and len(p) > len(path))
        found = next(inside, None) if isinstance(first["input"], list) else None
    return path, first


def _joined(reasons: list[str]) -> str:
    """Return reasons of which one must be met: `must be text, not 7` and `must be a list, not 7`."""
    if len(reasons) == 1 or not all(reason.startswith("must be ") for reason in reasons):
        return reasons[0]
    wanted = [reason.removeprefix("must be ").partition(", not ")[0] for reason in reasons]
    return f"must be {' or '.join(wanted)}{''.join(reasons[0].partition(', not ')[1:])}"


def _instead(name: str, given: object) -> str:
    """Return which of the given names may have been meant for this one."""
    names = [key for key in given if isinstance(key, str)] if isinstance(given, Mapping) else []
    found = next((other for other in _OTHERS.get(name, ()) if other in names), None) or nearest(name, names)
    return f" ('{found}' was given)" if found else ""
