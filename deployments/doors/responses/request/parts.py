"""The parts of a message's content as a chat completion has them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.doors.responses.request.schema import TEXTS
from deployments.errors import BadRequest
from deployments.openai_api.found import says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

_BREAKPOINT = "prompt_cache_breakpoint"  # a part of a chat completion has it too
_KNOWN = {
    "input_image": frozenset({"type", "image_url", "file_id", "detail", _BREAKPOINT}),
    "input_file": frozenset({"type", "file_data", "file_id", "file_url", "filename", _BREAKPOINT}),
    "input_audio": frozenset({"type", "input_audio", _BREAKPOINT}),
    "refusal": frozenset({"type", "refusal"}),
    **dict.fromkeys(TEXTS, frozenset({"type", "text", _BREAKPOINT})),
}
# What stands elsewhere, where not every provider can fetch it.
_ELSEWHERE = {"input_image": "file_id", "input_file": "file_url"}
_INSTEAD = {
    "file_id": "An image by the id of a file can't be sent to every provider: send its URL or its data in 'image_url'",
    "file_url": "A file by its URL can't be sent to every provider: send its data in 'file_data'",
}
_PLAIN = 2  # fields of a text that has nothing else


@dataclass(frozen=True, slots=True)
class PartReader:
    """Turns parts into those of a chat completion, and names what they lose in `dropped`.

    What a chat can't have is in `demands`, with the sentence that refuses it: a text stands for it.
    """

    dropped: list[str] = field(default_factory=list)
    demands: dict[str, str] = field(default_factory=dict)

    def read(self, parts: Sequence[JsonObject], path: str) -> list[JsonDict]:
        return [self._part(part, f"{path}.{at}") for at, part in enumerate(parts)]

    def _part(self, part: JsonObject, path: str) -> JsonDict:
        kind = part["type"]
        if kind in TEXTS and len(part) == _PLAIN:
            return {"type": "text", "text": part["text"]}
        if (known := _KNOWN.get(kind)) is None:
            self.demands[f"{path}.type"] = f"Invalid '{path}.type': a part of the type {kind!r} is not known."
            return {"type": "text", "text": f"({kind})"}
        if (name := _ELSEWHERE.get(kind)) is not None and part.get(name) is not None:
            self.demands[f"{path}.{name}"] = f"'{path}.{name}' is not supported. {_INSTEAD[name]}."
            return {"type": "text", "text": f"({kind})"}
        rest = (name for name, value in part.items() if name not in known and says_something(value))
        self.dropped.extend(f"{path}.{name}" for name in rest)
        made = _made(kind, part, path)
        if (mark := part.get(_BREAKPOINT)) is not None:
            made[_BREAKPOINT] = mark
        return made


def _made(kind: str, part: JsonObject, path: str) -> JsonDict:
    if kind == "input_image":
        return {"type": "image_url", "image_url": _image(part, path)}
    if kind == "input_file":
        return {"type": "file", "file": _file(part, path)}
    if kind in TEXTS:
        return {"type": "text", "text": part["text"]}
    return {"type": kind, kind: part[kind]}


def _image(part: JsonObject, path: str) -> JsonDict:
    if not part.get("image_url"):
        raise BadRequest(
            f"Missing required parameter: '{path}.image_url'.", f"{path}.image_url", "missing_required_parameter"
        )
    detail = part.get("detail")
    return {"url": part["image_url"], **({} if detail is None else {"detail": detail})}


def _file(part: JsonObject, path: str) -> JsonDict:
    kept = {name: part[name] for name in ("file_data", "file_id", "filename") if part.get(name) is not None}
    if "file_data" not in kept and "file_id" not in kept:
        raise BadRequest(
            f"Missing required parameter: '{path}.file_data'.", f"{path}.file_data", "missing_required_parameter"
        )
    return kept


def simplest(parts: list[JsonDict]) -> JsonValue:
    """Return the content of a message: one plain text as such, which each server takes."""
    if not parts:
        return ""
    plain = len(parts) == 1 and parts[0]["type"] == "text" and len(parts[0]) == _PLAIN
    return parts[0]["text"] if plain else parts


def is_text(part: JsonObject) -> bool:
    return bool(part["type"] == "text")
