"""What a client sees of an answer, and how it asks and reads in each API over HTTP.

A chat's request is put in the words of the API, so that one test of an ending serves every door. Each reader is strict:
an answer that is sealed twice, or goes on behind its end, is no answer.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2


@dataclass
class Reply:
    seconds: float = 0.0
    status: int = 200
    text: str = ""
    finish: str | None = None
    done: bool = False  # sealed as whole: `[DONE]`, or an end without an error
    error: dict[str, Any] | None = None
    provider: str | None = None
    attempts: int = 0
    usage: dict[str, Any] | None = None
    retry_after: str | None = None
    raw: str = field(default="", repr=False)

    @property
    def whole(self) -> bool:
        """Does it claim to be a whole answer?"""
        return self.error is None and self.done and self.finish is not None

    @property
    def trail(self) -> list[str]:
        return [a["outcome"] for a in (self.error or {}).get("attempts", [])]

    def take(self, data: dict[str, Any]) -> None:
        """One completion or one chunk."""
        if "error" in data:
            self.error, self.status = data["error"], data.get("status", self.status)
            return
        if (by := data.get("breakwater")) and "provider" in by:
            self.provider, self.attempts = by["provider"], by["attempts"]
        self.usage = data.get("usage") or self.usage
        for choice in data["choices"]:
            said = choice.get("delta") or choice.get("message") or {}
            self.text += said.get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish

    def read(self, response: httpx2.Response, api: "Api") -> None:
        """A whole HTTP response."""
        self.status, self.raw = response.status_code, response.text
        self.provider = response.headers.get("x-breakwater-provider")
        self.attempts = int(response.headers.get("x-breakwater-attempts", "0"))
        self.retry_after = response.headers.get("retry-after")
        if response.headers["content-type"].startswith("application/json"):
            api.whole(self, response.json())
            self.done = self.error is None
            return
        for kind, data in events_in(response.text):
            assert self.error is None, "something came after an error"
            if data == "[DONE]":
                self.done = True
                continue
            assert not self.done, "something came after the end"
            api.event(self, kind, json.loads(data))
            self.done = kind in api.sealed


class Api(Protocol):
    path: str
    error_fields: frozenset[str]  # of an error in mid-stream
    sealed: tuple[str, ...]  # what stands in a stream that claims to be whole, and in no other

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]: ...

    def whole(self, reply: Reply, data: dict[str, Any]) -> None: ...

    def event(self, reply: Reply, kind: str, data: dict[str, Any]) -> None: ...


class Chat:
    path = "/v1/chat/completions"
    error_fields = frozenset({"message", "type", "code"})
    sealed = ("data: [DONE]",)

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return dict(body)

    def whole(self, reply: Reply, data: dict[str, Any]) -> None:
        reply.take(data)

    def event(self, reply: Reply, kind: str, data: dict[str, Any]) -> None:
        reply.take(data)


_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}


class Responses:
    path = "/v1/responses"
    error_fields = frozenset({"message", "code"})  # of OpenAI's own list; attempts stand in `breakwater`
    sealed = ("response.completed", "response.incomplete")

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        limit = {"max_output_tokens": body["max_tokens"]} if "max_tokens" in body else {}
        rest = {name: value for name, value in body.items() if name not in ("messages", "max_tokens", "stream_options")}
        return {**rest, **limit, "input": body["messages"]}

    def whole(self, reply: Reply, data: dict[str, Any]) -> None:
        if data.get("error"):
            reply.error = {"attempts": data.get("breakwater", {}).get("attempts", []), **data["error"]}
            return
        assert data["object"] == "response"
        parts = [part for item in data["output"] if item["type"] == "message" for part in item["content"]]
        text = "".join(part["text"] for part in parts if part["type"] == "output_text")
        assert reply.text in ("", text), "the deltas were another text"
        reply.text = text
        reason = (data["incomplete_details"] or {}).get("reason")
        reply.finish = "stop" if data["status"] == "completed" else _INCOMPLETE[reason]
        reply.usage = _as_a_chats(data["usage"])

    def event(self, reply: Reply, kind: str, data: dict[str, Any]) -> None:
        if kind == "response.output_text.delta":
            reply.text += data["delta"]
        if kind in (*self.sealed, "response.failed"):
            assert (kind == "response.failed") == (data["response"]["status"] == "failed")
            self.whole(reply, data["response"])


_STOPS = {"end_turn": "stop", "max_tokens": "length", "refusal": "content_filter", "tool_use": "tool_calls"}


class Messages:
    path = "/v1/messages"
    error_fields = frozenset({"message", "type", "code"})
    sealed = ("message_stop",)

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in body.items() if name != "stream_options"}
        return {"max_tokens": 1024, **rest}

    def whole(self, reply: Reply, data: dict[str, Any]) -> None:
        if data["type"] == "error":
            reply.error = data["error"]
            return
        reply.text = "".join(block["text"] for block in data["content"] if block["type"] == "text")
        reply.finish = _STOPS[data["stop_reason"]]
        reply.usage = _as_a_chats(data["usage"])

    def event(self, reply: Reply, kind: str, data: dict[str, Any]) -> None:
        if kind == "error":
            reply.error = data["error"]
        elif kind == "content_block_delta":
            reply.text += data["delta"].get("text", "")
        elif kind == "message_delta":
            reply.finish = _STOPS[data["delta"]["stop_reason"]]
            reply.usage = _as_a_chats(data["usage"])


def _as_a_chats(usage: Mapping[str, int] | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    prompt, completion = usage["input_tokens"], usage["output_tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


APIS: Mapping[str, Api] = {"http": Chat(), "responses": Responses(), "messages": Messages()}


def events_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the data of each event; a chat's have no names."""
    for event in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in event.split("\n") if line and not line.startswith(":"))
        assert lines.keys() <= {"event", "data"}, event
        if lines:
            yield lines.get("event", ""), lines["data"]
