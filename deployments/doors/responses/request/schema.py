"""What a request of the Responses API must be, as far as it is read here. Pure.

Fields that are not named here pass unchecked: they are carried as they are, or named as dropped.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from deployments.errors import BadRequest
from deployments.openai_api.chat import LONGEST_MODEL
from deployments.openai_api.json_types import JsonDict, JsonValue
from deployments.validation import refusal_of

TEXTS = frozenset({"input_text", "output_text", "text"})  # clients mix them up, and each says the same
OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
OFFERS = frozenset({"additional_tools", "tool_search_output"})  # items that offer tools
_Name = Annotated[str, Field(min_length=1)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True)


class _Text(_Checked):
    text: str


class _Refusal(_Checked):
    refusal: str


class _Image(_Checked):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class _File(_Checked):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Audio(_Checked):
    input_audio: dict[str, Any]


class _Typed(_Checked):
    type: _Name


def _part_tag(part: JsonValue) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    return "@text" if kind in TEXTS else f"@{kind}" if kind in _PARTS else "@typed"


_PARTS = ("refusal", "input_image", "input_file", "input_audio")
_Part = Annotated[
    Annotated[_Text, Tag("@text")]
    | Annotated[_Refusal, Tag("@refusal")]
    | Annotated[_Image, Tag("@input_image")]
    | Annotated[_File, Tag("@input_file")]
    | Annotated[_Audio, Tag("@input_audio")]
    | Annotated[_Typed, Tag("@typed")],
    Discriminator(_part_tag),
]


class _Message(_Checked):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[_Part]


class _FunctionCall(_Checked):
    call_id: _Name
    name: _Name
    arguments: str
    namespace: str | None = None


class _CustomCall(_Checked):
    call_id: _Name
    name: _Name
    input: str
    namespace: str | None = None


class _Output(_Checked):
    call_id: _Name
    output: str | list[_Part]


class _ReasoningText(_Checked):
    text: str


class _ReasoningItem(_Checked):
    summary: list[_ReasoningText] | None = None
    content: list[_ReasoningText] | None = None
    encrypted_content: str | None = None


class _Function(_Checked):
    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Format(_Checked):
    type: str | None = None
    syntax: str | None = None
    definition: str | None = None


class _Custom(_Checked):
    name: _Name
    description: str | None = None
    format: _Format | None = None


def _tool_tag(tool: JsonValue) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return f"@{kind}" if kind in ("function", "custom", "namespace") else "@typed"


_Inner = Annotated[
    Annotated[_Function, Tag("@function")]
    | Annotated[_Custom, Tag("@custom")]
    | Annotated[_Typed, Tag("@namespace")]
    | Annotated[_Typed, Tag("@typed")],
    Discriminator(_tool_tag),
]


class _Namespace(_Checked):
    name: _Name
    description: str | None = None
    tools: list[_Inner]


_Tool = Annotated[
    Annotated[_Function, Tag("@function")]
    | Annotated[_Custom, Tag("@custom")]
    | Annotated[_Namespace, Tag("@namespace")]
    | Annotated[_Typed, Tag("@typed")],
    Discriminator(_tool_tag),
]


class _Offer(_Checked):
    tools: list[_Tool]


def kind_of_item(item: JsonValue) -> str | None:
    """Return the type of an item: a message needs none."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    return "message" if kind is None and "role" in item else kind if isinstance(kind, str) else None


def _item_tag(item: JsonValue) -> str:
    kind = kind_of_item(item)
    if kind in OUTPUTS or kind in OFFERS:
        return "@output" if kind in OUTPUTS else "@offer"
    return f"@{kind}" if kind in ("message", "function_call", "custom_tool_call", "reasoning") else "@typed"


_Item = Annotated[
    Annotated[_Message, Tag("@message")]
    | Annotated[_FunctionCall, Tag("@function_call")]
    | Annotated[_CustomCall, Tag("@custom_tool_call")]
    | Annotated[_Output, Tag("@output")]
    | Annotated[_ReasoningItem, Tag("@reasoning")]
    | Annotated[_Offer, Tag("@offer")]
    | Annotated[_Typed, Tag("@typed")],
    Discriminator(_item_tag),
]


class _Schema(_Checked):
    model_config = ConfigDict(strict=True, protected_namespaces=())
    name: _Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


def _format_tag(wanted: JsonValue) -> str:
    return "@schema" if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else "@typed"


class _TextConfig(_Checked):
    format: (
        Annotated[Annotated[_Schema, Tag("@schema")] | Annotated[_Typed, Tag("@typed")], Discriminator(_format_tag)]
        | None
    ) = None
    verbosity: str | None = None


class _Reasoning(_Checked):
    effort: str | None = None
    summary: str | None = None


class _ChosenTool(_Checked):
    type: _Name
    name: str | None = None
    namespace: str | None = None


class _Choice(_ChosenTool):
    mode: Literal["auto", "required"] | None = None
    tools: list[_ChosenTool] | None = None


_Count = Annotated[int, Field(ge=1)]


class _Request(_Checked):
    model: Annotated[str, Field(min_length=1, max_length=LONGEST_MODEL)]
    input: str | list[_Item]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = None
    background: bool | None = None
    include: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: _Count | None = None
    max_tool_calls: _Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    text: _TextConfig | None = None
    reasoning: _Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


_CHECK = TypeAdapter(_Request)
_MODELS = (
    *(_Request, _Text, _Refusal, _Image, _File, _Audio, _Typed, _Message, _FunctionCall, _CustomCall, _Output, _Offer),
    *(_ReasoningItem, _Function, _Format, _Custom, _Namespace, _TextConfig, _Reasoning, _Choice),
)
_FIELDS = {"schema"}.union(*(model.model_fields for model in _MODELS))


def check(body: JsonDict) -> None:
    """Raise BadRequest, in the client's words, if what is read here has the wrong shape."""
    try:
        _CHECK.validate_python(body)
    except ValidationError as error:
        raise BadRequest(*refusal_of(error, _FIELDS)) from None
