"""The form of schemas that OpenAI takes with `strict`: the closest of all forms, to try the translator on.

No request is translated to it: a client that says `strict` has written its schema so.
"""

from deployments.json_schema.dialects import Dialect

OPENAI_STRICT = Dialect(
    "openai strict",
    (
        "OpenAI, Structured outputs: supported schemas",
        "openai (PyPI), lib/_pydantic.py: a $ref has no siblings, a single allOf is merged",
        "openai/openai-node#2602: oneOf is not permitted",
    ),
    keywords=frozenset(
        {
            *("properties", "required", "additionalProperties", "items", "minItems", "maxItems", "pattern", "format"),
            *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        }
    ),
    notes=frozenset({"title", "description"}),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    closed=True,
    all_required=True,
    items=True,
    object_top=True,
)
