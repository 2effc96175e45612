"""The forms of JSON schema that vendors take. Plain data: each row names the pages and reports that it rests on.

A keyword that is not named as taken is left out. Where a vendor's pages are silent, the row has the narrower form: a
schema that is simpler than it need be is taken everywhere, one that is not is refused.
"""

from dataclasses import dataclass, replace
from typing import Literal

Recursion = Literal["kept", "optional", "unrolled"]

# What says something of a value, by the type of the value.
OF_STRINGS = frozenset({"minLength", "maxLength", "pattern", "format"})
OF_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"})
OF_ARRAYS = frozenset(
    {
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("contains", "minContains", "maxContains", "unevaluatedItems"),
    }
)
OF_OBJECTS = frozenset(
    {
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "dependencies"),
        "unevaluatedProperties",
    }
)
OF_ANYTHING = frozenset({"not", "if", "then", "else", "$dynamicRef", "$recursiveRef"})
EVERYTHING = OF_STRINGS | OF_NUMBERS | OF_ARRAYS | OF_OBJECTS | OF_ANYTHING


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server takes of JSON schema.

    Attributes:
        name: what it is called here.
        sources: who says so.
        top_alone: only the top of the schema is held to the rules; what is inside stays as it is.
        keywords: what it takes of the keywords that constrain, beside `type`, `enum`, `anyOf` and `$ref`.
        notes: keywords that constrain nothing, and are kept.
        formats: the formats of strings and numbers, or None for any.
        closed: whether each object must have `additionalProperties: false`.
        all_required: whether each object must require all its properties.
        refs: whether a `$ref` may stand, alone, to `$defs`.
        recursion: whether a `$ref` may lead back to itself: always, on a way that some optional property is part of,
            or never.
        const: whether `const` is taken; otherwise it becomes an `enum` of one.
        mixed: whether `type` may be a list of more than one type and null, and `enum` of more than one type.
        free: whether the empty schema, which allows anything, is taken.
        items: whether an array must describe its items.
        least_items: the highest `minItems`.
        plain_patterns: whether a `pattern` may have no assertions and no references back.
        object_top: whether the top must be an object, without a union.
        top_keywords: the only keywords at the top, if there are such.
    """

    name: str
    sources: tuple[str, ...]
    top_alone: bool = False
    keywords: frozenset[str] = frozenset()
    notes: frozenset[str] = frozenset()
    formats: frozenset[str] | None = None
    closed: bool = False
    all_required: bool = False
    refs: bool = True
    recursion: Recursion = "kept"
    const: bool = True
    mixed: bool = True
    free: bool = False
    items: bool = False
    least_items: int | None = None
    plain_patterns: bool = False
    object_top: bool = False
    top_keywords: frozenset[str] | None = None


_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_CLAUDE = {
    "keywords": frozenset({"properties", "required", "additionalProperties", "items", "minItems", "pattern", "format"}),
    "notes": frozenset({"title", "description", "default"}),
    "formats": _FORMATS,
    "closed": True,
    "recursion": "unrolled",
    "least_items": 1,
    "plain_patterns": True,
}
_CLAUDE_SOURCES = (
    "Anthropic, Structured outputs: JSON Schema limitations",
    "AWS, Amazon Bedrock user guide: Get validated JSON results from models",
    "anthropic (PyPI), lib/_parse/_transform.py: each schema has a type or a union",
    "future-agi/future-agi#412, als-apg/osprey#204: each object is closed, and nothing but false will do",
    "ax-llm/ax#459: an object without properties can hold nothing",
)

CLAUDE_OUTPUT = Dialect("claude output", _CLAUDE_SOURCES, **_CLAUDE)  # type: ignore[arg-type]

CLAUDE_STRICT_TOOLS = Dialect(
    "claude strict tools",
    (*_CLAUDE_SOURCES, "anthropics/claude-code#5973: no oneOf, allOf or anyOf at the top of a tool's schema"),
    object_top=True,
    **_CLAUDE,  # type: ignore[arg-type]
)

BEDROCK_TOOLS = Dialect(
    "bedrock tools",
    (
        "AWS, Bedrock API reference, ToolInputSchema: the top level schema type must be object",
        "earendil-works/pi#8279, cognitect-labs/aws-api#272: a top without a type is refused",
        "anthropics/claude-code#5973, kenn-io/kata#365: no oneOf, allOf or anyOf at the top of a tool's schema",
    ),
    top_alone=True,
    object_top=True,
)

NOVA_TOOLS = Dialect(
    "nova tools",
    ("AWS, Amazon Nova user guide, Defining a tool: only type, properties and required at the top",),
    keywords=EVERYTHING - {"unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"},
    notes=frozenset({"title", "description", "default", "examples"}),
    refs=False,
    recursion="unrolled",
    free=True,
    object_top=True,
    top_keywords=frozenset({"type", "properties", "required"}),
)

GEMINI = Dialect(
    "gemini",
    (
        "Google, GenerationConfig: responseJsonSchema, the list of properties that are supported",
        "Google, Structured output: a format is date-time, date or time; a type may be a list with null",
        "su-kaka/gcli2api#374: a $ref stands alone",
        "NousResearch/hermes-agent#71804: an array has items",
    ),
    keywords=frozenset(
        {
            *("format", "items", "prefixItems", "minItems", "maxItems", "minimum", "maximum"),
            *("properties", "additionalProperties", "required"),
        }
    ),
    notes=frozenset({"title", "description", "propertyOrdering"}),
    formats=frozenset({"date-time", "date", "time", "int32", "int64", "float", "double"}),
    recursion="optional",
    const=False,
    mixed=False,
    free=True,
    items=True,
)

GEMINI_TOOLS = replace(
    GEMINI,
    name="gemini tools",
    sources=(*GEMINI.sources, "Google, FunctionDeclaration: parametersJsonSchema describes an object"),
    object_top=True,
)


@dataclass(frozen=True, slots=True)
class Forms:
    """The forms that one kind of provider wants. None is any form.

    Attributes:
        answer: of an answer's schema.
        tools: of a tool's parameters.
        strict_tools: of the parameters of a tool that is `strict`.
        of_models: of a tool's parameters, for models whose id has this in it.
    """

    answer: Dialect | None = None
    tools: Dialect | None = None
    strict_tools: Dialect | None = None
    of_models: tuple[tuple[str, Dialect], ...] = ()

    def of_tool(self, model: str, *, strict: bool) -> Dialect | None:
        """Return the form of a tool's parameters for a model."""
        own = next((dialect for part, dialect in self.of_models if part in model.lower()), None)
        return own or (self.strict_tools if strict else self.tools)


# Converse holds the answers' schemas of all its models to one subset: AWS, "Get validated JSON results from models".
BEDROCK_FORMS = Forms(CLAUDE_OUTPUT, BEDROCK_TOOLS, CLAUDE_STRICT_TOOLS, (("nova", NOVA_TOOLS),))
ANTHROPIC_FORMS = Forms(CLAUDE_OUTPUT, BEDROCK_TOOLS, CLAUDE_STRICT_TOOLS)
GEMINI_FORMS = Forms(GEMINI, GEMINI_TOOLS, GEMINI_TOOLS)
