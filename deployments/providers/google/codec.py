"""The codec from Gemini's generateContent to OpenAI chat completions: the answer, whole and streamed. Pure.

Answers are read in the API's own JSON shape (camelCase), which outlives the SDK's types.
"""

from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import Head, chunk, completion_of, dump, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.base import Call
from deployments.providers.choice import admits, call_delta, choice, tool_call
from deployments.providers.conversation import call_limit
from deployments.providers.google.request import to_generate

__all__ = ["StreamCodec", "finish_of", "from_generate", "to_generate", "usage_from"]

# CONTINUATION asks to be asked again, and billed again: the answer is not whole.
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
_SPOILED = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "OTHER", "UNEXPECTED_TOOL_CALL"),
        *("TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "FINISH_REASON_UNSPECIFIED"),
    }
)


def finish_of(reason: str, *, calls: int = 0) -> str:
    """Return OpenAI's finish reason. SAFETY and its many kin are content filters; a call ends with STOP too."""
    if reason in _SPOILED:
        raise failed("server_error", f"the model stopped with {reason}", code=reason)
    if calls and reason == "STOP":
        return "tool_calls"
    return _FINISH.get(reason, "content_filter")


def usage_from(usage: JsonObject) -> JsonDict:
    # Gemini counts thoughts beside the candidates, OpenAI within the completion.
    thoughts = usage.get("thoughtsTokenCount") or 0
    done = (usage.get("candidatesTokenCount") or 0) + thoughts
    prompt = (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0)
    return usage_of(prompt, done, cached=usage.get("cachedContentTokenCount"), reasoning=thoughts)


@dataclass(slots=True)
class _CandidateParts:
    """The parts of one candidate in a response or a chunk."""

    text: str = ""
    reasoning: str = ""
    calls: list[JsonDict] = field(default_factory=list)
    signature: str | None = None  # of a text; a call has its own


def _read_candidate(candidate: JsonObject, made: int, limit: int | None) -> _CandidateParts:
    """Return the candidate's parts. `made` is the number of its calls in earlier chunks."""
    parts = _CandidateParts()
    for part in (candidate.get("content") or {}).get("parts") or ():
        signature = part.get("thoughtSignature")
        if part.get("functionCall"):
            if admits(made + len(parts.calls), limit):
                made_by = part["functionCall"]
                call = tool_call(made_by.get("id"), made_by.get("name") or "", made_by.get("args"), _extra(signature))
                parts.calls.append(call)
        elif part.get("thought"):
            parts.reasoning += part.get("text") or ""
        else:
            parts.text += part.get("text") or ""
            parts.signature = signature or parts.signature
    return parts


def _extra(signature: str | None) -> JsonDict | None:
    return {"google": {"thought_signature": signature}} if signature else None


def from_generate(response: JsonObject, call: Call) -> tuple[bytes, JsonDict]:
    """Return the completion's JSON body and its usage. A blocked prompt is an answer: the model's refusal."""
    usage = usage_from(response.get("usageMetadata") or {})
    candidates = response.get("candidates") or []
    if _is_blocked(response):
        choices = [choice(0, "", "content_filter")]
    else:
        choices = [_choice(index, candidate, call) for index, candidate in enumerate(candidates)]
    if not choices:
        raise failed("malformed", "the provider's answer has no candidate with a finish reason", status=200)
    return dump(completion_of(Head.new(call.name), choices, usage)), usage


def _is_blocked(response: JsonObject) -> bool:
    return bool((response.get("promptFeedback") or {}).get("blockReason"))


def _choice(index: int, candidate: JsonObject, call: Call) -> JsonDict:
    reason = candidate.get("finishReason")
    if not reason:
        raise failed("malformed", "the provider's answer has a candidate without a finish reason", status=200)
    parts = _read_candidate(candidate, 0, call_limit(call.body))
    return choice(
        candidate.get("index") or index,
        parts.text,
        finish_of(reason, calls=len(parts.calls)),
        tool_calls=parts.calls,
        reasoning=parts.reasoning,
        extra=_extra(parts.signature),
        logprobs=logprobs_from(candidate.get("logprobsResult")),
    )


def logprobs_from(result: JsonObject | None) -> JsonDict | None:
    """Return OpenAI's log probabilities; None where none were asked for."""
    if not result:
        return None
    chosen = result.get("chosenCandidates") or []
    tops = [top.get("candidates") or [] for top in result.get("topCandidates") or ()]
    tops += [[]] * (len(chosen) - len(tops))
    content = [
        {**_token(token), "top_logprobs": [_token(other) for other in others]}
        for token, others in zip(chosen, tops, strict=False)
    ]
    return {"content": content, "refusal": None}


def _token(candidate: JsonObject) -> JsonDict:
    token = candidate.get("token") or ""
    return {"token": token, "logprob": candidate.get("logProbability") or 0.0, "bytes": list(token.encode())}


@dataclass(slots=True)
class _ChoiceState:
    """The state of a choice whose stream has begun."""

    calls: int = 0
    finished: bool = False


@dataclass(slots=True)
class StreamCodec:
    """Gemini's chunks to frames. Usage is cumulative: the last one counts."""

    head: Head
    limit: int | None = None  # of calls
    finished: bool = False
    usage: JsonDict | None = None
    _choices: dict[int, _ChoiceState] = field(default_factory=dict)

    def frames(self, response: JsonObject) -> tuple[bytes, bool]:
        """Return the frames of one chunk, and whether they hold content."""
        if usage := response.get("usageMetadata"):
            self.usage = usage_from(usage)
        candidates = response.get("candidates") or ()
        if not candidates and _is_blocked(response):
            begun = b"" if self._choices else self._begin(0)
            self.finished = True
            return begun + chunk(self.head, {}, "content_filter"), True
        data, content = b"", False
        for candidate in candidates:
            frames, holds = self._candidate(candidate)
            data, content = data + frames, content or holds
        return data, content

    def _begin(self, index: int) -> bytes:
        self._choices[index] = _ChoiceState()
        self.finished = False
        return chunk(self.head, {"role": "assistant", "content": ""}, index=index)

    def _candidate(self, candidate: JsonObject) -> tuple[bytes, bool]:
        index = candidate.get("index") or 0
        data = b"" if index in self._choices else self._begin(index)
        state = self._choices[index]
        parts = _read_candidate(candidate, state.calls, self.limit)
        deltas: list[JsonDict] = []
        if parts.reasoning:
            deltas.append({"reasoning_content": parts.reasoning})
        if parts.text:
            deltas.append({"content": parts.text})
        for call in parts.calls:
            deltas.append(call_delta(state.calls, call))
            state.calls += 1
        content = bool(deltas)
        if extra := _extra(parts.signature):
            deltas.append({"extra_content": extra})
        logprobs = logprobs_from(candidate.get("logprobsResult"))
        if logprobs and not deltas:
            deltas.append({})
        for delta in deltas:
            data += chunk(self.head, delta, index=index, logprobs=logprobs)
            logprobs = None
        if reason := candidate.get("finishReason"):
            data += chunk(self.head, {}, finish_of(reason, calls=state.calls), index=index)
            state.finished = content = True
            self.finished = all(other.finished for other in self._choices.values())
        return data, content
