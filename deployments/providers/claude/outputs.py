"""How many tokens each version of Claude answers with at most, by the pattern of its id. Pure data.

Anthropic's own API must be told a limit in each request. Source: Anthropic, Models overview.
"""

import re
from functools import lru_cache

_OVERVIEW = "Anthropic, models overview"
OUTPUTS: tuple[tuple[str, str, int], ...] = (
    (r"claude-(?:3-(?:haiku|sonnet|opus)|v2|instant)", _OVERVIEW, 4096),
    (r"claude-3[-.]5", _OVERVIEW, 8192),
    (r"claude-opus-4(?:[-.]1|-2|$|@)", _OVERVIEW, 32_000),
    (
        r"claude-(?:3[-.]7|sonnet-4(?:[-.]5|-2|$|@)|(?:haiku|opus)-4[-.]5)",
        f"NousResearch/hermes-agent#70222, {_OVERVIEW}",
        64_000,
    ),
    (r"claude-(?:opus|sonnet)-4[-.][6-9]", _OVERVIEW, 128_000),
)
# What Claude Code asks of a model that it does not know. A server that takes less says how much, and is asked again.
UNKNOWN_OUTPUT = 32_000

_PATTERNS = [(re.compile(pattern), most) for pattern, _, most in OUTPUTS]


@lru_cache(maxsize=1024)
def longest_output(model: str) -> int:
    """Return the limit for an answer whose client has named none, in tokens."""
    name = model.lower()
    return min((most for pattern, most in _PATTERNS if pattern.search(name)), default=UNKNOWN_OUTPUT)
