"""A request of the Responses API as its client wrote it, and the server's own answer to it. Pure.

The answer goes on as it came: whole, or event by event. It is only watched: where its content begins, what it has used,
and whether it is whole. So what no chat has words for (hosted tools, their events, citations of files) is not lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.usage import with_tier
from deployments.providers.base import Call, Completed, End
from deployments.providers.openai.responses_api.endings import chat_usage, failure_of
from deployments.providers.openai.responses_api.kept_items import kept_in
from deployments.providers.openai.responses_api.request import LEAST_TOKENS
from deployments.providers.openai.responses_api.terms import ENCRYPTED, Terms
from deployments.providers.sse import named_frame

_QUIET = frozenset({"message", "reasoning"})  # items that say nothing before their first delta
_OPENINGS = frozenset({"response.content_part.added", "response.reasoning_summary_part.added"})
_ENDS = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"response.failed", "response.cancelled"})


def wants_reasoning(body: JsonObject) -> bool:
    """Return whether the client asks for the reasoning in the form that comes back."""
    return ENCRYPTED in (body.get("include") or ())


def native_body(call: Call, terms: Terms, *, stream: bool) -> JsonDict:
    """Return the request's body: the client's, with what is not the client's to decide."""
    body = {**call.body, "model": call.model, "store": False, "stream": stream}
    others = [name for name in body.pop("include", None) or () if name != ENCRYPTED]
    if include := [*others, *([ENCRYPTED] if terms.encrypted else [])]:
        body["include"] = include
    if (most := body.get("max_output_tokens")) is not None:
        body["max_output_tokens"] = max(most, LEAST_TOKENS)
    if isinstance(given := body["input"], list):
        body["input"] = _items(given, reasoning=terms.earlier)
    return body


_OPENED = "extra_content"  # the type of an item that stands for what an earlier answer has left in an envelope


def _items(given: Sequence[JsonObject], *, reasoning: bool) -> list[JsonObject]:
    """Return the items with those that earlier answers have left, and without reasoning that can't go back."""
    items, lost = list[JsonObject](), False
    for item in given:
        opened = kept_in(item[_OPENED]) if item.get("type") == _OPENED else [item]
        kept = opened if reasoning else [one for one in opened if one.get("type") != "reasoning"]
        lost = lost or not kept or len(kept) < len(opened)
        items += kept
    followed = _without_loose(items)
    return [_unpaired(item) for item in followed] if lost or len(followed) < len(items) else followed


def _without_loose(items: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the items without reasoning that no answer follows.

    OpenAI refuses "item of type 'reasoning' provided without its required following item" (continuedev/continue#8933).
    """
    found = list[JsonObject]()
    for item in reversed(items):
        if item.get("type") != "reasoning" or (found and _is_answer(found[-1])):
            found.append(item)
    return found[::-1]


def _is_answer(item: JsonObject) -> bool:
    """Return whether it is the model that speaks, or calls."""
    kind, role = item.get("type") or "message", item.get("role")
    return bool(role == "assistant" if kind == "message" else not kind.endswith("_output"))


def _unpaired(item: JsonObject) -> JsonObject:
    """Return an item without its id, where it may be without one.

    By the id OpenAI knows which reasoning it wants before it: "was provided without its required 'reasoning' item"
    (TanStack/ai#1212, laravel/ai#1052).
    """
    if (item.get("type") or "message") not in _FREE:
        return item
    return {name: value for name, value in item.items() if name != "id"}


_FREE = frozenset({"message", "function_call", "custom_tool_call"})


def native_answer(answer: JsonObject, data: bytes) -> Completed:
    """Return a whole answer, of which `data` are the bytes. Raises AttemptFailed for one that is none, or failed."""
    output, status = answer.get("output"), answer.get("status")
    if not isinstance(output, list) or answer.get("object", "response") != "response":
        raise failed("malformed", "the answer is no response with an output", status=200)
    if status in ("failed", "cancelled"):
        raise failure_of(answer.get("error"))
    if status not in ("completed", "incomplete", None):
        raise failed("malformed", f"the response is {str(status)[:50]!r}", status=200)
    body = data if data.lstrip()[:1] == b"{" else dump(answer)
    return Completed(body, _usage_in(answer), native=True)


def _usage_in(response: JsonObject) -> JsonDict | None:
    return with_tier(chat_usage(response.get("usage")), response.get("service_tier"))


@dataclass(slots=True)
class NativeReader:
    """One stream. `finished`, `usage` and `model` are as of `EventReader`."""

    finished: bool = False
    usage: JsonDict | None = None
    model: JsonValue = None

    def read(self, event: JsonObject, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield the frame of one event, of which `data` are the bytes, and whether it holds content.

        Raises AttemptFailed. A response that failed is told nevertheless: its client may have had a part of it.
        """
        kind = str(event.get("type"))
        if self.finished or not (kind.startswith("response.") or kind == "error"):
            return  # `keepalive`, say
        if kind == "error":
            inner = event.get("error")
            raise failure_of(inner if isinstance(inner, dict) else event)
        failure = self._hear(kind, event["response"]) if "response" in event else None
        if failure is None or kind == "response.failed":
            yield named_frame(kind, event, data), failure is None and _is_content(kind, event)
        if failure is not None:
            raise failure

    def _hear(self, kind: str, response: JsonObject) -> AttemptFailed | None:
        """Take what an event says of the response as a whole. Return how it failed, if it did."""
        self.model = response.get("model") or self.model
        self.usage = _usage_in(response) or self.usage
        if kind in _FAILURES or response.get("status") in ("failed", "cancelled"):
            return failure_of(response.get("error"))
        if kind in _ENDS:
            if not isinstance(response.get("output"), list):
                raise failed("malformed", "the stream ended with a response without an output", status=200)
            self.finished = True
        return None

    def end(self, _: Call) -> End:
        return End(self.usage)


def _is_content(kind: str, event: JsonObject) -> bool:
    """Return whether an answer has begun with this event: a client reads it, or a tool that is paid is at work.

    An answer may be told by `done` alone, or by the response at its end. Nobody can read encrypted reasoning.
    """
    if kind.endswith(".delta"):
        return bool(event.get("delta"))
    if kind == "response.output_item.added":
        return bool(event["item"]["type"] not in _QUIET)
    if kind == "response.output_item.done":
        return bool(event["item"]["type"] != "reasoning")
    if kind == "response.completed":
        return any(item["type"] != "reasoning" for item in event["response"]["output"])
    return kind == "response.incomplete" or ("output_index" in event and kind not in _OPENINGS)
