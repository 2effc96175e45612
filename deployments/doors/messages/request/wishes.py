"""How much a model may think, and the form of its answer, as a chat says it. Pure."""

from deployments.openai_api.found import Found, name_unknown, says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

# Our own table, as there is no standard: the first budget that is not below the wish names the effort.
_EFFORTS = ((1024, "minimal"), (4096, "low"), (12_288, "medium"))
_USUAL = "high"  # Anthropic, Effort: high is the same as leaving it out
_THINKING = frozenset({"type", "budget_tokens", "display"})
_OUTPUT = frozenset({"effort", "format"})
_FORMAT = frozenset({"type", "schema"})


def effort_of(body: JsonObject, found: Found) -> tuple[str | None, str]:
    """Return how much the model is to think, as `reasoning_effort`, and the path of the field that says so."""
    thinking, output = body.get("thinking"), body.get("output_config") or {}
    effort = output.get("effort")
    if thinking is None:
        return effort, "output_config.effort"
    name_unknown(thinking, _THINKING, "thinking", found)
    if thinking["type"] == "disabled":
        if effort is not None:
            found.dropped.append("output_config.effort")
        return "none", "thinking"
    budget = thinking.get("budget_tokens")
    if budget is not None:
        found.dropped.append("thinking.budget_tokens")
    if effort is not None:
        return effort, "output_config.effort"
    return _USUAL if budget is None else _effort_for(budget), "thinking"


def _effort_for(budget: int) -> str:
    return next((effort for most, effort in _EFFORTS if budget <= most), _USUAL)


def shows_thoughts(body: JsonObject) -> bool:
    """Return whether the client wants to read what the model thinks."""
    return (body.get("thinking") or {}).get("display") != "omitted"


def format_of(body: JsonObject, found: Found) -> tuple[JsonDict | None, str]:
    """Return the form of the answer, as `response_format`, and the path of the field that says so."""
    output = body.get("output_config")
    name_unknown(output, _OUTPUT, "output_config", found)
    if isinstance(output, dict) and output.get("format"):
        return _json_schema(output["format"], "output_config.format", found), "output_config.format"
    return _json_schema(body.get("output_format"), "output_format", found), "output_format"


def _json_schema(wanted: JsonValue, path: str, found: Found) -> JsonDict | None:
    if not wanted:
        return None
    name_unknown(wanted, _FORMAT, path, found)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted["schema"], "strict": True}}


# What no target will see. Of `metadata` there is only `user_id`, in which Claude Code writes the id of a device.
_DEFAULTS = {"service_tier": "auto", "speed": "standard"}


def name_other(body: JsonObject, known: frozenset[str], found: Found) -> None:
    """Name the fields of the request that are not carried, unless they say what holds anyway."""
    for name, value in body.items():
        if name in known or not says_something(value) or value == _DEFAULTS.get(name):
            continue
        if name == "metadata":
            name_unknown(value, frozenset(), name, found)
        else:
            found.dropped.append(name)
