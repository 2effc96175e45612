"""An earlier answer in a request, as the assistant's message of a chat. Pure.

A thinking block of ours has the envelope as its signature, and what is in it goes back to the message and the calls
that it belongs to. Another's signature came with an answer that passed as it was: it goes along with the text or the
call that follows it, for targets that serve the same models. Thoughts that nobody has signed are of no use to any
provider here (better-ccflare#52), and their text is no answer: they are left out and named. So are the blocks of tools
that Anthropic's servers have run.
"""

from dataclasses import dataclass, field

from deployments.doors.envelope import Envelope, absorb, is_sealed, unseal
from deployments.doors.messages.request.blocks import part_of, plain
from deployments.doors.messages.request.shapes import SHAPES, check
from deployments.errors import BadRequest
from deployments.openai_api.cache_marks import mark_in
from deployments.openai_api.chat import dump
from deployments.openai_api.found import MARK, Found, name_unknown, says_something
from deployments.openai_api.json_types import JsonDict, JsonValue

_CALL = frozenset({"type", "id", "name", "input", "caller", MARK})
_THOUGHT = frozenset({"type", "thinking", "signature", "data"})
_OF_USERS = frozenset({"image", "document", "search_result", "tool_result", "tool_reference", "container_upload"})
_TEXTS = frozenset({"text", "compaction"})
AS_TOLD = "messages"  # in `extra_content`, of thoughts as this API has told them: by which model, nobody knows


@dataclass(slots=True)
class _Answer:
    """What the blocks of one answer have said so far. `kept` and `extras` are of the message and of its calls."""

    found: Found
    texts: list[JsonDict] = field(default_factory=list)
    calls: list[JsonDict] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    kept: JsonDict = field(default_factory=dict)
    extras: JsonDict = field(default_factory=dict)
    signed: list[JsonDict] = field(default_factory=list)
    mark: JsonDict | None = None

    def take(self, block: JsonDict, path: str) -> None:
        kind = block["type"]
        if kind in _TEXTS:
            absorb(self.kept, self._signed())
            self.texts += part_of(block, path, self.found)
        elif kind == "tool_use":
            self._take_call(block, path)
        elif kind in ("thinking", "redacted_thinking"):
            self._take_thought(block, path)
        elif kind in _OF_USERS:
            raise BadRequest(f"Invalid '{path}.type': a block of this type can't stand in an answer.", f"{path}.type")
        else:
            self.found.dropped.append(path)

    def _take_call(self, block: JsonDict, path: str) -> None:
        check(SHAPES["tool_use"], block, path)
        name_unknown(block, _CALL, path, self.found)
        if says_something(caller := block.get("caller")) and caller != {"type": "direct"}:
            self.found.dropped.append(f"{path}.caller")
        function = {"name": block["name"], "arguments": dump(block["input"]).decode()}
        self.calls.append({"id": block["id"], "type": "function", "function": function})
        if self.signed:
            absorb(self.extras.setdefault(block["id"], {}), self._signed())
        if (mark := mark_in(block)) is not None:
            if self.mark is not None:  # of several the last covers all
                self.found.dropped.append(f"{path}.{MARK}")
            self.mark = dict(mark)

    def _take_thought(self, block: JsonDict, path: str) -> None:
        check(SHAPES[block["type"]], block, path)
        name_unknown(block, _THOUGHT, path, self.found)
        proof = block.get("signature") or block.get("data")
        envelope = unseal(proof)
        if envelope is None and proof and not is_sealed(proof):
            known = block["type"] == "thinking"
            self.signed.append({"text": block["thinking"], "signature": proof} if known else {"redacted": proof})
            return
        if envelope is None:
            if says_something(block.get("thinking")) or says_something(block.get("data")):
                self.found.dropped.append(path)
            return
        self._open(envelope)
        if text := block.get("thinking"):
            self.thoughts.append(text)

    def _signed(self) -> JsonDict:
        """Return the thoughts that wait for what they led to, as `extra_content`."""
        blocks, self.signed = self.signed, []
        return {AS_TOLD: {"reasoning": blocks}} if blocks else {}

    def _open(self, envelope: Envelope) -> None:
        absorb(self.kept, envelope.message)
        self.extras |= envelope.calls

    def message(self) -> JsonDict | None:
        """Return the message; None if nothing is left that a model could read."""
        if not (self.calls or any(part["text"] for part in self.texts)):
            return None
        content = plain(self.texts) if self.texts else None
        made: JsonDict = {"role": "assistant", "content": content or None}
        if self.calls:
            made["tool_calls"] = [self._with_extra(call) for call in self.calls]
        more = {"reasoning_content": "".join(self.thoughts), "extra_content": self.kept, MARK: self.mark}
        return made | {name: value for name, value in more.items() if value}

    def _with_extra(self, call: JsonDict) -> JsonDict:
        extra = self.extras.get(call["id"])
        return {**call, "extra_content": extra} if extra else call


def answer_of(content: JsonValue, path: str, found: Found) -> JsonDict | None:
    """Return an answer's content as a message; None if there is nothing to send. Raises BadRequest.

    Texts stand before the calls, wherever they were: a chat has no other order (Alishahryar1/free-claude-code#206).
    """
    if isinstance(content, str):
        return {"role": "assistant", "content": content} if content else None
    answer = _Answer(found)
    for at, block in enumerate(content):
        answer.take(block, f"{path}.{at}")
    made = answer.message()
    if answer.signed or (made is None and (answer.thoughts or answer.kept)):
        found.dropped.append(path)  # no provider takes back thoughts alone
    return made
