"""Schemas that were translated before: agents send the same tools with each request.

One thread uses it. It must not grow: what was not asked for longest is forgotten.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from deployments.json_schema.dialects import Dialect
from deployments.json_schema.translate import Translated, translate

MOST_BYTES = 4 * 2**20  # of all schemas that are kept, given and translated, as JSON


@dataclass(frozen=True, slots=True)
class _Kept:
    """`schema` is None where the schema that was given needs no change."""

    schema: Mapping[str, Any] | None
    lost: tuple[str, ...]
    weight: int


class Memory:
    """The latest translations."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, bytes], _Kept] = OrderedDict()
        self.weight = 0

    def translate(self, schema: Mapping[str, Any], dialect: Dialect) -> Translated:
        """Return what `translate` does, the same object again for an equal schema. Nobody may change it."""
        try:
            key = (dialect.name, orjson.dumps(schema))
        except TypeError:  # no JSON, or too deep: the translator says what it makes of it
            return translate(schema, dialect)
        kept = self._kept.get(key)
        if kept is None:
            return self._new(key, schema, dialect)
        self._kept.move_to_end(key)
        return Translated(schema if kept.schema is None else kept.schema, kept.lost)

    def _new(self, key: tuple[str, bytes], schema: Mapping[str, Any], dialect: Dialect) -> Translated:
        made = translate(schema, dialect)
        changed = None if made.schema is schema else made.schema
        weight = len(key[1]) + (0 if changed is None else len(orjson.dumps(changed))) + sum(map(len, made.lost))
        if weight <= self._most // 4:
            self._kept[key] = _Kept(changed, made.lost, weight)
            self.weight += weight
        while self.weight > self._most:
            self.weight -= self._kept.popitem(last=False)[1].weight
        return made


_memory = Memory()


def translate_cached(schema: Mapping[str, Any], dialect: Dialect | None) -> Translated:
    """Return what `translate` does, from memory where it can be. Without a dialect any form is taken."""
    return Translated(schema) if dialect is None else _memory.translate(schema, dialect)
