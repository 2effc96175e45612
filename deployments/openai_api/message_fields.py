"""The fields and parts of messages that a kind of provider does not support. Pure.

It is on the hot path: a message of a role and a text costs two comparisons.
"""

from typing import TYPE_CHECKING

from deployments.openai_api.found import MARK, Found, Mark, name_unknown, says_something
from deployments.openai_api.images import file_url_of, format_of, type_of, url_of
from deployments.openai_api.json_types import JsonObject, JsonValue

if TYPE_CHECKING:
    from deployments.openai_api.capabilities import Capabilities

IS_ERROR = "is_error"  # of a result: our own word for what a chat has none for
_SYSTEM = frozenset({"role", "content"})
# What an answer has beside its text, ours too. A client that sends it back demands nothing by it.
_ECHOES = frozenset({"refusal", "reasoning_content", "reasoning", "reasoning_details", "extra_content"})
_KNOWN = {
    "system": _SYSTEM,
    "developer": _SYSTEM,
    "user": _SYSTEM,
    "assistant": _SYSTEM | {"tool_calls"} | _ECHOES,
    "tool": frozenset({"role", "content", "tool_call_id", "name", IS_ERROR}),  # the call has the same name
}
_MEDIA_ROLES = frozenset({"user", "tool"})
_PART_FIELDS = {"text": frozenset({"type", "text"}), "refusal": frozenset({"type", "refusal"})}
_IMAGE_PART, _IMAGE = frozenset({"type", "image_url"}), frozenset({"url", "detail"})
_FILE_PART, _FILE = frozenset({"type", "file"}), frozenset({"filename", "file_data"})
_MEDIA = frozenset({"image_url", "file"})
_CALL, _CALLED = frozenset({"id", "type", "function", "extra_content", "index"}), frozenset({"name", "arguments"})


def is_blank(text: JsonValue) -> bool:
    """Return whether a model could read nothing in it."""
    return not text or not isinstance(text, str) or text.isspace()


class _Parts:
    """Which parts a model takes. Documents are counted, because some vendors take a few for each request."""

    def __init__(self, able: "Capabilities", model: str):
        self._able = able
        self._model = model
        self._documents = 0

    def carries(self, part: JsonObject) -> bool:
        """Return whether a part goes as it is."""
        kind = part.get("type")
        return kind in self._able.parts and isinstance(part.get(kind), dict)

    def has_image(self, part: JsonObject) -> bool:
        return bool(self._able.images) and type_of(url_of(part)) in self._able.images

    def has_document(self, part: JsonObject) -> bool:
        if self._able.documents is None:
            return False
        taken, form = self._able.documents(self._model), format_of(part)
        self._documents += 1
        if form not in taken.formats or (taken.most is not None and self._documents > taken.most):
            return False
        size = len(file_url_of(part)) * 3 // 4
        return taken.most_bytes is None or form in taken.any_size or size <= taken.most_bytes


def as_error(content: JsonValue) -> JsonValue:
    """Return a result's content as that of a call that has failed, for who has no other word for it."""
    if isinstance(content, list):
        first = next((part.get("text") for part in content if isinstance(part, dict)), None)
        begun = isinstance(first, str) and first[:5].lower() == "error"
        return content if begun else [{"type": "text", "text": "Error: "}, *content]
    if not isinstance(content, str):
        return "Error" if content is None else content
    return content if content[:5].lower() == "error" else f"Error: {content}" if content else "Error"


def check_messages(messages: JsonValue, able: "Capabilities", found: Found, model: str = "") -> None:
    """Name what the messages of a request have that is not supported."""
    has_turn, takes = not able.needs_turn, _Parts(able, model)
    for index, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if len(message) > 2 or content is None or role == "function":
            _check_fields(index, role, message, found)
        if content.__class__ is list:
            _check_parts(index, role, content, takes, found)
        has_turn = has_turn or _is_turn(message)
    if not has_turn:
        found.missing.append("messages")


def _check_fields(index: int, role: str, message: JsonObject, found: Found) -> None:
    if role == "function":
        found.missing.append(f"messages.{index}.role")
        return
    known = _KNOWN[role]
    for name, value in () if message.keys() <= known else message.items():
        if name not in known and says_something(value):
            path = f"messages.{index}.{name}"
            if name == MARK:
                found.marks.append(Mark(path, _last_place(role, message), role in ("system", "developer"), value))
            elif role == "assistant" and name in ("audio", "function_call"):
                found.missing.append(path)  # only the provider that made it can take it back
            else:
                found.dropped.append(path)
    if calls := message.get("tool_calls") if role == "assistant" else None:
        _check_calls(index, calls, found)


def _check_calls(index: int, calls: JsonValue, found: Found) -> None:
    path = f"messages.{index}.tool_calls"
    if not isinstance(calls, list) or not all(
        isinstance(call, dict) and call.get("type", "function") == "function" for call in calls
    ):
        found.missing.append(path)
        return
    for at, call in enumerate(calls):
        function = call.get("function")
        if not (call.keys() <= _CALL and isinstance(function, dict) and function.keys() <= _CALLED):
            name_unknown(call, _CALL, f"{path}.{at}", found)
            name_unknown(function, _CALLED, f"{path}.{at}.function", found)


def _check_parts(index: int, role: str, parts: list[JsonValue], takes: _Parts, found: Found) -> None:
    for at, part in enumerate(parts):
        kind = part.get("type")
        if kind == "text" and len(part) == 2:
            continue
        path = f"messages.{index}.content.{at}"
        if kind == "text" or (kind == "refusal" and role == "assistant"):
            fields = _PART_FIELDS[kind]
        elif role in _MEDIA_ROLES and takes.carries(part):
            fields = frozenset({"type", kind})
        elif kind == "image_url" and role in _MEDIA_ROLES and takes.has_image(part):
            fields = _IMAGE_PART
            _check_image(part["image_url"], f"{path}.image_url", found)
        elif kind == "file" and role in _MEDIA_ROLES and takes.has_document(part):
            fields = _FILE_PART
            name_unknown(part["file"], _FILE, f"{path}.file", found)
        else:
            found.missing.append(f"messages.{index}.content")
            return
        if not part.keys() <= fields:
            name_unknown(part, fields | {MARK}, path, found)
            if (mark := part.get(MARK)) is not None:
                place = _place(role, part)
                found.marks.append(Mark(f"{path}.{MARK}", place, role in ("system", "developer"), mark))


def _check_image(image: JsonValue, path: str, found: Found) -> None:
    name_unknown(image, _IMAGE, path, found)
    if isinstance(image, dict) and image.get("detail") not in (None, "auto"):
        found.dropped.append(f"{path}.detail")


def _place(role: str, part: JsonObject) -> str:
    """Return what a mark on this part stands behind, as `Mark.place` names it."""
    if part.get("type") in _MEDIA:
        return "part"
    if role == "tool":
        return "part"  # the result as a whole
    return "nothing" if is_blank(part.get("text") or part.get("refusal")) else _text(role)


def _last_place(role: str, message: JsonObject) -> str:
    """Return what a mark on a whole message stands behind."""
    if role == "tool" or message.get("tool_calls"):
        return "part"
    content = message.get("content") or message.get("refusal")
    if not isinstance(content, list):
        return "nothing" if is_blank(content) else _text(role)
    places = [place for part in content if (place := _place(role, part)) != "nothing"]
    return places[-1] if places else "nothing"


def _text(role: str) -> str:
    return "answer" if role == "assistant" else "text"


def _is_turn(message: JsonObject) -> bool:
    """Return whether it is a turn of the conversation that is not blank."""
    role, content = message["role"], message.get("content")
    if role in ("system", "developer"):
        return False
    if content.__class__ is str and not is_blank(content):
        return True
    if role == "tool" or (role == "assistant" and (message.get("tool_calls") or not is_blank(message.get("refusal")))):
        return True
    parts = content if isinstance(content, list) else []
    return any(p.get("type") in _MEDIA or not is_blank(p.get("text") or p.get("refusal")) for p in parts)
