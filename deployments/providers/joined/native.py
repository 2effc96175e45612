"""The events of a stream in its client's own words joined to the whole answer of the same API. Pure.

A response of the Responses API is told whole by the event that ends it. A message of the Messages API is put together
from its blocks, as the anthropic SDK does it (`accumulate_event`).
"""

from deployments.errors import failed
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, parse_leniently
from deployments.providers.sse import objects

_INPUT = "partial_json"
_PIECES = {"text_delta": "text", "thinking_delta": "thinking"}


class ResponseJoin:
    """`add` the events as they come; `body` is the response that the last of them tells."""

    def __init__(self) -> None:
        self._last = b""

    def add(self, frames: bytes) -> None:
        self._last = frames or self._last  # events are not cut, and only the last one is needed

    def body(self) -> bytes:
        for event in reversed(list(objects(self._last))):
            if event.get("type") in ("response.completed", "response.incomplete"):
                return dump(event["response"])
        raise failed("malformed", "the stream has no whole response", status=200)


class MessageJoin:
    """`add` the events as they come; `body` is the message."""

    def __init__(self) -> None:
        self._message: JsonDict | None = None
        self._arguments: dict[int, list[str]] = {}

    def add(self, frames: bytes) -> None:
        for event in objects(frames):
            self._take(event)

    def body(self) -> bytes:
        """Return the message as JSON. Raises AttemptFailed `malformed` if it has not ended."""
        if self._message is None or not self._message.get("stop_reason"):
            raise failed("malformed", "the stream has no whole message", status=200)
        return dump(self._message)

    def _take(self, event: JsonObject) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._message = dict(event["message"])
            self._message["content"] = list(self._message.get("content") or ())
        elif self._message is None:
            return
        elif kind == "content_block_start":
            self._message["content"].append(dict(event["content_block"]))
        elif kind == "content_block_delta":
            self._add(event["index"], event["delta"])
        elif kind == "content_block_stop":
            self._close(event["index"])
        elif kind == "message_delta":
            self._end(event)

    def _add(self, index: int, delta: JsonObject) -> None:
        assert self._message is not None
        block, kind = self._message["content"][index], delta["type"]
        if kind == "input_json_delta":
            self._arguments.setdefault(index, []).append(delta[_INPUT])
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        elif kind in _PIECES:
            name = _PIECES[kind]
            block[name] = block.get(name, "") + delta[name]
        else:  # a signature, and what newer versions add
            block.update((name, value) for name, value in delta.items() if name != "type")

    def _close(self, index: int) -> None:
        assert self._message is not None
        if told := "".join(self._arguments.pop(index, ())):
            self._message["content"][index]["input"] = parse_leniently(told.encode())

    def _end(self, event: JsonObject) -> None:
        assert self._message is not None
        usage = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
        told = {name: value for name, value in event.items() if name not in ("type", "delta", "usage")}
        self._message |= {**event["delta"], **told, "usage": {**(self._message.get("usage") or {}), **usage}}
