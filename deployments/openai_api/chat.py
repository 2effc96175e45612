"""OpenAI chat completions on the wire: the request that comes in, the objects and frames that go out.

Pure: bytes and dicts in, bytes and dicts out. The request is parsed once, checked here, and handed
on as the dict it was: a field that we do not know reaches the providers that do.
"""

import json
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deployments.errors import BadRequest

DONE = b"data: [DONE]\n\n"
DEEPEST = 128  # levels of a request's JSON; pickle on the way to a replica ends below 500


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: str
    text: str | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")
    include_usage: bool | None = None


class _Request(BaseModel):
    """Only what every provider must be able to rely on; everything else passes through."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[_Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: str | list[str] | None = None


_CHECK = TypeAdapter(_Request)


Drop = Literal["none", "hints", "all"]  # what may be left out for a provider that can't do it: see fitting.py


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request. `body` is what the client sent, unknown fields included; `drop` where it said so."""

    body: dict[str, Any]
    drop: Drop | None = None

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))


def parse_request(data: bytes) -> Request:
    """Parse and check a request body. Raises BadRequest that names the field."""
    return _checked(parse_object(data))


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object that can be written again. Raises BadRequest."""
    try:
        body = json.loads(data, parse_constant=_no_constant)
        if _SURROGATE.search(data):
            json.dumps(body, ensure_ascii=False).encode()
        if data.count(b"{") + data.count(b"[") > DEEPEST:
            _judge_depth(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    return _object(body)


def _judge_depth(body: Any) -> None:
    """Raises ValueError for what is nested so deeply that not every reader and writer on its way can follow."""
    level = [body]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} deep")


# Half of a pair is JSON, and no text: only an escape can bring it in.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_json")
    return body


def check_request(body: Any) -> Request:
    """Check a request that came as a dict. Raises BadRequest that names the field."""
    return _checked(writable(body))


def writable(body: Any) -> dict[str, Any]:
    """A dict that can be written as JSON. Raises BadRequest."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        if isinstance(body, dict):
            _judge_depth(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"The request can't be written as JSON: {error}.", code="invalid_json") from None
    return _object(body)


def _checked(body: dict[str, Any]) -> Request:
    try:
        _CHECK.validate_python(body)
    except ValidationError as error:
        raise refusal(error, _FIELDS) from None
    return Request(body)


def refusal(error: ValidationError, fields: Collection[str]) -> BadRequest:
    """What pydantic found, as OpenAI would say it. `fields` are the names that a client can have written."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # pydantic names the branch of a union ("str", "list[_Part]") in the path: a client never wrote that.
    path = [str(p) for p in first["loc"] if isinstance(p, int) or str(p) in fields]
    param = ".".join(path) or None
    if first["type"] == "missing":
        message = f"Missing required parameter: '{param}'."
    elif first["type"] == "too_short" and param == "messages":
        message = "Invalid 'messages': empty array. At least one message is required."
    else:
        message = f"Invalid '{param}': {first['msg']}."
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return BadRequest(message, param=param, code=code)


_FIELDS = {
    *_Request.model_fields,
    *_Message.model_fields,
    *_Part.model_fields,
    *_StreamOptions.model_fields,
}


# What the codecs of the other wires share.


def text_of(content: Any) -> str:
    """The text of a message's content, whether a string or a list of text parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content)


def max_tokens_of(body: Mapping[str, Any]) -> int | None:
    value = body.get("max_completion_tokens")
    return value if value is not None else body.get("max_tokens")


def stops_of(body: Mapping[str, Any]) -> list[str]:
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or [])


@dataclass(frozen=True, slots=True)
class Head:
    """What all frames of one answer share."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, model: str) -> "Head":
        return cls(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model)


def usage_of(prompt: int, completion: int, **details: int | None) -> dict[str, Any]:
    """OpenAI's usage object; `cached` and `reasoning` tokens where a provider tells them."""
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if details.get("cached"):
        usage["prompt_tokens_details"] = {"cached_tokens": details["cached"]}
    if details.get("reasoning"):
        usage["completion_tokens_details"] = {"reasoning_tokens": details["reasoning"]}
    return usage


def completion(
    head: Head,
    text: str | None,
    finish: str,
    usage: Mapping[str, Any] | None,
    *,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    refusal: str | None = None,
    logprobs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An answer of one choice."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    return completion_of(head, [choice], usage)


def completion_of(head: Head, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": list(choices),
        "usage": usage,
    }


def chunk(
    head: Head,
    delta: Mapping[str, Any],
    finish: str | None = None,
    *,
    index: int = 0,
    logprobs: Mapping[str, Any] | None = None,
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return frame({**_chunk_head(head), "choices": [choice]})


def usage_chunk(head: Head, usage: Mapping[str, Any]) -> bytes:
    return bare_chunk(head, usage=usage)


def bare_chunk(head: Head, **more: Any) -> bytes:
    """A chunk without a choice."""
    return frame({**_chunk_head(head), "choices": [], **more})


def _chunk_head(head: Head) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
    }


def frame(data: Mapping[str, Any]) -> bytes:
    return b"data: " + dump(data) + b"\n\n"


# Made once: json.dumps would make one a call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dump(data: Any) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError:  # half a surrogate pair, or a number of more than 64 bits
        return _ENCODER.encode(data).encode(errors="replace")


def frames_to_chunks(data: bytes) -> list[dict[str, Any]]:
    """Our own frames as dicts, for the Python door. `[DONE]` is left out."""
    return [json.loads(event[6:]) for event in data.split(b"\n\n") if event.startswith(b"data: {")]
