"""The schemas of a whole chat request, and what they lose on their way to a target. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from deployments.json_schema.dialects import Dialect, Forms
from deployments.json_schema.memory import translate_cached


def lost_in(body: Mapping[str, Any], forms: Forms, model: str) -> tuple[str, ...]:
    """Return the path of each keyword that a model can't be held to, where it wants these forms.

    The paths begin at the request: `tools.0.function.parameters.properties.n.minimum`.
    """
    return tuple(
        f"{path}.{lost}" if lost else path
        for path, schema, dialect in schemas_of(body, forms, model)
        for lost in translate_cached(schema, dialect).lost
    )


def schemas_of(body: Mapping[str, Any], forms: Forms, model: str) -> Iterator[tuple[str, Mapping[str, Any], Dialect]]:
    """Yield each schema of a request that must be translated: its path, itself, and the form that is wanted."""
    tools = body.get("tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = _mapping(tool, "function")
        parameters = _mapping(function, "parameters")
        dialect = forms.of_tool(model, strict=bool(function.get("strict")))
        if parameters and dialect is not None:
            yield f"tools.{at}.function.parameters", parameters, dialect
    wanted = _mapping(_mapping(body, "response_format"), "json_schema").get("schema")
    if isinstance(wanted, Mapping) and forms.answer is not None:
        yield "response_format.json_schema.schema", wanted, forms.answer


def _mapping(holder: Any, name: str) -> Mapping[str, Any]:
    inner = holder.get(name) if isinstance(holder, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}
