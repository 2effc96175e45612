"""What of an error's text is the vendor's own, and what it quotes of the request. Pure.

Vendors quote what they refuse: a name, a value, the beginning of a prompt. Such words are the client's, and a client
could write there what closes a vendor to everybody. It is searched only where the text has such words at all.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping

from deployments.openai_api.json_types import JsonValue

_SPACES = re.compile(r"(?:\s|\\+[nrt])+")
_QUOTED = "x"  # a word without a meaning, where the client's were
_LEAST = 12  # characters by which the beginning of a long text is known
# Words of OpenAI's API that each request has: they are nobody's.
_VOCABULARY = frozenset(
    {
        *("model", "messages", "role", "content", "user", "system", "assistant", "tool", "developer", "type", "text"),
        *("function", "functions", "name", "tools", "parameters", "properties", "object", "string", "array", "number"),
        *(
            "integer",
            "boolean",
            "description",
            "required",
            "auto",
            "none",
            "input",
            "stream",
            "image",
            "image_url",
            "url",
        ),
    }
)


def own_words(message: str, asked: JsonValue) -> str:
    """Return an error's text, in lower case and with single spaces, without what it quotes of the request."""
    text = spaced(message)
    for said in sorted(set(_strings(asked)) - _VOCABULARY, key=len, reverse=True):
        for form in _forms(said):
            text = _without(text, form)
    return text


def says(asked: JsonValue, words: str) -> bool:
    """Return whether the request has these words anywhere, as they are or as JSON has them."""
    looked_for = spaced(words)
    written = (json.dumps(asked, ensure_ascii=False, default=str), "\0".join(_strings(asked)))
    return any(looked_for in spaced(text) for text in written)


def spaced(text: str) -> str:
    return _SPACES.sub(" ", text.casefold())


def _strings(value: JsonValue) -> Iterator[str]:
    """Yield each text of a request: values, the names of fields, and what is inside the JSON of a text."""
    if isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):  # a call's arguments
            yield from _strings(_parsed(value))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _parsed(text: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict | list) else None


def _forms(said: str) -> set[str]:
    """Return the ways in which a text is quoted: as it is, or escaped for JSON, for Python or for HTML."""
    forms = {said, said.strip(), json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1], repr(said)[1:-1]}
    return {spaced(form) for form in (*forms, html.escape(said)) if len(form) > 1}


def _without(text: str, said: str) -> str:
    """Return the text without this quotation: the whole of it, or the beginning of a long one that was cut."""
    if said in text:
        before, after = (r"(?<!\w)" if said[0].isalnum() else ""), (r"(?!\w)" if said[-1].isalnum() else "")
        return re.sub(f"{before}{re.escape(said)}{after}", _QUOTED, text)
    at = text.find(said[:_LEAST]) if len(said) > _LEAST else -1
    if at < 0:
        return text
    length = next((n for n, (a, b) in enumerate(zip(text[at:], said, strict=False)) if a != b), len(text) - at)
    return f"{text[:at]}{_QUOTED}{text[at + length :]}"
