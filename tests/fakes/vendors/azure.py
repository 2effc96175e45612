"""Azure OpenAI's dated API: what its older versions and deployments do not know. The models' own rules hold too."""

import re

from tests.fakes.vendors import Asked, Refusal, Rule
from tests.fakes.vendors.openai import refuse


def version_of(asked: Asked) -> str:
    """Return the date of `api-version`; empty on the undated v1 route."""
    found = re.search(r"api-version=(\d{4}-\d\d-\d\d)", asked.path)
    return found[1] if found else ""


def _unknown_before(asked: Asked, name: str, since: str) -> Refusal | None:
    version = version_of(asked)
    if not version or version >= since or asked.body.get(name) is None:
        return None
    return refuse(f"Unrecognized request argument supplied: {name}")


def max_completion_tokens(asked: Asked) -> Refusal | None:
    """Refuse it before 2024-09-01: openai/openai-python#1724, Azure/azure-rest-api-specs#30909."""
    return _unknown_before(asked, "max_completion_tokens", "2024-09-01")


def parallel_tool_calls(asked: Asked) -> Refusal | None:
    """Refuse it before 2024-09-01: Azure/azure-sdk-for-net#45719, pydantic/pydantic-ai#169."""
    return _unknown_before(asked, "parallel_tool_calls", "2024-09-01")


def stream_options(asked: Asked) -> Refusal | None:
    """Refuse it before 2024-09-01: microsoft/semantic-kernel#8189, Azure/azure-rest-api-specs#30909."""
    version = version_of(asked)
    if not version or version >= "2024-09-01" or asked.body.get("stream_options") is None:
        return None
    return refuse("Unknown parameter: 'stream_options'.", "stream_options", "unknown_parameter")


RULES: tuple[Rule, ...] = (max_completion_tokens, parallel_tool_calls, stream_options)
