"""An answer that comes in blocks, as Converse and Anthropic send it: text, reasoning, calls. Pure.

Both tell a block's beginning, its pieces and its end. Here these become a chat completion, whole or in frames. Signed
reasoning is kept for the text or the call that it led to, and goes out with that as `extra_content`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import Head, chunk, completion_of, dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.translation.choice import admits, arguments_delta, call_delta, choice, tool_call

MOST_REASONING = 16 * 1024 * 1024  # characters: all of it is kept, and goes back with the call that it belongs to


def finish_in(words: Mapping[str, str], reason: str, *, calls: int = 0) -> str:
    """Return OpenAI's finish reason for a vendor's word. Raises `server_error` for one that is not known.

    Nobody can tell whether an answer with such a word is whole.
    """
    if (finish := words.get(reason)) is None:
        raise failed("server_error", f"the model stopped with {reason}", code=reason)
    if finish in ("stop", "tool_calls"):  # the stop reason does not always agree with the calls
        return "tool_calls" if calls else "stop"
    return finish


@dataclass(slots=True)
class Reasoning:
    """The reasoning so far, and its signed blocks until the call or the end that they belong to.

    Attributes:
        kind: of provider, which gets them back.
        signer: whose signatures they are, if those hold at other kinds too.
        write: makes a text of redacted reasoning.
        texts: what can be shown of it.
    """

    kind: str
    signer: str | None = None
    write: Callable[[bytes], str] = bytes.decode
    texts: list[str] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _signature: str | None = None
    _redacted: bytes = b""
    _blocks: list[dict[str, str]] = field(default_factory=list)
    _size: int = 0

    def say(self, text: str) -> None:
        self._grow(len(text))
        self.texts.append(text)
        self._text.append(text)

    def sign(self, signature: str) -> None:
        self._grow(len(signature))
        self._signature = (self._signature or "") + signature

    def redact(self, data: bytes) -> None:
        self._grow(len(data))
        self._redacted += data

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MOST_REASONING:
            raise failed("malformed", f"more than {MOST_REASONING // 2**20} MiB of reasoning", status=200)

    def close(self) -> None:
        """End a block, and keep it if it is signed: no vendor takes another back."""
        if self._signature is not None:
            self._blocks.append({"text": "".join(self._text), "signature": self._signature})
        if self._redacted:
            self._blocks.append({"redacted": self.write(self._redacted)})
        self._text, self._signature, self._redacted = [], None, b""

    def kept(self) -> JsonDict | None:
        """Return the signed blocks since the last call, as `extra_content`."""
        blocks, self._blocks = self._blocks, []
        if not blocks:
            return None
        return {self.kind: {"reasoning": blocks, **({"signer": self.signer} if self.signer else {})}}


@dataclass(slots=True)
class BlockAnswer:
    """A whole answer, block by block. `limit` is how many calls it may hold."""

    reasoning: Reasoning
    limit: int | None = None
    texts: list[str] = field(default_factory=list)
    calls: list[JsonDict] = field(default_factory=list)
    _extra: JsonDict | None = None  # what is signed before the first text, as in a stream

    def text(self, text: str) -> None:
        self.texts.append(text)
        self._extra = self._extra or self.reasoning.kept()

    def call(self, key: str, name: str, arguments: JsonValue) -> None:
        if admits(len(self.calls), self.limit):
            self.calls.append(tool_call(key, name, arguments, self.reasoning.kept()))

    def completion(self, name: str, finish: str, usage: JsonObject | None) -> bytes:
        """Return the completion's JSON body."""
        extra = self._extra or self.reasoning.kept()
        thoughts = "".join(self.reasoning.texts)
        made = choice(0, "".join(self.texts), finish, tool_calls=self.calls, reasoning=thoughts, extra=extra)
        return dump(completion_of(Head.new(name), [made], usage))


Batch = tuple[bytes, bool]  # frames, and whether they hold content
NOTHING: Batch = (b"", False)


@dataclass(slots=True)
class BlockStream:
    """A stream, block by block. Each method returns the frames that are due. `limit` is how many calls it may hold."""

    head: Head
    reasoning: Reasoning
    limit: int | None = None
    calls: int = 0
    _open: str | None = None  # the arguments' state of the call that is open: None, "empty", "begun", "withheld"
    _told: bool = False

    def begin(self) -> Batch:
        return chunk(self.head, {"role": "assistant", "content": ""}), False

    def text(self, text: str) -> Batch:
        if not text:
            return NOTHING
        extra = self._extra()
        return chunk(self.head, {"content": text, "extra_content": extra} if extra else {"content": text}), True

    def think(self, text: str) -> Batch:
        if not text:
            return NOTHING
        self.reasoning.say(text)
        return chunk(self.head, {"reasoning_content": text}), True

    def call(self, key: str, name: str) -> Batch:
        if not admits(self.calls, self.limit):
            self._open = "withheld"
            return NOTHING
        self._open, self.calls = "empty", self.calls + 1
        call = tool_call(key, name, "", self.reasoning.kept())
        return chunk(self.head, call_delta(self.calls - 1, call)), True

    def arguments(self, piece: str) -> Batch:
        if not piece or self._open not in ("empty", "begun"):
            return NOTHING
        self._open = "begun"
        return chunk(self.head, arguments_delta(self.calls - 1, piece)), True

    def close(self) -> Batch:
        """End a block. A call without arguments streams none; OpenAI's are always an object."""
        self.reasoning.close()
        was, self._open = self._open, None
        return (chunk(self.head, arguments_delta(self.calls - 1, "{}")), True) if was == "empty" else NOTHING

    def end(self, finish: str) -> Batch:
        extra = self._extra()
        data = chunk(self.head, {"extra_content": extra}) if extra else b""
        return data + chunk(self.head, {}, finish), True

    def _extra(self) -> JsonDict | None:
        """Return what is signed before a text or the end, once: clients can't join two lists of objects.

        A client of another API must have it before the text: there the signature is a part of the thoughts.
        """
        extra = None if self._told else self.reasoning.kept()
        self._told = self._told or extra is not None
        return extra
