"""The chunks of a chat's stream joined to the completion that the same server would have given whole. Pure.

Texts are put together, calls and choices by their index; of what we do not know the last value counts, except in a
delta, where texts are pieces (as the openai SDK adds them up). The usage, which the stream's end tells, is its own.
"""

import secrets
from collections.abc import Iterable

from deployments.errors import failed
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonValue, parse_leniently
from deployments.providers.joined.runs import Runs
from deployments.providers.openai.stream.content import choices_of
from deployments.providers.sse import has_event, payloads

SLICE = 32 * 1024  # bytes of frames that are parsed in one step
_OF_CHUNKS = frozenset({"choices", "object", "usage", "obfuscation"})  # `obfuscation` is OpenAI's padding
_ONCE = frozenset({"id", "type", "role"})  # texts of a delta that are told once, however often
_PIECES = frozenset(
    {"name", "arguments", "text", "thinking", "summary", "data", "signature", "transcript", "content", "refusal"}
)  # texts of objects inside a delta that come in pieces; of others, such as a `format`, each piece has all
_RUNS = frozenset({"text", "thinking"})  # parts of a content that go on with the one before, as Mistral's


class ChatJoin:
    """`add` the frames as they come, or the chunks where they are parsed anyway; `body` is the whole answer."""

    def __init__(self) -> None:
        self.by_chunks = False  # whether the adapter adds the chunks: its frames say nothing more then
        self._raw: list[bytes] = []
        self._size = 0
        self._answer: JsonDict = {}
        self._choices: dict[int, JsonDict] = {}
        self._usage: JsonValue = None
        self._runs = Runs()

    def add(self, frames: bytes) -> None:
        """Add whole frames, unless their chunks are added."""
        if self.by_chunks:
            return
        self._raw.append(frames)
        self._size += len(frames)
        if self._size > SLICE:
            self._read()

    def add_chunk(self, event: bytes, chunk: JsonDict) -> None:
        """Add a chunk that is the data of an event; that is empty if a change of the chunk is not in its bytes."""
        self._runs.settle()
        self._runs.learn(event, chunk, self._add(chunk))

    def take_run(self, events: bytes, at: int) -> tuple[int, bool]:
        """Add the events from `at` on that are as the last chunk but for its text, without parsing them.

        Return where those end, and whether any of them says something.
        """
        return self._runs.take(events, at)

    def body(self) -> bytes:
        """Return the completion as JSON. Raises AttemptFailed `malformed` for a choice without a finish reason."""
        self._read()
        choices = [_whole(self._choices[index]) for index in sorted(self._choices)]
        if not choices or not all(choice["finish_reason"] for choice in choices):
            raise failed("malformed", "the stream has a choice without a finish reason", status=200)
        if not self._answer.get("id"):
            self._answer["id"] = f"chatcmpl-{secrets.token_hex(12)}"
        return dump({**self._answer, "object": "chat.completion", "choices": choices, "usage": self._usage})

    def _read(self) -> None:
        data, at = b"".join(self._raw), 0
        self._raw, self._size = [], 0
        while at < len(data):
            end, _ = self._runs.take(data, at)
            if end == at:
                end = data.find(b"\n\n", at) + 2
                for payload in payloads(event := data[at:end]):
                    if has_event(payload):
                        self.add_chunk(event, parse_leniently(payload))
            at = end
        self._runs.settle()

    def _add(self, chunk: JsonDict) -> JsonDict | None:
        """Add a chunk, and return the message to which its last choice belongs."""
        for name, value in chunk.items():
            if name not in _OF_CHUNKS and (value is not None or name not in self._answer):
                self._answer[name] = value
        self._usage = chunk.get("usage") or self._usage
        message: JsonDict | None = None
        for choice in choices_of(chunk):
            index = choice.get("index") or 0
            known = self._choices.get(index)
            if known is None:
                known = self._choices[index] = {"index": index, "message": {}, "logprobs": None, "finish_reason": None}
            _add_choice(known, choice)
            message = known["message"]
        return message


def _add_choice(known: JsonDict, choice: JsonDict) -> None:
    for name, value in choice.items():
        if name == "delta":
            _add_delta(known["message"], value or {})
        elif name == "logprobs":
            known[name] = _with_logprobs(known[name], value)
        elif name != "index" and (value is not None or name not in known):
            known[name] = value


def _with_logprobs(known: JsonValue, more: JsonValue) -> JsonValue:
    if not isinstance(more, dict):
        return known
    if not isinstance(known, dict):
        return dict(more)
    for name, value in more.items():
        had = known.get(name)
        known[name] = [*had, *value] if isinstance(had, list) and isinstance(value, list) else value or had
    return known


def _add_delta(known: JsonDict, delta: JsonDict, *, inner: bool = False) -> None:
    """Add the pieces of one delta, or of an object inside it, where only some texts are pieces."""
    for name, value in delta.items():
        had = known.get(name)
        if had is None or value is None:
            if had is None:
                known[name] = _begun(value)
        elif isinstance(had, str) and isinstance(value, str):
            once = name not in _PIECES if inner else name in _ONCE
            known[name] = value if once else had + value
        elif isinstance(had, dict) and isinstance(value, dict):
            _add_delta(had, value, inner=True)
        elif isinstance(had, str | list) and isinstance(value, str | list):
            known[name] = _parts_of(had)
            _add_items(known[name], _parts_of(value))
        else:
            known[name] = value


def _begun(value: JsonValue) -> JsonValue:
    if not isinstance(value, list):
        return value
    items: list[JsonValue] = []
    _add_items(items, value)
    return items


def _parts_of(value: str | list[JsonValue]) -> list[JsonValue]:
    """Return a content that is a text or a list of parts as a list."""
    if isinstance(value, list):
        return value
    return [{"type": "text", "text": value}] if value else []


def _add_items(known: list[JsonValue], items: Iterable[JsonValue]) -> None:
    """Add the items of a list: those with an index to the one that has it, a part of a text to one before it."""
    for item in items:
        if (same := _same(known, item)) is None:
            known.append({**item} if isinstance(item, dict) else item)
        else:
            _add_delta(same, {name: value for name, value in item.items() if name != "index"}, inner=True)


def _same(known: list[JsonValue], item: JsonValue) -> JsonDict | None:
    """Return the item that this one goes on with; None if it begins another."""
    if not isinstance(item, dict):
        return None
    if "index" in item:
        return next((one for one in known if isinstance(one, dict) and one.get("index") == item["index"]), None)
    last = known[-1] if known else None
    goes_on = item.get("type") in _RUNS and isinstance(last, dict) and last.get("type") == item["type"]
    return last if goes_on else None


def _whole(choice: JsonDict) -> JsonDict:
    """Return a choice as whole answers have it: an index tells the calls of a stream alone."""
    message = choice["message"]
    message.setdefault("role", "assistant")
    message.setdefault("content", None)
    message.setdefault("refusal", None)
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
    if not message["content"] and any(message.get(name) for name in ("tool_calls", "function_call", "audio")):
        message["content"] = None
    return choice
