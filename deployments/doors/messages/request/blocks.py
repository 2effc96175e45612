"""The blocks of a user's content, as the parts of a chat message. Pure.

A block that is a text goes as the object that it is. What has no place in a chat message is demanded by its path: only
a target that is asked by this API itself can take it.
"""

from collections.abc import Callable, Mapping, Sequence

from deployments.doors.messages.request.shapes import INLINE, LINKED, NESTED, PLAIN, SHAPES, check
from deployments.errors import BadRequest
from deployments.openai_api.cache_marks import mark_in
from deployments.openai_api.found import MARK, Found, name_unknown, says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

# The fields of blocks that are carried.
_TEXT = frozenset({"type", "text", MARK})
_IMAGE = frozenset({"type", "source", MARK})
_DOCUMENT = _IMAGE | {"title", "context"}
_SEARCH = _IMAGE | {"title", "content"}
_REFERENCE = frozenset({"type", "tool_name", MARK})
_COMPACTION = frozenset({"type", "content", MARK})
_CITED = "citations"
# What has its place elsewhere: in an answer, or among the results of a turn.
_OF_OTHERS = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking"})


def parts_of(content: JsonValue, path: str, found: Found) -> list[JsonDict]:
    """Return a content of blocks as parts. `path` is that of the content. Raises BadRequest that names a block."""
    parts: list[JsonDict] = []
    for at, block in enumerate(content):
        parts += part_of(block, f"{path}.{at}", found)
    return parts


def part_of(block: JsonDict, path: str, found: Found) -> Sequence[JsonDict]:
    """Return the parts of one block: none, one, or those of a document that has several."""
    if (read := _READERS.get(block["type"])) is None:
        why = "a block of this type can't stand here"
        if block["type"] in _OF_OTHERS:
            raise BadRequest(f"Invalid '{path}.type': {why}.", f"{path}.type")
        demand(f"{path}.type", why, found)
        return ()
    check(SHAPES[block["type"]], block, path)
    return _marked(read(block, path, found), mark_in(block))


def text_part(block: JsonDict, path: str, found: Found) -> JsonDict:
    """Return a text with its mark: the same object if it has nothing else."""
    if block.keys() <= _TEXT and block.get(MARK, block) is not None:
        return block
    name_unknown(block, _TEXT, path, found)
    mark = mark_in(block)
    return {"type": "text", "text": block["text"], **({} if mark is None else {MARK: mark})}


def plain(parts: Sequence[JsonDict]) -> JsonValue:
    """Return the content as a text if it is one without a mark: each server can read that."""
    if len(parts) == 1 and parts[0]["type"] == "text" and MARK not in parts[0]:
        return parts[0]["text"]
    return list(parts)


def refuse(path: str, why: str) -> BadRequest:
    """Return the error of what can't be done for any provider."""
    return BadRequest(f"Invalid '{path}': {why}.", path, "unsupported_parameter")


def demand(path: str, why: str, found: Found) -> None:
    """Note what only a target can do that is asked by this API itself. The sentence refuses it where there is none."""
    found.demands.setdefault(path, f"Invalid '{path}': {why}.")


def _marked(parts: Sequence[JsonDict], mark: JsonObject | None) -> Sequence[JsonDict]:
    if mark is None or not parts or MARK in parts[-1]:
        return parts
    return [*parts[:-1], {**parts[-1], MARK: mark}]


def _text(block: JsonDict, path: str, found: Found) -> list[JsonDict]:
    return [text_part(block, path, found)]


def _image(block: JsonDict, path: str, found: Found) -> list[JsonDict]:
    name_unknown(block, _IMAGE, path, found)
    url = _image_url(block["source"], f"{path}.source", found)
    return [] if url is None else [{"type": "image_url", "image_url": {"url": url}}]


def _image_url(source: JsonObject, path: str, found: Found) -> str | None:
    if source.get("type") == "base64":
        return _data_url(source, path, found)
    if source.get("type") != "url":
        demand(path, "an image must be given as 'base64' or by its 'url', because no files are stored here", found)
        return None
    check(LINKED, source, path)
    name_unknown(source, frozenset({"type", "url"}), path, found)
    return str(source["url"])


def _data_url(source: JsonObject, path: str, found: Found) -> str:
    check(INLINE, source, path)
    name_unknown(source, frozenset({"type", "data", "media_type"}), path, found)
    return f"data:{source['media_type']};base64,{source['data']}"


def _document(block: JsonDict, path: str, found: Found) -> list[JsonDict]:
    source, inside = block["source"], f"{path}.source"
    name_unknown(block, _DOCUMENT | {_CITED}, path, found)
    _name_citations(block, path, found)
    head = "\n".join(text for name in ("title", "context") if (text := block.get(name)))
    kind = source.get("type")
    if kind == "base64":
        name = block.get("title") or "document.pdf"
        file = {"type": "file", "file": {"filename": name, "file_data": _data_url(source, inside, found)}}
        return [*_texts(block.get("context") or ""), file]
    if kind == "text":
        check(PLAIN, source, inside)
        name_unknown(source, frozenset({"type", "data", "media_type"}), inside, found)
        return _texts(f"{head}\n\n{source['data']}" if head else source["data"])
    if kind != "content":
        demand(inside, "a document must be given as 'base64', 'text' or 'content', because none are fetched", found)
        return []
    check(NESTED, source, inside)
    content = source["content"]
    return [*_texts(head), *(_texts(content) if isinstance(content, str) else _nested(content, inside, found))]


def _nested(content: JsonValue, path: str, found: Found) -> list[JsonDict]:
    for at, block in enumerate(content):
        if block["type"] not in ("text", "image"):
            raise BadRequest(f"Invalid '{path}.content.{at}.type': must be 'text' or 'image'.", f"{path}.content.{at}")
    return parts_of(content, f"{path}.content", found)


def _search_result(block: JsonDict, path: str, found: Found) -> list[JsonDict]:
    name_unknown(block, _SEARCH | {_CITED}, path, found)
    _name_citations(block, path, found)
    texts = texts_of(block["content"], f"{path}.content", found)
    return _texts("\n".join([block["title"], block["source"], "", *(part["text"] for part in texts)]))


def texts_of(content: JsonValue, path: str, found: Found) -> list[JsonDict]:
    """Return a content in which only texts may stand. Raises BadRequest that names the first other block."""
    for at, block in enumerate(content):
        if block["type"] != "text":
            raise BadRequest(f"Invalid '{path}.{at}.type': must be 'text'.", f"{path}.{at}.type")
    return parts_of(content, path, found)


def _reference(block: JsonDict, path: str, found: Found) -> list[JsonDict]:
    name_unknown(block, _REFERENCE, path, found)
    return _texts(f"Tool: {block['tool_name']}")


def _compaction(block: JsonDict, path: str, found: Found) -> list[JsonDict]:
    """Return the summary of what an earlier request has left out: it stands in the place of that."""
    name_unknown(block, _COMPACTION, path, found)
    return _texts(block.get("content") or "")


def _name_citations(block: JsonDict, path: str, found: Found) -> None:
    wanted = block.get(_CITED)
    if isinstance(wanted, dict) and wanted.get("enabled") is False:
        return
    if says_something(wanted):
        found.dropped.append(f"{path}.{_CITED}")


def _texts(text: str) -> list[JsonDict]:
    return [{"type": "text", "text": text}] if text else []


_READERS: Mapping[str, Callable[[JsonDict, str, Found], list[JsonDict]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _reference,
    "compaction": _compaction,
}
