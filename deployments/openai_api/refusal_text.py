"""What the text of a refusal says of a request's fields, without the words that are the client's own. Pure.

An error may quote the request: a text, the name of a schema, a property. It may list what would be allowed. Neither
says that the server refuses a field of that name. It runs after a refusal alone, never on the healthy path.
"""

import re
from collections.abc import Iterator

from deployments.openai_api.json_types import JsonValue

LONGEST_TEXT = 4096  # of a refusal that is searched
_MOST_WORDS = 20_000  # of a request that are compared with a refusal's

_QUOTED = re.compile(r"(?<!\w)([\"'`])(.*?)\1(?!\w)", re.DOTALL)
_OPENING = re.compile(r"(?<!\w)[\"'`](?=\w)")
_NAME = re.compile(r"[\w.\[\]-]{1,64}")
_INNER = r"(?:messages|tools|tool_choice|response_format|functions|contents)"
# A place inside the request, as OpenAI, pydantic and others write it: its last word is no field of the request.
_PLACE = re.compile(
    rf"context=\([^)]*\)|\(\s*['\"]body['\"],\s*['\"]{_INNER}['\"][^)]*\)|(?<![\w.]){_INNER}[.\[]\S*", re.IGNORECASE
)
_ALLOWED = re.compile(
    r"(?<!not )(?<!un)\b(?:supported|allowed|valid|available|permitted|accepted|known) "
    r"(?:parameter|field|argument|value|option|key|propert|input)\w*(?: are| is)?:?|"
    r"\b(?:expected|must be|should be) (?:one of|any of|either|'|`|\")|\bdid you mean\b",
    re.IGNORECASE,
)
_OF_VALUE = re.compile(
    r"\bvalues?\b|\bvariant\b|expected|must (?:be(?! satisfied)|have)|should be|"
    r"\btoo (?:long|large|small|short|many|high|low)\b|"
    r"invalid type|\bgot\b|minimum|maximum|at (?:most|least)|\brange\b|between|greater|less than|only \S+ is allowed|"
    r"does(?: not|n't) support [\d'\"`]",
    re.IGNORECASE,
)
_OF_FIELD = re.compile(
    r"unsupported|not (?:be )?(?:supported|permitted|allowed|enabled|available|recognized)|unknown|unrecogni[sz]ed|"
    r"unexpected|extra (?:input|field)|extra_forbidden|additional propert|does not exist|no such|"
    r"(?:can't|cannot|can not) (?:use|be used|both)|does(?: not|n't) support|isn't supported|deprecated|"
    r"not both|cannot both",
    re.IGNORECASE,
)
_FIELD_CODES = frozenset({"unsupported_parameter", "unknown_parameter", "extra_forbidden", "unknown_field"})
_VALUE_CODES = re.compile(r"(?:un|in)?(?:supported|valid)_(?:value|type)|(?:array|string|integer|decimal|object)_")


def own_words(message: str, asked: JsonValue) -> str:
    """Return a server's own words of a refusal.

    Gone are what the client sent, where it is quoted, the places inside the request, and lists of what is allowed.
    """
    text = _PLACE.sub(" ", message[:LONGEST_TEXT])
    allowed = _ALLOWED.search(text)
    text = text[: allowed.start()] if allowed is not None else text
    sent = frozenset[str]() if asked is None else frozenset(_sent(asked))
    text = _QUOTED.sub(lambda found: found.group() if _is_name(found[2], sent) else " ", text)
    # A quote that is cut off, or holds quotes of the client's own, has no end that can be found.
    unpaired = _OPENING.search(_QUOTED.sub(lambda found: "x" * len(found.group()), text))
    return text if unpaired is None else text[: unpaired.start()]


def _is_name(quoted: str, sent: frozenset[str]) -> bool:
    return _NAME.fullmatch(quoted) is not None and quoted not in sent


def refuses_field(message: str, code: str | None, kind: str | None = None, asked: JsonValue = None) -> bool:
    """Return whether it refuses a field whatever its value. `code` and `kind` are the error's own.

    `asked` is the request: a value that says "unsupported" says nothing of its field.
    """
    words = {code, kind}
    if not words.isdisjoint(_FIELD_CODES):
        return True
    if any(word and _VALUE_CODES.match(word) for word in words):
        return False
    text = message[:LONGEST_TEXT]
    if _OF_FIELD.search(text) is None or _OF_VALUE.search(text) is not None:
        return False
    for said in {said for said in _sent(asked, len(text)) if said in text and _OF_FIELD.search(said)}:
        text = text.replace(said, " ")
    return _OF_FIELD.search(text) is not None


def values_allowed(message: str) -> tuple[str, ...]:
    """Return the words that a refusal lists as the values that it would take."""
    text = message[:LONGEST_TEXT]
    found = _ALLOWED.search(text)
    return tuple(re.findall(r"[a-z][a-z_]*", text[found.start() :])) if found is not None else ()


# Whose values are OpenAI's words, and whose keys are the client's.
_CLOSED = frozenset({"role", "type"})
_OPEN = frozenset({"parameters", "schema", "properties", "$defs", "metadata", "logit_bias"})


def _sent(asked: JsonValue, longest: int = 64) -> Iterator[str]:
    """Yield the short texts that a client chose: its texts and names, and the keys of its schemas."""
    waiting: list[tuple[JsonValue, bool]] = [(asked, False)]
    for _ in range(_MOST_WORDS):
        if not waiting:
            return
        value, is_open = waiting.pop()
        if isinstance(value, str) and len(value) <= longest:
            yield value
        elif isinstance(value, list):
            waiting += [(inner, is_open) for inner in value]
        elif isinstance(value, dict):
            if is_open:
                yield from value
            waiting += [(v, is_open or k in _OPEN) for k, v in value.items() if is_open or k not in _CLOSED]
