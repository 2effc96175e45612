"""A whole answer of the Responses API as a chat completion. Pure."""

from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import Head, completion_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.openai.responses_api.endings import chat_usage, finish_of
from deployments.providers.openai.responses_api.kept_items import ITEMS, PROVIDER, kept_item
from deployments.providers.openai.responses_api.said import (
    CALL,
    annotation_of,
    arguments_in,
    call_head,
    parts_of,
    thoughts_in,
)
from deployments.providers.translation.choice import choice


@dataclass(slots=True)
class _Message:
    """What the items have said."""

    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[JsonDict] = field(default_factory=list)
    kept: list[JsonDict] = field(default_factory=list)
    annotations: list[JsonDict] = field(default_factory=list)
    logprobs: list[JsonDict] = field(default_factory=list)

    def take(self, item: JsonObject) -> None:
        if item["type"] == "message":
            self._take_message(item)
        elif item["type"] == CALL:
            call = call_head(item)
            call["function"]["arguments"] = arguments_in(item)
            self.calls.append(call)
        else:
            if item["type"] == "reasoning" and (thoughts := thoughts_in(item)):
                self.thoughts.append(thoughts)
            entry = kept_item(len(self.kept), len(self.calls), item, said=bool(self.texts or self.refusals))
            self.kept += entry[PROVIDER][ITEMS]

    def _take_message(self, item: JsonObject) -> None:
        for part in parts_of(item):
            if part.get("type") == "refusal":
                self.refusals.append(str(part.get("refusal") or ""))
            elif isinstance(text := part.get("text"), str):
                self.texts.append(text)
                found = (annotation_of(one) for one in part.get("annotations") or ())
                self.annotations += [one for one in found if one is not None]
                self.logprobs += part.get("logprobs") or []

    def choice(self, finish: str) -> JsonDict:
        made = choice(
            0,
            "".join(self.texts),
            finish,
            tool_calls=self.calls,
            reasoning="\n\n".join(self.thoughts),
            extra={PROVIDER: {ITEMS: self.kept}} if self.kept else None,
            logprobs={"content": self.logprobs, "refusal": None} if self.logprobs else None,
        )
        message = made["message"]
        if self.refusals:
            message |= {"content": message["content"] or None, "refusal": "".join(self.refusals)}
        if self.annotations:
            message["annotations"] = self.annotations
        return made


def completion_from(response: JsonObject, name: str) -> JsonDict:
    """Return the chat completion. Raises AttemptFailed for a response that is none."""
    output = response.get("output")
    if not isinstance(output, list) or response.get("object", "response") != "response":
        raise failed("malformed", "the answer is no response with an output", status=200)
    message = _Message()
    for item in output:
        message.take(item)
    made = message.choice(finish_of(response, calls=len(message.calls)))
    body = completion_of(Head.new(name), [made], chat_usage(response.get("usage")))
    tier = response.get("service_tier")
    return body if tier is None else {**body, "service_tier": tier}
