"""The top of a tool's schema as an object without unions: a tool's arguments are always an object. Pure."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from deployments.json_schema.dialects import OF_ANYTHING, OF_OBJECTS
from deployments.json_schema.flat import NOTES, Flat, Raw, key_of, types_meant

_PARTS = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_CHANGED = _PARTS | {"enum", "const", "nullable"}
_HELD = OF_OBJECTS | OF_ANYTHING


def as_object(top: Mapping[str, Any], flatten: Callable[[Raw], Flat], lose: Callable[[str], None]) -> Mapping[str, Any]:
    """Return the schema with an object at its top, itself if it has one.

    A union becomes one object with the properties of all its choices, and only what all require is required: that
    allows more, so the union is named to `lose`. A property keeps to what the choices say that describe it.
    """
    if top.get("type") == "object" and not _CHANGED & top.keys():
        return top
    flat = flatten(top)
    if flat.never or not _may_be_object(flat):
        lose("type")
        flat = Flat(notes=flat.notes)
    for keyword in flat.lost:
        lose(keyword)
    for keyword, choices in flat.unions:
        lose(keyword)
        flat.meet(_joined([_choice(choice, flatten) for choice in choices]))
    if "enum" in flat.own:
        lose("enum")
    said = {k: v for k, v in flat.own.items() if k in _HELD}
    kept = {k: v for k, v in top.items() if k not in {*_CHANGED, *_HELD, *NOTES, "type"}}
    notes = {k: v for k, v in flat.notes.items() if isinstance(v, str)}
    return {"type": "object", **notes, **kept, **said}


def _may_be_object(flat: Flat) -> bool:
    types = types_meant(flat.own)
    return not types or "object" in types


def _choice(raw: Raw, flatten: Callable[[Raw], Flat]) -> Mapping[str, Any] | None:
    """Return what one choice says of an object, or None if it is none."""
    flat = flatten(raw)
    if flat.never or not _may_be_object(flat):
        return None
    for _, choices in flat.unions:
        flat.meet(_joined([_plain(flatten(choice)) for choice in choices]))
    return _plain(flat)


def _plain(flat: Flat) -> Mapping[str, Any] | None:
    return None if flat.never or not _may_be_object(flat) else flat.own


def _joined(choices: list[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return one object that allows what any of these does, as far as they describe it."""
    owns = [own for own in choices if own is not None]
    said: dict[str, dict[Hashable, Raw]] = {}
    for own in owns:
        for name, raw in own.get("properties", {}).items():
            said.setdefault(name, {}).setdefault(key_of(raw), raw)
    joined: dict[str, Any] = {"properties": {name: _any_of([*raws.values()]) for name, raws in said.items()}}
    needed = [set(own.get("required", ())) for own in owns]
    required = [name for name in (owns[0].get("required", ()) if owns else ()) if all(name in one for one in needed)]
    if required:
        joined["required"] = required
    if owns and all(own.get("additionalProperties") is False for own in owns):
        joined["additionalProperties"] = False
    return joined if said or required else {}


def _any_of(raws: list[Raw]) -> Raw:
    return raws[0] if len(raws) == 1 else {"anyOf": raws}
