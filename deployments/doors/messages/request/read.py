"""A request of the Messages API, as a chat completion's. Pure. The client's body is read and never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.doors.door import Encoder, Paths, Served, in_clients_words
from deployments.doors.messages.answer.native import NativeEvents, native_message
from deployments.doors.messages.answer.stream import MessageStream
from deployments.doors.messages.answer.whole import message_of
from deployments.doors.messages.request.blocks import demand
from deployments.doors.messages.request.history import History, history_of
from deployments.doors.messages.request.native import NO_BETAS, Betas, NativeRequest
from deployments.doors.messages.request.shapes import check_body
from deployments.doors.messages.request.tools import Tools, choice_of, tools_of
from deployments.doors.messages.request.wishes import effort_of, format_of, name_other, shows_thoughts
from deployments.errors import BadRequest
from deployments.openai_api.chat import Request, check_chat
from deployments.openai_api.found import MARK, Found, says_something
from deployments.openai_api.json_types import JsonDict, JsonObject

# State that is kept by Anthropic's servers, and servers that they call: an answer without them is another one.
_DEMANDS: Mapping[str, str] = {
    "container": "no containers are run here",
    "mcp_servers": "no MCP servers are called here: let your client call them, and offer their tools",
    "compaction": "no conversations are summarized here: ask for a summary in a message",
}
_SAME = ("temperature", "top_p", "top_k")
_CARRIED = frozenset(
    {"model", "max_tokens", "messages", "system", "stream", "stop_sequences", "tools", "tool_choice", "thinking"}
    | {"output_config", "output_format", MARK, *_SAME, *_DEMANDS}
)
_FIELDS: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "stream_options": "stream",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "tool_choice.function": "tool_choice",
    "tool_choice.function.name": "tool_choice.name",
    "tools.function": "tools",
    "tools.function.parameters": "tools.input_schema",
}
_INNER: Mapping[str, str] = {"function.parameters": "input_schema", "function": ""}


@dataclass(slots=True)
class MessagesRequest:
    """A request as it was read: see `doors.door.Opened`."""

    request: Request
    dropped: Sequence[str]
    paths: Paths
    shows_thoughts: bool = True

    def whole(self, completion: JsonObject, served: Served) -> JsonDict:
        """Return a whole answer."""
        if served.native:
            return {**native_message(completion, self.request.model, served), **served.extra}
        return message_of(
            completion, served, self.request.model, shows_thoughts=self.shows_thoughts, estimate=served.estimate
        )

    def encoder(self, served: Served) -> Encoder:
        if served.native:
            return NativeEvents(served, self.request.model)
        return MessageStream(served, self.request.model, shows_thoughts=self.shows_thoughts, estimate=served.estimate)


def open_request(body: JsonDict, betas: Betas = NO_BETAS) -> MessagesRequest:
    """Return the request as it was read. Raises BadRequest in the client's words."""
    check_body(body)
    found = Found()
    for name, why in _DEMANDS.items():
        if says_something(body.get(name)):
            demand(name, why, found)
    history, tools = history_of(body, found), tools_of(body.get("tools"), found)
    chat: JsonDict = {"model": body["model"], "messages": history.messages, "max_completion_tokens": body["max_tokens"]}
    if tools.functions:
        chat["tools"] = tools.functions
    chat |= choice_of(body.get("tool_choice"), tools, found)
    chat |= _sampling(body)
    effort, effort_path = effort_of(body, found)
    wanted, format_path = format_of(body, found)
    more = {"reasoning_effort": effort, "response_format": wanted}
    chat |= {name: value for name, value in more.items() if value is not None}
    name_other(body, _CARRIED, found)
    paths = _paths(history, tools, effort_path, format_path)
    native = NativeRequest(body, chat, found.demands, found.dropped, bool(tools.gone), betas)
    try:
        return MessagesRequest(check_chat(chat, native=native), tuple(found.dropped), paths, shows_thoughts(body))
    except BadRequest as error:
        raise in_clients_words(error, paths) from None


def _sampling(body: JsonObject) -> JsonDict:
    chat = {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if body.get("stream"):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _paths(history: History, tools: Tools, effort: str, wanted: str) -> Paths:
    inside = {"json_schema": "", "json_schema.schema": ".schema"}
    formats = {f"response_format.{chats}": f"{wanted}{clients}" for chats, clients in inside.items()}
    fields = {**_FIELDS, "reasoning_effort": effort, "response_format": wanted, **formats}
    return Paths(fields, history.paths, tools.paths, _INNER)
