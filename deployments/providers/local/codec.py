"""OpenAI chat to the engine's requests, and the engine's chunks back to OpenAI's. Pure.

The engine speaks chat completions itself; what it lacks is tools, and what it says goes out under
our own head. A stream in `call` mode is the arguments of one tool, fragment by fragment.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.capabilities import HINTS
from deployments.openai_api.chat import Head, chunk, completion, max_tokens_of, stops_of, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.base import Call
from deployments.providers.local.prompt import check_messages, prompt_of
from deployments.providers.local.tools import Tool, beginning_with, grammar_of

MAX_TOKENS = 256  # when the request names none: a small model rarely knows when to stop

_INT32 = 2**31 - 1
_SAMPLING = ("top_p", "presence_penalty", "frequency_penalty")
_CARRIED = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
        *("temperature", *_SAMPLING, "stop", "seed", "logprobs", "top_logprobs"),
        *("response_format", "tools", "tool_choice"),
    }
)
_NO_DEMAND: JsonObject = {"n": 1, "modalities": ["text"], "function_call": "none"}


def to_engine(call: Call, tool: Tool | None = None) -> JsonDict:
    """Return the engine's request for an answer, or for the arguments of a tool. Raises naming an unsupported field."""
    body = call.body
    _check(body)
    grammar = grammar_for(body, tool)
    options = {name: body.get(name) for name in _SAMPLING}
    seed, stops = body.get("seed"), stops_of(body)
    return {
        "messages": prompt_of(body["messages"], _calling(tool) if tool else ""),
        "temperature": body.get("temperature") if body.get("temperature") is not None else 0.0,
        "max_tokens": min(max_tokens_of(body) or MAX_TOKENS, _INT32),
        "stream_options": {"include_usage": True},
        # A last tier that thought before it spoke would be silent for too long.
        "chat_template_kwargs": {"enable_thinking": False},
        **({"grammar": grammar} if grammar is not None and call.must is None else {}),
        **(_going_on(call.must, body) if call.must is not None else {}),
        **(_logprobs(body) if tool is None else {}),
        **{name: value for name, value in options.items() if value is not None},
        # 32 bits, of which the last number means any.
        **({"seed": seed % (2**32 - 1)} if seed is not None else {}),
        # A text may end where it likes; half of the arguments would be no call.
        **({"stop": stops} if stops and tool is None else {}),
    }


def _going_on(must: str, body: JsonObject) -> JsonDict:
    """Return what makes the engine go on with its last message, as this text begins.

    It feeds what was said to the schema of a `response_format`, and not to a grammar of ours, which would begin anew.
    """
    going_on: JsonDict = {"continue_final_message": True, "add_generation_prompt": False}
    if schema_of(body) is not None:
        return {**going_on, "response_format": body["response_format"]}
    return {**going_on, "grammar": beginning_with(must)} if must else going_on


def grammar_for(body: JsonObject, tool: Tool | None, start: str = "") -> str | None:
    """Return the grammar of an answer, or of the arguments of a tool, after the word `start`; None for free text."""
    if tool is not None:
        # As at OpenAI: a client that does not call its tool strict reads the arguments with care.
        return grammar_of(tool.parameters, start, lenient=not tool.strict)
    schema = schema_of(body)
    return None if schema is None else grammar_of(schema, start)


def wish_of(body: JsonObject) -> str | None:
    """Return the field that asks for a longer answer than one has by default; None if there is none."""
    named = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    return named if (max_tokens_of(body) or 0) > MAX_TOKENS else None


def schema_of(body: JsonObject) -> JsonObject | None:
    """Return the JSON schema that the answer must match; None for free text."""
    wanted = body.get("response_format") or {"type": "text"}
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    holder = wanted.get("json_schema") if kind == "json_schema" else None
    if not isinstance(holder, Mapping):
        raise _bad("Invalid 'response_format'.", "response_format")
    schema = holder.get("schema", {"type": "object"})
    if not isinstance(schema, Mapping):
        raise _bad("Invalid 'response_format.json_schema.schema': must be an object.", "response_format")
    return schema


def _check(body: JsonObject) -> None:
    for name, value in body.items():
        if name not in _CARRIED | HINTS and value not in (None, False, "", [], {}) and value != _NO_DEMAND.get(name):
            raise failed("unsupported", f"The local model can't take '{name}'.", param=name)
    check_messages(body["messages"])


def _calling(tool: Tool) -> str:
    schema = json.dumps(tool.parameters.get("properties") or tool.parameters, ensure_ascii=False)
    return f"You call the function {tool.name}: {tool.description}\nIts arguments: {schema}"


def _logprobs(body: JsonObject) -> JsonDict:
    top = body.get("top_logprobs")
    if top is not None and (not isinstance(top, int) or not 0 <= top <= 20):
        raise _bad("Invalid 'top_logprobs': must be an integer from 0 to 20.", "top_logprobs")
    if not body.get("logprobs"):
        if top:
            raise _bad("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
        return {}
    return {"logprobs": True, "top_logprobs": top or 1}  # of 0 the engine would make none at all


@dataclass(slots=True)
class StreamCodec:
    """The engine's chunks to frames under our own head, and what they add up to."""

    call: Call
    head: Head
    tool: Tool | None = None  # whose arguments these are; set before the first chunk
    text: list[str] = field(default_factory=list)
    logprobs: list[JsonDict] = field(default_factory=list)
    finish: str | None = None
    usage: JsonDict | None = None
    _id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")
    _begun: bool = False

    def frames(self, part: JsonObject) -> bytes:
        if usage := part.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            self.usage = usage_of(usage["prompt_tokens"], usage["completion_tokens"], cached=cached)
        data = b""
        for choice in part.get("choices", []):
            if text := choice["delta"].get("content"):
                data += self._open() + self._fragment(text, self._tokens(choice))
            if finish := choice.get("finish_reason"):
                # Half of the arguments is no tool call, whatever it looks like.
                self.finish = "tool_calls" if self.tool and finish == "stop" else finish
                data += self._open() + chunk(self.head, {}, self.finish)
        return data

    def _open(self) -> bytes:
        """The role, and the head of the tool call: once, before all else."""
        if self._begun:
            return b""
        self._begun = True
        if self.tool is None:
            return chunk(self.head, {"role": "assistant", "content": "", "refusal": None})
        role = chunk(self.head, {"role": "assistant", "content": None, "refusal": None})
        return role + chunk(self.head, {"tool_calls": [{"index": 0, **self._tool_call("")}]})

    def _fragment(self, text: str, tokens: list[JsonDict]) -> bytes:
        self.text.append(text)
        if self.tool is not None:
            return chunk(self.head, {"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        self.logprobs += tokens
        return chunk(self.head, {"content": text}, logprobs={"content": tokens, "refusal": None} if tokens else None)

    def _tokens(self, choice: JsonObject) -> list[JsonDict]:
        if not self.call.body.get("logprobs"):
            return []
        top = self.call.body.get("top_logprobs") or 0
        found = (choice.get("logprobs") or {}).get("content") or []
        return [{**_token(t), "top_logprobs": [_token(o) for o in t["top_logprobs"][:top]]} for t in found]

    def _tool_call(self, arguments: str) -> JsonDict:
        assert self.tool is not None
        return {"id": self._id, "type": "function", "function": {"name": self.tool.name, "arguments": arguments}}

    def end(self) -> str:
        """Return the finish reason. Raises `broken` without one, and `malformed` if the answer breaks its grammar."""
        if self.finish is None:
            raise failed("broken", "the engine stopped without a finish reason")
        if self.call.must is not None:
            return self.finish  # of a text that another one has begun
        bound = self.tool is not None or (schema_of(self.call.body) is not None and not self.call.body.get("stop"))
        if bound and self.finish != "length" and not _is_json("".join(self.text)):
            raise failed("malformed", "the engine's answer does not match its grammar")
        return self.finish

    def answer(self) -> JsonDict:
        """Return the whole answer."""
        text, finish = "".join(self.text), self.end()
        if self.tool is not None:
            return completion(self.head, None, finish, self.usage, tool_calls=[self._tool_call(text)])
        asked = bool(self.call.body.get("logprobs"))
        logprobs = {"content": self.logprobs, "refusal": None} if asked else None
        return completion(self.head, text, finish, self.usage, logprobs=logprobs)


def _token(token: JsonObject) -> JsonDict:
    return {name: token.get(name) for name in ("token", "logprob", "bytes")}


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except ValueError:
        return False
    return True


def _bad(message: str, param: str) -> AttemptFailed:
    return failed("bad_request", message, status=400, code="invalid_value", param=param)
