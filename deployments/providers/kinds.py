"""The table of provider kinds: one row of plain data for each. Pure; an adapter is imported only where it is built.

A new kind is a folder with an adapter, a row here, and its settings class in `config/providers.py`. Nothing else asks
for a kind by its name: callers ask the row what the kind can do.
"""

import hashlib
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from deployments.json_schema.dialects import ANTHROPIC_FORMS, BEDROCK_FORMS, GEMINI_FORMS, Forms
from deployments.openai_api.cache_marks import CachePlaces, takes_breakpoints
from deployments.openai_api.capabilities import (
    COMMON_FIELDS,
    EFFORTS,
    TOOL_CHECKS,
    Capabilities,
    Documents,
    Unsupported,
    is_any_json,
    is_forced,
    is_json_schema,
)
from deployments.openai_api.images import TEXT_FORMATS
from deployments.openai_api.json_types import JsonObject, JsonValue

if TYPE_CHECKING:
    from deployments.providers.base import Provider


_LONGEST, _HASH = 64, 8


@dataclass(frozen=True, slots=True)
class NameRule:
    """`valid` is a name that the vendor takes, `other` a character that it does not."""

    valid: re.Pattern[str]
    other: re.Pattern[str]

    def name_for(self, name: str) -> str:
        """Return the name as the vendor takes it."""
        if self.valid.fullmatch(name):
            return name
        digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:_HASH]
        return f"{self.other.sub('_', f't_{name}')[: _LONGEST - _HASH - 1]}_{digest}"


# OpenAI, API reference, function name; AWS, Converse, ToolSpecification: [a-zA-Z0-9_-]+, 64 at most.
PLAIN_NAMES = NameRule(re.compile(r"[a-zA-Z0-9_-]{1,64}"), re.compile(r"[^a-zA-Z0-9_-]"))
# Google, FunctionDeclaration: begins with a letter or an underscore; then also dots, colons and dashes, 64 at most.
GEMINI_NAMES = NameRule(re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}"), re.compile(r"[^a-zA-Z0-9_.:-]"))


# What an id is made of where its vendor has it in the path of a URL. google-genai quotes nothing: `x#y` would go to
# `models/x`, and `x:countTokens#` to another method. boto3 quotes all but dots, so `..` would be a step up.
# AWS, Converse, modelId; Google, Models API, Model.name and tunedModels.
BEDROCK_IDS = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.:/-]*")
GEMINI_IDS = re.compile(r"(?!.*\.\.)[a-zA-Z0-9_][a-zA-Z0-9_.@-]*(?:/[a-zA-Z0-9_][a-zA-Z0-9_.@-]*)*")


class KindSettings(Protocol):
    """A provider's settings. Each adapter reads the fields of its own settings class."""

    @property
    def kind(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What the rest of the program may know of a kind.

    - `adapter`: a module with `build(settings, connect) -> Provider`; `connect` is the connect limit in seconds.
    - `capabilities`: what it can do with a chat request; None if each field passes through, images by URL too.
    - `schemas`: the forms that JSON schemas are translated to.
    - `tool_names`: the rule of its vendor for names of tools; None if it takes any.
    - `model_ids`: what a client's id of a model must be; None if it goes as a text, which may say anything.
    - `family`: the kind of which it is a variant, by another API of the same servers; its own name otherwise. A
      configuration names the family, and the variant by the kind's own settings.
    - `native_api`: the API whose requests it takes as their clients wrote them, and whose answers it passes on.
    - `marks`: how many marks `cache: auto` sets in a request for a model: none where they have no use, one behind the
      tools and the system prompt where the vendor itself keeps the last turn, else one behind that too.
    - `owned`: the fields of its requests that are ours, so that a configuration can't set them; None if it adds
      nothing to what it is sent.
    - `modes`: the operating modes that use it by default.
    - `is_aws`: whether its health counts as `aws_available`.
    - `embeds`: whether its vendor makes embeddings.
    - `in_process`: the model runs in the replica itself. It stands in for a cloud, has no models but those of the
      rows, and its few calls go by handle.
    - `replica_options`: what its deployment has otherwise than the default, as keys of `serve.deployment`.
    - `system`, `systems_by_host`, `chat_operation`: its names in OpenTelemetry's conventions for generative AI; a
      server whose host ends with a key of `systems_by_host` has a name of its own.
    """

    name: str
    adapter: str
    system: str
    capabilities: Capabilities | None = None
    schemas: Forms = field(default_factory=Forms)
    tool_names: NameRule | None = None
    model_ids: re.Pattern[str] | None = None
    family: str = ""
    native_api: str = ""
    marks: Callable[[str], int] = field(default=lambda _: 0)
    owned: frozenset[str] | None = None
    modes: tuple[str, ...] = ("hybrid",)
    is_aws: bool = False
    embeds: bool = True
    in_process: bool = False
    replica_options: JsonObject = field(default_factory=dict)
    systems_by_host: Mapping[str, str] = field(default_factory=dict)
    chat_operation: str = "chat"

    @property
    def in_configuration(self) -> str:
        """Return the kind by which a configuration names it."""
        return self.family or self.name

    @property
    def takes_urls(self) -> bool:
        """Return whether its vendor fetches the images that a message names by URL."""
        return self.capabilities is None or "image_url" in self.capabilities.parts

    @property
    def passes_through(self) -> bool:
        """Does each field of a request reach the provider as it is?"""
        return self.capabilities is None

    def build(self, settings: KindSettings, connect: float) -> "Provider":
        """Return the adapter of one provider. Its SDK is imported here, in the replica that needs it."""
        build: Callable[[KindSettings, float], Provider] = importlib.import_module(self.adapter).build
        return build(settings, connect)

    def system_at(self, host: str | None) -> str:
        """Return `gen_ai.provider.name` for the server that was called."""
        for suffix, system in self.systems_by_host.items():
            if host is not None and host.endswith(suffix):
                return system
        return self.system


# Anthropic, What's new in Claude Opus 5.5, Sonnet 5.5 and Fable 5.1: a tool that must be called is an error.
_UNFORCED_CLAUDE = re.compile(
    r"claude-(?:(?:opus|sonnet)-(?:5[-.][5-9]|[6-9])|(?:mythos|fable)-(?:5[-.][1-9]|[6-9]))(?!\d)"
)
_THINKS_BY_ITSELF = re.compile(r"claude-(?:(?:opus|sonnet|haiku|mythos|fable)-[5-9](?!\d)|mythos-preview)")


def claude_lacks(body: JsonObject, model: str) -> Unsupported:
    """Return what a Claude has no word for: that a tool must be called, and that nothing is to be thought."""
    forced = is_forced(body.get("tool_choice")) and _UNFORCED_CLAUDE.search(model) is not None
    quiet = body.get("reasoning_effort") == "none" and _THINKS_BY_ITSELF.search(model) is None
    return Unsupported(("tool_choice",) if forced else (), ("reasoning_effort",) if quiet else ())


# AWS, Prompt caching for faster model inference: Claude from 3.5 Haiku and 3.7 Sonnet on. An hour since Claude 4.5.
_CACHING_CLAUDE = re.compile(r"claude-(?:3-5-haiku|3-7|(?:opus|sonnet|haiku|mythos|fable)-\d)")
_HOURLY_CLAUDE = re.compile(r"claude-(?:opus|sonnet|haiku|mythos|fable)-(?:4-[5-9]|[5-9])(?!\d)")
# Nova takes no point among the tools (danny-avila/LibreChat#13838, NousResearch/hermes-agent#97281), and none behind
# anything but text (earendil-works/pi#2053). Reports of Nova 2 differ (zeroclaw-labs/zeroclaw#8943): it gets none,
# because a point that is refused costs the attempt.
_CACHING_NOVA = re.compile(r"nova-(?:micro|lite|pro|premier)")


@lru_cache(maxsize=1024)
def cache_places(model: str) -> CachePlaces | None:
    """Return where a model of Bedrock takes marks of a prompt cache; None if it is not known to take any."""
    if _CACHING_CLAUDE.search(model):
        hourly = _HOURLY_CLAUDE.search(model)
        return CachePlaces(tools=True, any_part=True, lifetimes=frozenset({"5m", "1h"} if hourly else {"5m"}))
    return CachePlaces() if _CACHING_NOVA.search(model) else None


# OpenAI's words for a tier, and what botocore's ServiceTierType has for them. OpenAI answers `fast` as `priority`.
CONVERSE_TIERS: Mapping[str, str] = {"flex": "flex", "priority": "priority", "fast": "priority"}

# Behind a text, an image and a file, of all but the assistant (openai SDK, ResponseInputTextParam and its neighbours).
BREAKPOINT_PLACES = CachePlaces(any_part=True, answers=False)


def _openai_marks(model: str) -> int:
    """Return how many marks help. OpenAI sets a breakpoint of its own in the last turn."""
    if (known := takes_breakpoints(model)) is not None:
        return 1 if known else 0
    return 2 if "claude" in model.lower() else 0  # a gateway that passes marks on to Claude


# AWS, API restrictions: five documents a request, 4.5 MB each. Nova Micro reads text alone, which its refusal says.
_CONVERSE_FORMATS = frozenset({"pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"})
_MOST_DOCUMENT_BYTES = 4_718_592
_CLAUDE_4 = re.compile(r"claude-(?:opus|sonnet|haiku|mythos|fable)-\d")


@lru_cache(maxsize=1024)
def converse_documents(model: str) -> Documents:
    """Return which documents a model of Bedrock takes."""
    any_size = {"pdf"} if _CLAUDE_4.search(model) else {"pdf", "docx"} if "nova" in model else set[str]()
    return Documents(_CONVERSE_FORMATS, 5, _MOST_DOCUMENT_BYTES, frozenset(any_size))


# Google, Document understanding, and Anthropic, PDF support: PDF, and plain text, as which each other text goes. No
# others (googleapis/python-genai#829).
_PDF_AND_TEXTS = Documents(TEXT_FORMATS | {"pdf"})

# OpenTelemetry's names of the servers behind a host's ending.
_ON_AZURE = {".openai.azure.com": "azure.ai.openai", ".services.ai.azure.com": "azure.ai.inference"}
_ON_VERTEX = {"aiplatform.googleapis.com": "gcp.vertex_ai", ".rep.googleapis.com": "gcp.vertex_ai"}

BEDROCK = ProviderKind(
    name="bedrock",
    adapter="deployments.providers.bedrock.adapter",
    system="aws.bedrock",
    capabilities=Capabilities(
        COMMON_FIELDS | {"parallel_tool_calls"},
        {
            **TOOL_CHECKS,
            "temperature": lambda value: True if value <= 1 else None,
            "response_format": is_json_schema,  # Converse has no word for JSON without a schema
            "reasoning_effort": lambda value: value in EFFORTS,
            "service_tier": lambda value: True if isinstance(value, str) and value in CONVERSE_TIERS else None,
        },
        images=frozenset({"png", "jpeg", "gif", "webp"}),
        schema_fields=frozenset({"name", "description", "schema", "strict"}),
        caches=cache_places,
        lacks=claude_lacks,
        documents=converse_documents,
    ),
    schemas=BEDROCK_FORMS,
    tool_names=PLAIN_NAMES,
    model_ids=BEDROCK_IDS,
    marks=lambda model: 0 if cache_places(model) is None else 2,
    owned=frozenset({"modelId", "messages", "system", "toolConfig"})
    | {"inferenceConfig.maxTokens", "inferenceConfig.stopSequences"},
    modes=("hybrid", "aws_only"),
    is_aws=True,
)
OPENAI = ProviderKind(
    name="openai",
    adapter="deployments.providers.openai.adapter",
    system="openai",
    tool_names=PLAIN_NAMES,
    marks=_openai_marks,
    owned=frozenset({"model", "messages", "stream", "stream_options", "tools", "tool_choice", "functions"})
    | {"function_call", "n", "stop", "max_tokens", "max_completion_tokens"},
    modes=("hybrid", "aws_only"),
    systems_by_host={**_ON_AZURE, **_ON_VERTEX},
)
# The same servers, asked by the Responses API: it has no stop sequences, seeds, penalties or several choices.
OPENAI_RESPONSES = ProviderKind(
    name="openai_responses",
    adapter="deployments.providers.openai.responses_api.adapter",
    system="openai",
    capabilities=Capabilities(
        COMMON_FIELDS
        | {"temperature", "user", "metadata", "service_tier", "safety_identifier", "parallel_tool_calls", "verbosity"}
        | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort"}
        | {"logprobs", "top_logprobs"},
        {**TOOL_CHECKS, "response_format": is_any_json},
        parts=frozenset({"image_url", "file"}),
        needs_turn=False,
        schema_fields=frozenset({"name", "description", "schema", "strict"}),
        caches=lambda model: BREAKPOINT_PLACES if takes_breakpoints(model) else None,
    ),
    tool_names=PLAIN_NAMES,
    marks=_openai_marks,
    family="openai",
    native_api="responses",
    owned=frozenset({"model", "input", "instructions", "stream", "tools", "tool_choice", "max_output_tokens"})
    | {"previous_response_id", "conversation", "background", "prompt"},
    modes=("hybrid", "aws_only"),
    systems_by_host={**_ON_AZURE, **_ON_VERTEX},
)
GOOGLE = ProviderKind(
    name="google",
    adapter="deployments.providers.google.adapter",
    system="gcp.gemini",
    capabilities=Capabilities(
        COMMON_FIELDS
        | {"temperature", "seed", "presence_penalty", "frequency_penalty"}
        | {"logprobs", "top_logprobs", "parallel_tool_calls"},
        {
            **TOOL_CHECKS,
            "n": lambda value: value <= 8,
            "response_format": is_any_json,
            "reasoning_effort": lambda value: value in EFFORTS,
        },
        images=frozenset({"png", "jpeg", "webp", "heic", "heif"}),
        documents=lambda _: _PDF_AND_TEXTS,
        schema_fields=frozenset({"name", "description", "schema", "strict"}),
    ),
    schemas=GEMINI_FORMS,
    tool_names=GEMINI_NAMES,
    model_ids=GEMINI_IDS,
    owned=frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig.candidateCount"})
    | {"generationConfig.maxOutputTokens", "generationConfig.stopSequences"},
    systems_by_host=_ON_VERTEX,
    chat_operation="generate_content",
)
# Anthropic, Messages: the least that says who a user is, and nothing of the person. A longer one is refused.
_LONGEST_USER = 256
# Anthropic, Prompt caching: each model, in all places. A model that caches nothing leaves a mark alone.
ANTHROPIC_PLACES = CachePlaces(tools=True, any_part=True, lifetimes=frozenset({"5m", "1h"}))


def is_user(value: JsonValue) -> bool | None:
    """Return True for a name of a user that Anthropic takes; None for one that is left out."""
    return True if isinstance(value, str) and len(value) <= _LONGEST_USER else None


ANTHROPIC = ProviderKind(
    name="anthropic",
    adapter="deployments.providers.anthropic.adapter",
    system="anthropic",
    capabilities=Capabilities(
        COMMON_FIELDS | {"parallel_tool_calls", "top_k"},
        {
            **TOOL_CHECKS,
            "temperature": lambda value: True if value <= 1 else None,
            "response_format": is_json_schema,  # it has no word for JSON without a schema
            "reasoning_effort": lambda value: value in EFFORTS,
            "user": is_user,
            "safety_identifier": is_user,
            "service_tier": lambda value: True if value == "standard_only" else None,
        },
        images=frozenset({"png", "jpeg", "gif", "webp"}),
        schema_fields=frozenset({"name", "description", "schema", "strict"}),
        caches=lambda _: ANTHROPIC_PLACES,
        lacks=claude_lacks,
        documents=lambda _: _PDF_AND_TEXTS,
    ),
    schemas=ANTHROPIC_FORMS,
    tool_names=PLAIN_NAMES,
    native_api="messages",
    marks=lambda _: 2,
    owned=frozenset({"model", "messages", "system", "stream", "tools", "tool_choice", "max_tokens", "stop_sequences"}),
    embeds=False,
    systems_by_host=_ON_VERTEX,
)
# A deployment of the same cluster. Nothing leaves the cluster, so it may stand beside the local model.
SERVE = ProviderKind(
    name="serve",
    adapter="deployments.providers.serve.adapter",
    system="ray_serve",  # the conventions have no name for it
    tool_names=PLAIN_NAMES,
    modes=("hybrid", "local_only"),
)
LOCAL = ProviderKind(
    name="local",
    adapter="deployments.providers.local.adapter",
    system="llama_cpp",  # the conventions have no name for it
    capabilities=Capabilities(
        COMMON_FIELDS | {"temperature", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"},
        {**TOOL_CHECKS, "response_format": is_any_json},
        needs_turn=False,
    ),
    modes=("hybrid", "local_only"),
    in_process=True,
    # Two sequences at a time on one thread: further calls wait in the replica, and soon in the queue.
    replica_options={
        "ray_actor_options": {"num_cpus": 0.5, "runtime_env": {"env_vars": {"OMP_WAIT_POLICY": "passive"}}},
        "max_ongoing_requests": 16,
        # The waits in the queue and for a slot together are shorter than the limit of a first token.
        "max_queued_requests": 8,
        "autoscaling_config": {"max_replicas": 2, "target_ongoing_requests": 2},
    },
)

# In the order in which mode `aws_only` prefers them.
KINDS: dict[str, ProviderKind] = {
    kind.name: kind for kind in (BEDROCK, OPENAI, OPENAI_RESPONSES, GOOGLE, ANTHROPIC, SERVE, LOCAL)
}
