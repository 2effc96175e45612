"""Types of JSON as OpenAI's API has it, for signatures. Pure."""

from collections.abc import Mapping
from typing import Any, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]
JsonValue: TypeAlias = JsonObject | list[Any] | str | int | float | bool | None
