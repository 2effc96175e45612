"""Marks of a prompt cache in requests whose client sets none: `cache: auto` of a provider. Pure.

They are those that a client would set: one behind the tools and the system prompt, which all turns of a conversation
share, and one behind what the user has said last, where the next turn goes on. A client's own marks win: a request that
has any stays as it is. What becomes of them is the adapter's affair.
"""

from collections.abc import AsyncGenerator, Callable, Mapping

from msgspec import structs

from deployments.openai_api.cache_marks import any_marked, has_marks
from deployments.openai_api.found import MARK
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.base import Call, Completed, End, Frames, Provider, credential_of

_OURS = {"type": "ephemeral"}
_USERS = frozenset({"user", "tool", "function"})  # on whose side a message is


def with_marks(body: JsonObject, most: int) -> JsonObject:
    """Return a chat with so many marks, two at most; the same object if it has some, or there is no place for one."""
    messages, tools = body["messages"], body.get("tools")
    tools = tools if isinstance(tools, list) else []
    if not most or has_marks(body):
        return body
    marked: dict[int, JsonObject] = {}
    more: dict[str, JsonValue] = {}
    first = _end_of_system(messages)
    if first is not None:
        marked[first] = {**messages[first], MARK: _OURS}
    elif tools and isinstance(tools[-1], Mapping):
        more["tools"] = [*tools[:-1], {**tools[-1], MARK: _OURS}]
    last = next((at for at in reversed(range(len(messages))) if messages[at]["role"] in _USERS), None)
    if most > 1 and last is not None:
        marked[last] = {**messages[last], MARK: _OURS}
    if marked:
        more["messages"] = [marked.get(at, message) for at, message in enumerate(messages)]
    return {**body, **more} if more else body


def with_marks_on_blocks(body: JsonObject, most: int) -> JsonObject:
    """Return the same for a request of the Messages API, where a mark stands on a block or on a tool."""
    messages, tools, system = body["messages"], body.get("tools") or [], body.get("system") or []
    if not most or MARK in body or any_marked([*messages, {"content": system}]) or any(MARK in tool for tool in tools):
        return body
    more: dict[str, JsonValue] = {}
    if system:
        more["system"] = _with_last_marked(system)
    elif tools:
        more["tools"] = [*tools[:-1], {**tools[-1], MARK: _OURS}]
    last = next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "user"), None)
    if most > 1 and last is not None:
        marked = {**messages[last], "content": _with_last_marked(messages[last]["content"])}
        more["messages"] = [*messages[:last], marked, *messages[last + 1 :]]
    return {**body, **more} if more else body


def _with_last_marked(content: JsonValue) -> JsonValue:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [*blocks[:-1], {**blocks[-1], MARK: _OURS}] if blocks else content


def _end_of_system(messages: JsonValue) -> int | None:
    """Return the last of the instructions with which a conversation begins."""
    found = None
    for at, message in enumerate(messages):
        if message["role"] not in ("system", "developer"):
            break
        found = at
    return found


class WithMarks:
    """A provider whose chats get marks. `marks` says how many a model is to have."""

    def __init__(self, inner: Provider, marks: Callable[[str], int]):
        self._inner, self._marks = inner, marks
        self.credential = credential_of(inner)

    def _marked(self, call: Call) -> Call:
        """Return the call with marks. A request of the Responses API has its own."""
        if call.api == "responses":
            return call
        mark = with_marks_on_blocks if call.api else with_marks
        body = mark(call.body, self._marks(call.model))
        return call if body is call.body else structs.replace(call, body=body)

    async def complete(self, call: Call) -> Completed:
        return await self._inner.complete(self._marked(call))

    def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        return self._inner.stream(self._marked(call))

    async def embed(self, call: Call) -> Completed:
        return await self._inner.embed(call)

    async def close(self) -> None:
        await self._inner.close()
