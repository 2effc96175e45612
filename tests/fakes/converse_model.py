"""What botocore's service model says of a request to Converse: each member's type, length, pattern and words.

AWS validates by the model from which botocore's is made, so a request that it finds wrong is a ValidationException.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import botocore.loaders
import botocore.model
from botocore.validate import ParamValidator


@functools.cache
def _service() -> botocore.model.ServiceModel:
    loaded = botocore.loaders.Loader().load_service_model("bedrock-runtime", "service-2")
    return botocore.model.ServiceModel(loaded, "bedrock-runtime")


def model_objection(path: str, body: Mapping[str, Any]) -> str | None:
    """Return what the service model finds wrong with a request; None if it finds nothing."""
    found = re.fullmatch(r"/model/([^/]+)/(converse|converse-stream)", path)
    if found is None:
        return None
    shape = _service().operation_model("Converse" if found[2] == "converse" else "ConverseStream").input_shape
    arguments = {"modelId": unquote(found[1]), **body}
    if (report := ParamValidator().validate(arguments, shape)).has_errors():
        return str(report.generate_report())
    return next(_faults(shape, arguments, ""), None)


def _faults(shape: Any, value: Any, at: str) -> Iterator[str]:
    """Yield what botocore's parameter validation leaves to the server: patterns, words, and the highest lengths."""
    kind, limits = shape.type_name, shape.metadata
    if kind == "structure" and not limits.get("document"):
        for name, inner in value.items():
            yield from _faults(shape.members[name], inner, f"{at}.{name}")
    elif kind == "list":
        for number, inner in enumerate(value):
            yield from _faults(shape.member, inner, f"{at}.{number}")
    elif kind == "map":
        for name, inner in value.items():
            yield from _faults(shape.key, name, f"{at}.{name}")
            yield from _faults(shape.value, inner, f"{at}.{name}")
    elif kind == "string":
        if (pattern := limits.get("pattern")) and re.fullmatch(pattern, value, re.ASCII) is None:
            yield f"Value at '{at[1:]}' failed to satisfy constraint: Member must satisfy regular expression pattern"
        if shape.enum and value not in shape.enum:
            yield f"Value at '{at[1:]}' failed to satisfy constraint: Member must satisfy enum value set: {shape.enum}"
    if kind in ("string", "list", "map") and len(value) > limits.get("max", len(value)):
        yield f"Value at '{at[1:]}' failed to satisfy constraint: Member must have length at most {limits['max']}"
