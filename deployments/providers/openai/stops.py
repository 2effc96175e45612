"""Stop sequences for a model that takes none: the answer is cut here, where the model would have stopped. Pure.

Reasoning models refuse `stop`. So it is not sent, and what the client gets ends before the first stop sequence, with
the finish reason `stop`. A stream holds back what may be the beginning of one. Only an answer that was asked for with
stop sequences, by a model that refuses them, comes through here: its frames are parsed.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.openai_api.chat import frame, stops_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently
from deployments.providers.base import Call
from deployments.providers.openai.stream.content import choices_of, index_of


def cut_answer(answer: JsonObject, stops: Sequence[str]) -> JsonDict:
    """Return a whole answer, each choice of which ends before its first stop sequence."""
    return {**answer, "choices": [_cut_choice(choice, stops) for choice in answer["choices"]]}


def _cut_choice(choice: JsonObject, stops: Sequence[str]) -> JsonObject:
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice
    text, others = _text_in(message.get("content"))
    if (at := _first(text, stops)) < 0:
        return choice
    # A model writes its text before its calls: had it stopped there, it would have called no tool.
    kept = {key: value for key, value in message.items() if key not in _CALLS}
    return {**choice, "message": {**kept, "content": _content(text[:at], others)}, "finish_reason": "stop"}


_CALLS = ("tool_calls", "function_call")


def _text_in(content: JsonValue) -> tuple[str, list[JsonValue]]:
    """Return the text of a content, which may be a list of parts, and the parts that are no text."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else "", []
    texts = [part for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "".join(part["text"] for part in texts), [part for part in content if part not in texts]


def _content(text: str, others: Sequence[JsonValue]) -> JsonValue:
    return [*others, {"type": "text", "text": text}] if others else text


def _first(text: str, stops: Sequence[str]) -> int:
    """Return where the stop sequence begins that is complete first, as a model that writes on would meet it; or -1."""
    return min(((at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0), default=(-1, -1))[1]


@dataclass(slots=True)
class _Choice:
    held: str = ""  # may be the beginning of a stop sequence
    called: bool = False
    over: bool = False


@dataclass(slots=True)
class StopCutter:
    """Cut the frames of one stream. `over` once each of its `choices` has met a stop sequence."""

    stops: Sequence[str]
    choices: int = 1
    _of: dict[int, _Choice] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return len(self._of) >= self.choices and all(choice.over for choice in self._of.values())

    def tail(self, frames: bytes) -> bytes:
        """Return what the client gets if the stream ends with these frames. It may go on nevertheless."""
        return copy.deepcopy(self).frames(frames) if frames else frames

    def frames(self, frames: bytes) -> bytes:
        """Return whole frames as the client gets them."""
        return b"".join(self._cut_event(event) for event in frames.split(b"\n\n") if event)

    def _cut_event(self, event: bytes) -> bytes:
        if not event.startswith(b"data: {"):
            return event + b"\n\n"
        data = parse_leniently(event[6:])
        if not (choices := choices_of(data)):
            return event + b"\n\n"
        kept = [made for choice in choices if (made := self._cut(choice)) is not None]
        return frame({**data, "choices": kept}) if kept else b""

    def _cut(self, choice: JsonDict) -> JsonObject | None:
        state = self._of.setdefault(index_of(choice), _Choice())
        if state.over:
            return None
        delta = choice.get("delta") or {}
        content = delta.get("content")
        new, others = _text_in(content)
        text = state.held + new
        if (at := _first(text, self.stops)) >= 0:
            state.over = True
            kept = {key: value for key, value in delta.items() if key not in _CALLS}
            # The client has the calls that came before, and waits for this word to make them.
            finish = "tool_calls" if state.called else "stop"
            return {**choice, "delta": {**kept, "content": _content(text[:at], others)}, "finish_reason": finish}
        state.called = state.called or any(delta.get(key) for key in _CALLS)
        ends = bool(choice.get("finish_reason"))
        keep = 0 if ends else _may_begin(text, self.stops)
        state.held, text = text[len(text) - keep :], text[: len(text) - keep]
        if text or content is not None:
            delta = {**delta, "content": _content(text, others)}
        return {**choice, "delta": delta}


class NoCutter:
    """For an answer whose provider keeps to the stop sequences itself."""

    over = False

    @staticmethod
    def frames(frames: bytes) -> bytes:
        return frames

    tail = frames


def stop_cutter(call: Call, kept: bool) -> StopCutter | NoCutter:
    """Return what cuts the frames of this call's stream. `kept`: the provider keeps to stop sequences itself."""
    stops = () if kept else stops_of(call.body)
    return StopCutter(stops, call.body.get("n") or 1) if stops else NoCutter()


def _may_begin(text: str, stops: Sequence[str]) -> int:
    """Return how many of the last characters may begin a stop sequence."""
    longest = min(len(text), max(map(len, stops)) - 1)
    return next((n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in stops)), 0)
