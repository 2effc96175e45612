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
_FIRST_WORD = re.compile(r"[^\w\\]*([a-z0-9]{1,12})(?![^\x00-\x7f])", re.IGNORECASE | re.ASCII)
_WORDS = re.compile(r"[a-z0-9]+")
_ESCAPES = re.compile(r"\\(?:u[0-9a-f]{4}|x[0-9a-f]{2}|.)|&\w+;|&#\w+;")
_MOST = 1000  # strings that are looked for
_MOST_SEARCHED = 512 * 1024  # characters of a request: of two-byte ones they take 25 ms
_OF_JSON = 8  # characters that one counts for in a text that may be JSON, and each value
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
    """Return an error's text, in lower case and with single spaces, without what it quotes of the request.

    Empty where the request has so many words of it that nobody can tell.
    """
    text = spaced(message)
    said = {found[: 4 * len(text)] for found in {*_strings(asked)} - _VOCABULARY if _may_be_in(text, found)}
    if len(said) > _MOST:
        return ""
    for quoted in sorted(said, key=len, reverse=True):
        for form in _forms(quoted):
            text = _without(text, form)
    return text


def _may_be_in(text: str, said: str) -> bool:
    """Return whether the text has the first word of what was said: that is cheap, and most is said of other things."""
    word = _FIRST_WORD.match(said)
    return word is None or word.group(1).casefold() in text


def too_long_to_search(asked: JsonValue) -> bool:
    """Return whether others would wait while it is searched: 30 MB of JSON in a text took 18 s."""
    waiting, size = [asked], 0
    while waiting and size <= _MOST_SEARCHED:
        value = waiting.pop()
        size += _OF_JSON
        if isinstance(value, str):
            size += len(value) * (_OF_JSON if value[:1] in ("{", "[") else 1)
        elif isinstance(value, Mapping):
            size += sum(map(len, value))
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return size > _MOST_SEARCHED


def says(asked: JsonValue, words: str) -> bool:
    """Return whether the request has these words anywhere, as they are or as JSON or Python write them."""
    looked_for, plain = spaced(words), "\0".join(_strings(asked))
    lower = plain.casefold()
    if not all(word in lower for word in _WORDS.findall(_ESCAPES.sub(" ", words.casefold()))):
        return False
    in_json = (json.dumps(asked, ensure_ascii=ascii, default=str) for ascii in (False, True))
    return any(looked_for in spaced(text) for text in (plain, *in_json, repr(asked)))


def spaced(text: str) -> str:
    return _SPACES.sub(" ", text.casefold())


def _strings(asked: JsonValue) -> Iterator[str]:
    """Yield each text of a request: values, the names of fields, and what is inside the JSON of a text."""
    waiting = [asked]  # and no recursion: JSON in a text may be deeper than Python's stack
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
            if value[:1] in ("{", "["):  # a call's arguments
                waiting.append(_parsed(value))
        elif isinstance(value, Mapping):
            yield from map(str, value)
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


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
