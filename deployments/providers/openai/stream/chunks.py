"""What each chunk of a stream holds, once it is parsed: its texts, its calls, its finish reasons, its usage. Pure.

What servers write otherwise is put right in the chunk itself: a whole answer becomes a delta, each tool call gets an
index, and each finish reason is one of OpenAI's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from deployments.errors import failed
from deployments.openai_api.json_types import JsonDict, JsonValue
from deployments.openai_api.usage import account_of, groq_usage
from deployments.providers.openai.stream.calls import MOST_CALLS, CallNumbers
from deployments.providers.openai.stream.content import index_of, read_keys
from deployments.providers.openai.stream.finish import finish_word

MOST_CHOICES = 128  # OpenAI's own bound of `n`


class Held(Struct, frozen=True):
    """What one chunk holds.

    Attributes:
        keys: of the deltas, with what a client would read.
        ends: the choices that have a finish reason.
        changed: whether something was put right.
        account: the usage that it tells, where that can be counted.
        usage_alone: whether it is a frame of the usage, and of nothing else.
        usage: what such a frame tells; None if those are figures that can't be counted, and others could be.
    """

    keys: Sequence[str] = ()
    ends: Sequence[JsonDict] = ()
    changed: bool = False
    account: JsonDict | None = None
    usage_alone: bool = False
    usage: JsonDict | None = None


@dataclass(slots=True)
class ChunkReader:
    """What is known of a stream.

    Attributes:
        usage: that the provider has told last.
        tier: the service tier that the frame of the usage tells.
        ended: the choices that have a finish reason.
    """

    usage: JsonDict | None = None
    tier: JsonValue = None
    ended: set[int] = field(default_factory=set)
    _calls: dict[int, CallNumbers] = field(default_factory=dict)

    def read(self, data: JsonDict, choices: list[JsonDict]) -> Held:
        """Return what a chunk with these choices holds. Raises AttemptFailed for a finish reason that is no good end.

        A usage that stands beside choices is taken out of the chunk.
        """
        changed, account = _as_deltas(data, choices), None
        if data.get("usage") or "x_groq" in data:
            account = self._take_usage(data)
            if not choices and isinstance(told := data.get("usage"), dict) and told:
                usage = told if account is None and self.usage is None else account
                return Held(changed=changed, account=account, usage_alone=True, usage=usage)
            changed = data.pop("usage", None) is not None or changed
        keys: list[str] = []
        ends: list[JsonDict] = []
        for choice in choices:
            changed = self._take_choice(choice) or changed
            keys += read_keys(choice.get("delta"))
            if choice.get("finish_reason"):
                ends.append(choice)
        if ends:
            self.ended.update(map(index_of, ends))
            _check_number("choices", len(self.ended), MOST_CHOICES)
        return Held(keys, ends, changed, account)

    def _take_usage(self, data: JsonDict) -> JsonDict | None:
        usage = account_of(groq_usage(data))
        if usage is not None:
            self.usage, self.tier = usage, data.get("service_tier")
        return usage

    def _take_choice(self, choice: JsonDict) -> bool:
        """Number its calls and read its finish reason; return whether the choice was changed."""
        delta, changed = choice.get("delta"), False
        if isinstance(delta, dict) and (calls := delta.get("tool_calls")):
            changed = self._calls.setdefault(index_of(choice), CallNumbers()).number(calls)
            _check_number("choices", len(self._calls), MOST_CHOICES)
            _check_number("calls", len(self._calls[index_of(choice)]), MOST_CALLS)
        reason = choice.get("finish_reason")
        if reason and (word := finish_word(reason)) != reason:
            choice["finish_reason"] = word
            changed = True
        return changed


def _as_deltas(data: JsonDict, choices: Sequence[JsonDict]) -> bool:
    """Read an answer that came whole, though a stream was asked for, as one chunk; return whether it is one."""
    whole = False
    for choice in choices:
        if "delta" not in choice and isinstance(choice.get("message"), dict):
            choice["delta"] = choice.pop("message")
            data["object"], whole = "chat.completion.chunk", True
    return whole


def _check_number(what: str, number: int, most: int) -> None:
    """Raise AttemptFailed for a stream that names more of something than an answer has: each is remembered."""
    if number > most:
        raise failed("malformed", f"the stream has more than {most} {what}", status=200)
