"""The codec from Gemini's generateContent to OpenAI chat completions: the answer, whole and streamed. Pure.

Answers are read in the API's own JSON shape (camelCase), which outlives the SDK's types.
"""

from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import Head, chunk, completion_of, dump, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject, whole_number
from deployments.openai_api.usage import has_counts
from deployments.providers.base import Call
from deployments.providers.choice import admits, call_delta, choice, tool_call
from deployments.providers.conversation import call_limit
from deployments.providers.google.request import to_generate

__all__ = ["StreamCodec", "finish_of", "from_generate", "to_generate", "usage_from"]

# All of the enum `FinishReason` of google-genai 3.4. CONTINUATION asks to be asked again, and billed again: the answer
# is not whole.
_FINISH = {
    "STOP": "stop",
    **dict.fromkeys(("MAX_TOKENS", "CONTINUATION"), "length"),
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"),
        ),
        "content_filter",
    ),
}
# The others say that the answer is spoiled or missing, so another tier is asked, as for a reason that is not known:
# FINISH_REASON_UNSPECIFIED, OTHER, MALFORMED_FUNCTION_CALL, MALFORMED_RESPONSE, UNEXPECTED_TOOL_CALL (no answer at all:
# agentjido/req_llm#944), TOO_MANY_TOOL_CALLS, MISSING_THOUGHT_SIGNATURE, IMAGE_OTHER, NO_IMAGE. One is our account's.
_ACCOUNT = "PUP_LIMITED_DISABLED"


def finish_of(reason: str, *, calls: int = 0) -> str:
    """Return OpenAI's finish reason; a call ends with STOP too. Raises AttemptFailed for a reason that is a failure."""
    if (finish := _FINISH.get(reason.upper())) is None:
        kind = "credential" if reason == _ACCOUNT else "server_error"
        raise failed(kind, f"the model stopped with {reason}", code=reason)
    return "tool_calls" if calls and finish == "stop" else finish


def usage_from(usage: JsonObject) -> JsonDict | None:
    """Return OpenAI's usage; None if Gemini tells no tokens."""
    told = [usage.get(f"{name}TokenCount") for name in ("prompt", "toolUsePrompt", "candidates", "thoughts", "total")]
    if not has_counts(told):
        return None
    before, tools, answer, thoughts, total = (whole_number(figure) or 0 for figure in told)
    prompt = before + tools
    # Gemini counts thoughts beside the candidates, OpenAI within the completion. Where there is a total, it decides.
    done = answer + thoughts if total != prompt + answer or thoughts > answer else answer
    done = max(done, total - prompt)
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


def from_generate(response: JsonObject, call: Call) -> tuple[bytes, JsonDict | None]:
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
    finish: str | None = None


@dataclass(slots=True)
class StreamCodec:
    """Gemini's chunks to frames. Usage is cumulative: the last one counts.

    Some models say STOP in each chunk (songquanpeng/one-api#1408), and only the end tells which was the last. So
    finish reasons are no frames of their chunks, but the stream's `tail`.
    """

    head: Head
    limit: int | None = None  # of calls
    finished: bool = False
    usage: JsonDict | None = None
    _choices: dict[int, _ChoiceState] = field(default_factory=dict)
    _over: bool = False

    def frames(self, response: JsonObject) -> tuple[bytes, bool]:
        """Return the frames of one chunk, and whether they hold content."""
        if usage := response.get("usageMetadata"):
            self.usage = usage_from(usage) or self.usage
        candidates = response.get("candidates") or ()
        if not candidates and _is_blocked(response):
            begun = b"" if self._choices else self._begin(0)
            for state in self._choices.values():
                state.finish = "content_filter"
            self.finished = True
            return begun, True
        data, content = b"", False
        for candidate in candidates:
            frames, holds = self._candidate(candidate)
            data, content = data + frames, content or holds
        return data, content

    @property
    def tail(self) -> bytes:
        """The frames that are still to be sent if the stream ends here: those of the finish reasons."""
        ends = [(at, state.finish) for at, state in self._choices.items() if state.finish]
        return b"" if self._over else b"".join(chunk(self.head, {}, finish, index=at) for at, finish in ends)

    def end(self) -> bytes:
        """Return the tail, for the last time."""
        tail, self._over = self.tail, True
        return tail

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
            state.finish, content = finish_of(reason, calls=state.calls), True
            self.finished = all(other.finish for other in self._choices.values())
        return data, content
