"""What a request of the Messages API must be, as far as it is read. Pure.

What is not named here is not checked: it is carried as it is, or named as dropped.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deployments.errors import BadRequest
from deployments.openai_api.chat import LONGEST_MODEL
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.sizes import MOST_PARTS, too_many
from deployments.validation import refusal_of

_Object = dict[str, Any]
_Name = Annotated[str, Field(min_length=1)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Block(_Shape):
    type: str


# Of a list only the first fault is told, so only one is looked for: a fault costs ten times as much as a block.
_Blocks = Annotated[list[_Block], Field(fail_fast=True, max_length=MOST_PARTS)]


class _Message(_Shape):
    role: Literal["user", "assistant", "system"]
    content: str | _Blocks


class _Tool(_Shape):
    type: str | None = None
    name: str | None = None


class _Choice(_Shape):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(_Shape):
    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: Annotated[int, Field(ge=0)] | None = None
    display: str | None = None


class _Format(_Shape):
    type: Literal["json_schema"]
    # The alias is the name; `schema` is a method of pydantic's.
    wanted: Annotated[_Object, Field(alias="schema")]


class _Output(_Shape):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _Body(_Shape):
    model: Annotated[str, Field(min_length=1, max_length=LONGEST_MODEL)]
    max_tokens: Annotated[int, Field(ge=1)]
    messages: Annotated[list[_Message], Field(fail_fast=True, min_length=1)]
    system: str | _Blocks | None = None
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Field(fail_fast=True)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: Annotated[list[_Tool], Field(fail_fast=True)] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    output_format: _Format | None = None
    metadata: _Object | None = None
    cache_control: _Object | None = None


class _Marked(_Shape):
    cache_control: _Object | None = None


class _Text(_Marked):
    text: str


class _WithSource(_Marked):
    source: _Object
    title: str | None = None
    context: str | None = None


class _SearchResult(_Marked):
    source: str
    title: str
    content: _Blocks


class _Reference(_Marked):
    tool_name: str


class _Compaction(_Marked):
    content: str | None = None


class _Thought(_Shape):
    thinking: str
    signature: str | None = None


class _Redacted(_Shape):
    data: str


class _Call(_Marked):
    id: _Name
    name: _Name
    input: _Object


class _Result(_Marked):
    tool_use_id: _Name
    content: str | _Blocks | None = None
    is_error: bool | None = None


class _Custom(_Marked):
    name: _Name
    input_schema: _Object
    description: str | None = None
    strict: bool | None = None


class _Inline(_Shape):
    data: str
    media_type: str


class _Plain(_Shape):
    data: str


class _Linked(_Shape):
    url: _Name


class _Nested(_Shape):
    content: str | _Blocks


_BODY: TypeAdapter[_Shape] = TypeAdapter(_Body)
SHAPES: dict[str, TypeAdapter[_Shape]] = {
    "text": TypeAdapter(_Text),
    **dict.fromkeys(("image", "document"), TypeAdapter[_Shape](_WithSource)),
    "search_result": TypeAdapter(_SearchResult),
    "tool_reference": TypeAdapter(_Reference),
    "compaction": TypeAdapter(_Compaction),
    "thinking": TypeAdapter(_Thought),
    "redacted_thinking": TypeAdapter(_Redacted),
    "tool_use": TypeAdapter(_Call),
    "tool_result": TypeAdapter(_Result),
}
TOOL: TypeAdapter[_Shape] = TypeAdapter(_Custom)
INLINE: TypeAdapter[_Shape] = TypeAdapter(_Inline)
PLAIN: TypeAdapter[_Shape] = TypeAdapter(_Plain)
LINKED: TypeAdapter[_Shape] = TypeAdapter(_Linked)
NESTED: TypeAdapter[_Shape] = TypeAdapter(_Nested)

_ALL = (_Body, _Message, _Block, _Choice, _Thinking, _Output, _Text, _WithSource, _SearchResult, _Reference)
_INNER = (_Thought, _Redacted, _Call, _Result, _Custom, _Inline, _Linked)
_FIELDS = frozenset({"schema"}).union(*(shape.model_fields for shape in (*_ALL, *_INNER)))


def check_body(body: JsonDict) -> None:
    """Check the request without what its blocks hold. Raises BadRequest that names the field."""
    if (found := too_many(body) or _too_many_nested(body.get("messages"))) is not None:
        field, why = found
        raise BadRequest(f"Invalid {repr(field) if field else 'request'}: {why}.", field, "array_above_max_length")
    try:
        _BODY.validate_python(body)
    except ValidationError as error:
        raise BadRequest(*refusal_of(error, _FIELDS)) from None


def check(shape: TypeAdapter[_Shape], value: JsonObject, path: str) -> None:
    """Check what stands at a path. Raises BadRequest that names the field."""
    try:
        shape.validate_python(value)
    except ValidationError as error:
        message, param, code = refusal_of(error, _FIELDS)
        whole = f"{path}.{param}" if param else path
        raise BadRequest(message.replace(f"'{param}'", f"'{whole}'", 1), whole, code) from None


def _too_many_nested(messages: JsonValue) -> tuple[str, str] | None:
    """Return why the blocks inside results and documents are too many: each of them costs work."""
    count = 0
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            count += _inner_blocks(block)
    if count <= MOST_PARTS:
        return None
    return "messages", f"its blocks hold {count} others, and at most {MOST_PARTS} are allowed"


def _inner_blocks(block: JsonValue) -> int:
    """Return how many blocks a result or a document holds."""
    if not isinstance(block, dict):
        return 0
    source = block.get("source")
    inner = (block.get("content"), source.get("content") if isinstance(source, dict) else None)
    return sum(len(content) for content in inner if isinstance(content, list))
