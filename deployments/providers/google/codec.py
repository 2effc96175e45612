"""The codec from Gemini's generateContent to OpenAI chat completions: the answer, whole and streamed. Pure.

Answers are read in the API's own JSON shape (camelCase), which outlives the SDK's types.
"""

from dataclasses import dataclass, field

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.chat import Head, chunk, completion_of, dump, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject, whole_number
from deployments.openai_api.usage import has_counts
from deployments.providers.base import Call
from deployments.providers.google.request import to_generate
from deployments.providers.translation.choice import admits, call_delta, choice, tool_call
from deployments.providers.translation.offer import call_limit

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


_MOST_CHOICES = 128  # each is remembered


@dataclass(slots=True)
class _CandidateParts:
    """The parts of one candidate in a response or a chunk."""

    text: str = ""
    reasoning: str = ""
    calls: list[JsonDict] = field(default_factory=list)
    signature: str | None = None  # of a text; a call has its own
    images: list[JsonDict] = field(default_factory=list)
    others: list[JsonDict] = field(default_factory=list)  # what OpenAI's form has no place for

    @property
    def says_nothing(self) -> bool:
        return not (self.text or self.reasoning or self.calls or self.images or self.others)

    @property
    def extra(self) -> JsonDict | None:
        """What only Gemini's own form can hold, as `extra_content`."""
        found = {"thought_signature": self.signature, "parts": self.others}
        return {"google": {key: value for key, value in found.items() if value}} if any(found.values()) else None

    def take(self, part: JsonObject) -> None:
        """Keep a part that is no call and no thought, in the form in which a client can read it."""
        text, image = _as_text(part), _as_image(part)
        if image is not None:
            self.images.append(image)
        elif text is None and (other := {key: value for key, value in part.items() if key not in _NO_PART}):
            self.others.append(other)
        self.text += text or ""
        self.signature = part.get("thoughtSignature") or self.signature


_NO_PART = frozenset({"text", "thought", "thoughtSignature", "partMetadata"})  # they say nothing beside a part


def _as_text(part: JsonObject) -> str | None:
    """Return a part that can be read as text; None for any other. Code and its output are fenced, as in Markdown."""
    if code := part.get("executableCode"):
        return f"\n```{(code.get('language') or '').lower()}\n{code.get('code') or ''}\n```\n"
    if result := part.get("codeExecutionResult"):
        return f"\n```\n{result.get('output') or result.get('outcome') or ''}\n```\n"
    return part.get("text")


def _as_image(part: JsonObject) -> JsonDict | None:
    """Return a picture in the form that OpenRouter gives it ("Image generation", `images`); None for anything else."""
    data = part.get("inlineData") or {}
    if not (kind := data.get("mimeType") or "").startswith("image/"):
        return None
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data.get('data') or ''}"}}


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
            parts.take(part)
    return parts


_NOTHING_SAID = "the model stopped before it said anything"


def _is_empty(reason: str, usage: JsonObject | None) -> bool:
    """Return whether an answer that holds nothing is none: it was to be whole, and no token of it was counted.

    Gemini ends so now and then (BerriAI/litellm#24442). Where it counts tokens, it has thought of something, or
    a client's stop sequence came first.
    """
    return reason.upper() == "STOP" and not (usage or {}).get("completion_tokens")


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
        if candidates and all(_holds_nothing(candidate, usage) for candidate in candidates):
            raise failed("empty", _NOTHING_SAID, status=200)
    if not choices:
        raise failed("malformed", "the provider's answer has no candidate with a finish reason", status=200)
    return dump(completion_of(Head.new(call.name), choices, usage)), usage


def _holds_nothing(candidate: JsonObject, usage: JsonObject | None) -> bool:
    return _is_empty(candidate["finishReason"], usage) and _read_candidate(candidate, 0, None).says_nothing


def _is_blocked(response: JsonObject) -> bool:
    return bool((response.get("promptFeedback") or {}).get("blockReason"))


def _choice(index: int, candidate: JsonObject, call: Call) -> JsonDict:
    reason = candidate.get("finishReason")
    if not reason:
        raise failed("malformed", "the provider's answer has a candidate without a finish reason", status=200)
    parts = _read_candidate(candidate, 0, call_limit(call.body))
    made = choice(
        candidate.get("index") or index,
        parts.text,
        finish_of(reason, calls=len(parts.calls)),
        tool_calls=parts.calls,
        reasoning=parts.reasoning,
        extra=parts.extra,
        logprobs=logprobs_from(candidate.get("logprobsResult")),
    )
    if parts.images:
        made["message"]["images"] = parts.images
    return made


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
    _said: bool = False

    @property
    def end_failure(self) -> AttemptFailed | None:
        """Why a stream that ends here has failed; None if it is whole."""
        if self.finished:
            return None
        if not self._choices or not all(state.finish for state in self._choices.values()):
            return failed("broken", "the stream ended without a finish reason")
        return failed("empty", _NOTHING_SAID) if _is_empty("STOP", self.usage) else None

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
        if not self.finished and self._choices and self.end_failure is None:
            self.finished = content = True  # tokens that were told behind the finish reason: it was an answer
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
        if len(self._choices) >= _MOST_CHOICES:
            raise failed("malformed", f"the stream has more than {_MOST_CHOICES} candidates", status=200)
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
        if parts.images:
            deltas.append({"images": parts.images})
        content = bool(deltas or parts.others)
        self._said = self._said or content
        if extra := parts.extra:
            deltas.append({"extra_content": extra})
        logprobs = logprobs_from(candidate.get("logprobsResult"))
        if logprobs and not deltas:
            deltas.append({})
        for delta in deltas:
            data += chunk(self.head, delta, index=index, logprobs=logprobs)
            logprobs = None
        if reason := candidate.get("finishReason"):
            state.finish = finish_of(reason, calls=state.calls)
            empty = not self._said and _is_empty(reason, self.usage)
            content = not empty or content
            self.finished = not empty and all(other.finish for other in self._choices.values())
        return data, content
