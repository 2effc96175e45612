"""What is found in a request that a kind of provider may not support, and how a field is named. Pure."""

from dataclasses import dataclass, field

from deployments.openai_api.json_types import JsonValue

MARK = "cache_control"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark in a request.

    Attributes:
        path: where it stands.
        place: `tool`, `text`, `answer` (a text of the assistant's), `part` (anything else that a model reads), or
            `nothing` where nothing is to be kept.
        in_system: whether it stands in a system prompt, which goes before all turns.
        value: what it says.
    """

    path: str
    place: str
    in_system: bool
    value: JsonValue


@dataclass(slots=True)
class Found:
    """What was found of a request, by paths, and its marks of a prompt cache, which only a model can judge.

    `demands` is what no chat can say, and no answer is one without: each with the sentence that refuses it.
    """

    missing: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    demands: dict[str, str] = field(default_factory=dict)


def says_something(value: JsonValue) -> bool:
    """Return whether a field that is left out would have said something."""
    return value is not None and value is not False and value not in ([], {}, "")


def name_unknown(thing: JsonValue, known: frozenset[str], path: str, found: Found) -> None:
    """Name the fields of an object that are not known."""
    if isinstance(thing, dict) and not thing.keys() <= known:
        found.dropped += [
            f"{path}.{name}" for name, value in thing.items() if name not in known and says_something(value)
        ]
