"""OpenAI's chat completions: the check of a request, and the objects and frames of an answer. Pure.

A request is parsed and checked once, and passed on as the dict that it was, so that a field that we do not know reaches
a provider that does.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import orjson
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deployments.errors import BadRequest
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently
from deployments.openai_api.sizes import too_many
from deployments.openai_api.usage import LIFETIMES
from deployments.strict_json.quick import check_depth
from deployments.validation import kind_of, refusal_of

DONE = b"data: [DONE]\n\n"
NATIVE_FRAME = b"event: "  # how the frames of an answer begin that is in its client's own words: a chat's have no names
LONGEST_MODEL = 512  # characters of a name that a client may write


MOST_MODELS = 16  # that one request may name
ModelName = Annotated[str, Field(min_length=1, max_length=LONGEST_MODEL)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: str
    text: str | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    include_usage: bool | None = None


class _Request(BaseModel):
    """The fields that every provider relies on. All others pass through unchecked."""

    model_config = ConfigDict(extra="allow", strict=True)
    models: Annotated[list[ModelName], Field(max_length=MOST_MODELS)] | None = None  # before what is made of it
    model: ModelName
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


Drop = Literal["none", "hints", "all"]  # which unsupported fields may be left out: see routing/request_fit.py


class Native(Protocol):
    """A request as its client wrote it, in another API, for targets that are asked by that API themselves.

    Attributes:
        api: the API's name.
        demands: what no other target can do: the client's paths, each with the sentence that refuses it.
        lost: the client's paths of what a chat has no words for.
        hosted: whether it offers tools that only the servers of such targets run.
    """

    @property
    def api(self) -> str: ...

    @property
    def demands(self) -> Mapping[str, str]: ...

    @property
    def lost(self) -> Sequence[str]: ...

    @property
    def hosted(self) -> bool: ...

    def left_out(self) -> Sequence[str]:
        """Return the client's paths of what such a target does not get either."""
        ...

    def extras(self) -> JsonObject:
        """Return the fields that no chat has, by the client's paths. They are hints: an answer is one without them."""
        ...

    def body(self, chat: JsonObject, extras: JsonObject) -> JsonDict:
        """Return the request for a target that takes the chat so, and these extras."""
        ...


class Request(Struct, frozen=True):
    """A checked request.

    Attributes:
        body: what the client sent, unknown fields included.
        drop: which unsupported fields may be left out; None for the configured default.
        size: bytes of its JSON, where a client has sent it; 0 from the Python API.
        native: the same in the client's own words, where it came by another API.
        others: names of models that may answer where none of its own model's targets does, in this order.
    """

    body: JsonDict
    drop: Drop | None = None
    size: int = 0
    native: Native | None = None
    others: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names of all models that may answer, in order."""
        return (self.model, *self.others)

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))


def check_request(body: JsonValue) -> Request:
    """Return the checked request of any object. Raises BadRequest that names the field."""
    return check_chat(check_json(body))


def check_json(body: JsonValue) -> JsonDict:
    """Return the body if it is a dict that JSON can encode. Raises BadRequest."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        if isinstance(body, dict):
            check_depth(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"The request can't be encoded as JSON: {error}.", code="invalid_json") from None
    return json_object(body)


def json_object(value: JsonValue) -> JsonDict:
    """Return the value if it is an object. Raises BadRequest."""
    if not isinstance(value, dict):
        twice = isinstance(value, str) and value.lstrip()[:1] == "{"
        found = "text that holds one: it was encoded twice" if twice else kind_of(value)
        raise BadRequest(f"The request body must be a JSON object, not {found}.", code="invalid_json")
    return value


def check_chat(body: JsonDict, size: int = 0, native: Native | None = None) -> Request:
    """Return the checked request of an object that JSON can encode. Raises BadRequest that names the field."""
    if (found := too_many(body)) is not None:
        field, why = found
        raise BadRequest(f"Invalid {repr(field) if field else 'request'}: {why}.", field, "array_above_max_length")
    body, others = _models_of(body)
    try:
        _CHECK.validate_python(body if others is None else {**body, "models": others})
    except ValidationError as error:
        raise BadRequest(*refusal_of(error, _FIELDS)) from None
    return Request(body, None, size, native, () if others is None else tuple(others[1:]))


def _models_of(body: JsonDict) -> tuple[JsonDict, Any]:
    """Return the request without `models`, and all models that it names, those in `models` behind `model`.

    So OpenRouter has it ("Model fallbacks"). What is no list is returned for the check to refuse.
    """
    if "models" not in body:
        return body, None
    rest = {k: v for k, v in body.items() if k != "models"}
    if not isinstance(named := body["models"], list):
        return rest, named
    first = rest.get("model")
    every = list(named) if first is None else [first, *(name for name in named if name != first)]
    return ({**rest, "model": every[0]} if every else rest), every


_FIELDS = {
    *_Request.model_fields,
    *_Message.model_fields,
    *_Part.model_fields,
    *_StreamOptions.model_fields,
}


# Shared by the codecs of the providers with another format.


def text_of(content: JsonValue) -> str:
    """Return the text of a message's content, which is a string or a list of text parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content)


def max_tokens_of(body: JsonObject) -> int | None:
    """Return the limit of an answer's tokens; None without one."""
    value = body.get("max_completion_tokens")
    return value if value is not None else body.get("max_tokens")


def stops_of(body: JsonObject) -> list[str]:
    """Return the stop sequences. An empty one stops nothing."""
    stop = body.get("stop")
    return [text for text in ([stop] if isinstance(stop, str) else stop or []) if text]


@dataclass(frozen=True, slots=True)
class Head:
    """The fields that all frames of one answer have. `created` is seconds since the epoch."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, model: str) -> "Head":
        return cls(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model)


def usage_of(
    prompt: int, completion: int, *, lifetimes: Mapping[str, int] | None = None, **details: int | None
) -> JsonDict:
    """Return OpenAI's usage object, with the `cached`, `written` and `reasoning` tokens that a provider reports.

    `lifetimes` are the written tokens by how long they are kept, under Anthropic's names.
    """
    usage: JsonDict = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if details.get("cached") or details.get("written"):
        usage["prompt_tokens_details"] = {"cached_tokens": details.get("cached") or 0}
    if details.get("written"):
        usage["prompt_tokens_details"]["cache_write_tokens"] = details["written"]
        if lifetimes:
            usage["prompt_tokens_details"][LIFETIMES] = dict(lifetimes)
    if details.get("reasoning"):
        usage["completion_tokens_details"] = {"reasoning_tokens": details["reasoning"]}
    return usage


def completion(
    head: Head,
    text: str | None,
    finish: str,
    usage: JsonObject | None,
    *,
    tool_calls: Sequence[JsonObject] = (),
    refusal: str | None = None,
    logprobs: JsonObject | None = None,
) -> JsonDict:
    """Return the body of an answer with one choice."""
    message: JsonDict = {"role": "assistant", "content": text, "refusal": refusal}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    return completion_of(head, [choice], usage)


def completion_of(head: Head, choices: Sequence[JsonObject], usage: JsonObject | None) -> JsonDict:
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
    delta: JsonObject,
    finish: str | None = None,
    *,
    index: int = 0,
    logprobs: JsonObject | None = None,
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return frame({**_chunk_head(head), "choices": [choice]})


def usage_chunk(head: Head, usage: JsonObject) -> bytes:
    return bare_chunk(head, usage=usage)


def bare_chunk(head: Head, **more: JsonValue) -> bytes:
    """Return the frame of a chunk without a choice."""
    return frame({**_chunk_head(head), "choices": [], **more})


def _chunk_head(head: Head) -> JsonDict:
    return {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
    }


def frame(data: JsonObject) -> bytes:
    return b"data: " + dump(data) + b"\n\n"


# json.dumps would create an encoder for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dump(data: JsonValue) -> bytes:
    """Return the data as JSON. Half a surrogate pair becomes `?`."""
    try:
        return orjson.dumps(data)
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        return _ENCODER.encode(data).encode(errors="replace")


def frames_to_chunks(data: bytes) -> list[JsonDict]:
    """Return our own frames as dicts, for the Python API, without `[DONE]`."""
    return [parse_leniently(event[6:]) for event in data.split(b"\n\n") if event.startswith(b"data: {")]
