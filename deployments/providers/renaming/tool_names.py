"""Names of tools as a vendor takes them, and back again in its answers. Pure, but for the provider that it wraps.

MCP servers name tools as they like: `files.read`, `Get weather`. Vendors refuse what is not in their alphabet. A name
that is not valid becomes one that is, the same each time, so histories stay true wherever they go. It ends in a hash,
so two names never become one.

Some servers stream a name in pieces. They are kept until the name is whole: half of a name can't be put back, and a
client that adds the pieces up would get the vendor's.

It is on the hot path: a request whose names are valid costs one comparison a name, and its frames cost nothing.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from msgspec import structs

from deployments.errors import AttemptFailed
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.base import Call, Completed, End, Frames, Provider, credential_of
from deployments.providers.kinds import NameRule
from deployments.providers.renaming.name_pieces import NamesInStream

_OFFERING = frozenset({"tools", "tool_choice", "functions", "function_call"})


def names_in(body: JsonObject) -> Iterator[str]:
    """Yield the name of each tool that a request offers, wants, or has called."""
    for holder in _holders(body):
        if isinstance(name := holder.get("name"), str):
            yield name


def _holders(body: JsonObject) -> Iterator[JsonDict]:
    if not _OFFERING.isdisjoint(body):
        yield from _offered_in(body)
    for message in _list(body.get("messages")):
        if message["role"] in ("tool", "function"):
            yield message
        elif message["role"] == "assistant" and (len(message) > 2 or "content" not in message):
            yield from _called_in(message)


def _offered_in(body: JsonObject) -> Iterator[JsonDict]:
    choice = body.get("tool_choice")
    allowed = choice.get("allowed_tools") if isinstance(choice, dict) else None
    for tool in (
        *_list(body.get("tools")),
        choice,
        *_list(allowed.get("tools") if isinstance(allowed, dict) else None),
    ):
        if isinstance(tool, dict) and isinstance(function := tool.get("function"), dict):
            yield function
    for function in (*_list(body.get("functions")), body.get("function_call")):
        if isinstance(function, dict):
            yield function


def _called_in(message: JsonObject) -> Iterator[JsonDict]:
    for call in _list(message.get("tool_calls")):
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
            yield function
    if isinstance(function := message.get("function_call"), dict):
        yield function


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def renamed(body: JsonObject, rule: NameRule) -> tuple[JsonObject, Mapping[str, str]]:
    """Return the request with names that the vendor takes, and the client's name of each that is changed."""
    changed = {name: rule.name_for(name) for name in names_in(body) if not rule.valid.fullmatch(name)}
    if not changed:
        return body, {}
    copy: JsonDict = json.loads(json.dumps(body))  # rare, and the client's own is never changed
    for holder in _holders(copy):
        if (name := holder.get("name")) in changed:
            holder["name"] = changed[name]
    return copy, {new: name for name, new in changed.items()}


def restorer(names: Mapping[str, str]) -> Callable[[bytes], bytes]:
    """Return what puts the client's names back into an answer's JSON.

    JSON escapes each quote inside a text, so what is found is a name and no text that looks like one.
    """
    found = re.compile(rb'(?<!\\)("name"\s*:\s*)"(%s)"' % b"|".join(re.escape(name.encode()) for name in names))

    def put_back(match: re.Match[bytes]) -> bytes:
        return match[1] + json.dumps(names[match[2].decode()]).encode()

    return lambda data: found.sub(put_back, data)


_LONGEST_IN_TEXT = 200


def _in_clients_words(error: AttemptFailed, names: Mapping[str, str]) -> AttemptFailed:
    """Return the failure with the client's own names in its text, where its vendor has named the changed ones."""
    found = re.compile("|".join(sorted(map(re.escape, names), key=len, reverse=True)))
    message = found.sub(lambda match: names[match[0]][:_LONGEST_IN_TEXT], error.outcome.message)
    return AttemptFailed(replace(error.outcome, message=message))


class WithToolNames:
    """A provider that gets names of tools as its vendor takes them, and answers with the client's own."""

    def __init__(self, inner: Provider, rule: NameRule):
        self._inner, self._rule = inner, rule
        self.credential = credential_of(inner)

    async def complete(self, call: Call) -> Completed:
        body, names = renamed(call.body, self._rule)
        if not names:
            return await self._inner.complete(call)
        try:
            done = await self._inner.complete(structs.replace(call, body=body))
        except AttemptFailed as error:
            raise _in_clients_words(error, names) from error.__cause__
        return structs.replace(done, body=restorer(names)(done.body))

    def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        body, names = renamed(call.body, self._rule)
        return self._restored(structs.replace(call, body=body), names) if names else self._inner.stream(call)

    async def _restored(self, call: Call, names: Mapping[str, str]) -> AsyncGenerator[Frames | End, None]:
        stream = NamesInStream(names, restorer(names))
        try:
            async with aclosing(self._inner.stream(call)) as items:
                async for item in items:
                    if isinstance(item, Frames):
                        yield structs.replace(item, data=stream.restored(item.data, last=item.end is not None))
                        continue
                    if left := stream.rest():
                        yield Frames(left, content=True)
                    yield item
        except AttemptFailed as error:
            raise _in_clients_words(error, names) from error.__cause__

    async def embed(self, call: Call) -> Completed:
        return await self._inner.embed(call)

    async def close(self) -> None:
        await self._inner.close()
