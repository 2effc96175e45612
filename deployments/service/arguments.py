"""The arguments of a call beside the request's body, and their checks. Pure."""

import math
from dataclasses import dataclass
from typing import SupportsFloat, cast

from deployments.errors import BadRequest
from deployments.openai_api.chat import Drop
from deployments.usage.caller import Caller

_BY_HANDLE = Caller("handle")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call of the Python API says beside its request. The values are as the caller gave them, unchecked."""

    timeout_seconds: object = None  # None: the deadline of the configuration
    drop_unsupported: object = None  # None: the setting of the configuration
    caller: Caller = _BY_HANDLE


def parse_drop(word: object, name: str = "drop_unsupported") -> Drop | None:
    """Return which unsupported fields may be dropped, None for the configuration's choice.

    Raises BadRequest with `name` as param, which is where the caller has written the word.
    """
    match word:
        case None | "none" | "hints" | "all":
            return word
    raise BadRequest(f"'{name}' must be one of none, hints, all.", name, "invalid_value")


def parse_seconds(value: object, name: str, most: float = math.inf) -> float:
    """Return a number or its text as positive seconds, `most` at the most. Raises BadRequest with `name` as param."""
    try:
        number = float(cast(SupportsFloat, value))
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= most):
        limit = "" if most == math.inf else f", {most:g} at most"
        raise BadRequest(f"'{name}' must be a positive number of seconds{limit}, as 2.5, without a unit.", name)
    return number
