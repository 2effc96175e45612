"""What a caller may say beside a request's body, checked. Pure."""

import math
from typing import Any

from deployments.errors import BadRequest
from deployments.openai_api.chat import Drop


def drop_of(word: Any) -> Drop | None:
    """Raises BadRequest."""
    match word:
        case None | "none" | "hints" | "all":
            return word
    raise BadRequest("'drop_unsupported' must be one of none, hints, all.", "drop_unsupported", "invalid_value")


def positive_seconds(value: Any, name: str, most: float = math.inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= most):
        limit = "" if most == math.inf else f", {most:g} at most"
        raise BadRequest(f"'{name}' must be a positive number of seconds{limit}, not {value!r}.", name)
    return number
