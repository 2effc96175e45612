"""The schemas of a whole chat request, and what they lose on their way to a target. Pure."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from deployments.json_schema.dialects import Dialect, Forms
from deployments.json_schema.memory import translate_cached


def lost_in(body: Mapping[str, Any], forms: Forms, model: str) -> tuple[str, ...]:
    """Return the path of each keyword that a model can't be held to, where it wants these forms.

    The paths begin at the request: `tools.0.function.parameters.properties.n.minimum`.
    """
    tools, wanted = body.get("tools"), body.get("response_format")
    if not (tools or wanted) or forms.answer is None:
        return ()
    try:
        key = forms.answer.name, model, orjson.dumps((tools, wanted))
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        return _lost_in(body, forms, model)
    if key not in _lost and len(key[2]) > LONGEST:
        return _lost_in(body, forms, model)
    if (lost := _lost.get(key)) is None:
        lost = _lost[key] = _lost_in(body, forms, model)
        if len(_lost) > MOST:
            _lost.popitem(last=False)
    return lost


# Agents send the same tools with each request. What was kept first is forgotten first.
MOST, LONGEST = 128, 64 * 1024  # requests, and bytes of each
_lost: OrderedDict[tuple[str, str, bytes], tuple[str, ...]] = OrderedDict()


def _lost_in(body: Mapping[str, Any], forms: Forms, model: str) -> tuple[str, ...]:
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
