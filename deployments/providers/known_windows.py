"""The context windows of the vendors' own models, in tokens, by the pattern of their id. Pure data.

A window says which tier may still take a prompt that was too long for another. `context_windows` of the configuration
goes before it: a server of one's own may serve a model of a known name with a smaller window. A model that is not
here has no known window.

Sources: OpenAI, "Models" (the pages of each model); Anthropic, "Models overview" (200,000 up to 4.5, a million from 4.6
on, without the beta header that widens the older); Google, "Gemini models"; AWS, "Amazon Nova models". Read beside
BerriAI/litellm's `model_prices_and_context_window.json`. Where the prompt alone has a bound, that bound stands here.
"""

import re
from functools import lru_cache

_WINDOWS: tuple[tuple[str, int], ...] = (
    (r"gpt-5(?:\.\d+)?-chat", 128_000),
    (r"gpt-5\.[45](?:-pro)?(?:-\d|$)", 1_050_000),
    (r"gpt-5\.6(?!-cyber)", 922_000),
    (r"gpt-5(?:[.-]|$)", 272_000),
    (r"gpt-4\.1", 1_047_576),
    (r"gpt-4o(?!.*(?:transcribe|tts|realtime))", 128_000),
    (r"(?:^|/)o(?:1|3|4-mini)(?:-|$)", 200_000),
    (r"claude-(?:opus|sonnet)-4-[6-9]|claude-(?:opus|sonnet|haiku|fable)-5", 1_000_000),
    (r"claude-(?:3|opus-4|sonnet-4|haiku-4)", 200_000),
    (r"gemini-(?:2\.5|3(?:\.\d)?)-(?:pro|flash)(?!.*(?:image|audio|tts|live))", 1_048_576),
    (r"nova-(?:premier|2-(?:lite|pro))", 1_000_000),
    (r"nova-(?:lite|pro)", 300_000),
    (r"nova-micro", 128_000),
)
_PATTERNS = [(re.compile(pattern), window) for pattern, window in _WINDOWS]


@lru_cache(512)
def known_window(model: str) -> int | None:
    """Return the model's context window in tokens; None if it is not known."""
    name = model.lower()
    return next((window for pattern, window in _PATTERNS if pattern.search(name)), None)
