"""Names for JSON in Python: what a request, an answer or a chunk of OpenAI's format is made of. Pure.

Its fields are checked where they come in (`chat`, `embeddings`); behind that they are read as they are.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

JsonValue: TypeAlias = Any  # None, bool, int, float, str, or a list or an object of these
JsonObject: TypeAlias = Mapping[str, JsonValue]  # to read
JsonDict: TypeAlias = dict[str, JsonValue]  # to build


def whole_number(value: JsonValue) -> int | None:
    """Return a whole number as an integer, also where a server has written it as 12.0; None for anything else."""
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, int) or (isinstance(value, float) and value.is_integer()) else None


def parse_leniently(data: bytes) -> JsonValue:
    """Return the JSON that a server has sent, also with NaN, half a character or half a pair of surrogates in it.

    All who read a frame read it so: it passes through as the bytes it was. Raises ValueError for what is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data.decode(errors="replace"))
        except RecursionError:
            raise ValueError("nested too deeply") from None
