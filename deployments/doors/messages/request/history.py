"""The messages of a request, as those of a chat. Pure.

A chat has a message of its own for each result of a tool, right behind the calls. So what the user's side says between
two answers is put in this order: the results, then all else as it came (ogx-ai/ogx#6367). Images and files of a result
follow it in a message of the user, because a chat's result is a text for most servers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.doors.messages.request.blocks import part_of, parts_of, plain, refuse, texts_of
from deployments.doors.messages.request.earlier import answer_of
from deployments.doors.messages.request.shapes import SHAPES, check
from deployments.openai_api.cache_marks import mark_in
from deployments.openai_api.found import MARK, Found, name_unknown
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.message_fields import IS_ERROR, as_error

_MESSAGE = frozenset({"role", "content"})
_RESULT = frozenset({"type", "tool_use_id", "content", "is_error", MARK})
# A line of Claude Code's for its own bills, and no content. It differs in each run, so it would spoil each cache.
_BILLING = "x-anthropic-billing-header:"


@dataclass(slots=True)
class History:
    """The messages of a chat so far, with the client's path of each.

    Attributes:
        rest: what the user's side has said since the last answer beside results. It stands behind all of them.
    """

    found: Found
    messages: list[JsonDict] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    rest: list[tuple[JsonDict, str]] = field(default_factory=list)

    def add(self, message: JsonDict, path: str) -> None:
        self.messages.append(message)
        self.paths.append(path)

    def flush(self) -> None:
        """Add what has waited for the results before it."""
        for message, path in self.rest:
            self.add(message, path)
        self.rest.clear()

    def take(self, message: JsonDict, path: str) -> None:
        """Add one message of the client. Raises BadRequest that names a field."""
        name_unknown(message, _MESSAGE, path, self.found)
        role, content = message["role"], message["content"]
        if role == "assistant":
            if (made := answer_of(content, f"{path}.content", self.found)) is not None:
                self.flush()
                self.add(made, path)
        elif isinstance(content, str):
            self.rest.append(({"role": role, "content": content}, path))
        elif role == "system":
            self.take_system(content, path, f"{path}.content")
        else:
            self._take_user(content, path)

    def take_system(self, content: JsonValue, path: str, inside: str) -> None:
        """Add a system prompt. `inside` is the path of its blocks."""
        if isinstance(content, list):
            content = plain(_without_billing(texts_of(content, inside, self.found)))
        if content:
            self.rest.append(({"role": "system", "content": content}, path))

    def _take_user(self, blocks: Sequence[JsonDict], path: str) -> None:
        media: list[JsonDict] = []
        said: list[JsonDict] = []
        results = False
        for at, block in enumerate(blocks):
            inside = f"{path}.content.{at}"
            if block["type"] == "tool_result":
                results = True
                media += self._take_result(block, inside)
            else:
                said += part_of(block, inside, self.found)
        if media or said or not results:
            self.rest.append(({"role": "user", "content": plain([*media, *said]) or ""}, path))

    def _take_result(self, block: JsonDict, path: str) -> Sequence[JsonDict]:
        """Add a result, and return what of it must follow in a message of the user."""
        check(SHAPES["tool_result"], block, path)
        name_unknown(block, _RESULT, path, self.found)
        content = block.get("content") or ""
        parts = [] if isinstance(content, str) else parts_of(content, f"{path}.content", self.found)
        texts = [part for part in parts if part["type"] == "text"]
        media = [part for part in parts if part["type"] != "text"]
        said = content if isinstance(content, str) else plain(texts) or ""
        if media and not texts:
            said = "(The result follows, because it is no text.)"
        key, mark = block["tool_use_id"], mark_in(block)
        message: JsonDict = {"role": "tool", "tool_call_id": key, "content": said}
        if block.get("is_error"):
            message |= {"content": as_error(said), IS_ERROR: True}
        self.add(message if mark is None else {**message, MARK: mark}, path)
        return [{"type": "text", "text": f"Of the result of {key}:"}, *media] if media else []

    def mark_last(self, mark: JsonObject) -> None:
        """Put a mark behind all messages, if none is there: Anthropic, Prompt caching, automatic caching."""
        if not self.messages or MARK in (last := self.messages[-1]):
            return
        content = last.get("content")
        if last["role"] == "tool" or last.get("tool_calls") or not content:
            self.messages[-1] = {**last, MARK: mark}
            return
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if MARK not in parts[-1]:
            self.messages[-1] = {**last, "content": [*parts[:-1], {**parts[-1], MARK: mark}]}


def history_of(body: JsonDict, found: Found) -> History:
    """Return the system prompt and the messages of a checked request. Raises BadRequest that names a field."""
    history = History(found)
    if system := body.get("system"):
        history.take_system(system, "system", "system")
    for at, message in enumerate(body["messages"]):
        history.take(message, f"messages.{at}")
    history.flush()
    if not history.messages:
        raise refuse("messages", "nothing is left of them that a model could read")
    if (mark := mark_in(body)) is not None:
        history.mark_last(mark)
    return history


def _without_billing(parts: Sequence[JsonDict]) -> list[JsonDict]:
    return [part for part in parts if not part["text"].startswith(_BILLING)]
