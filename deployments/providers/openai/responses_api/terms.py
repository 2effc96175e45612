"""What a server is told of reasoning, and which models have refused to be asked for theirs."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from actors.breaker.outcomes import Outcome
from deployments.newest import Newest
from deployments.openai_api.refusal_text import LONGEST_TEXT
from deployments.providers.openai.dialect import KEPT_SECONDS, MOST_MODELS

ENCRYPTED = "reasoning.encrypted_content"  # a value of `include`
# OpenAI, "Reasoning": the o-series, and GPT-5 and later without `chat` in the name.
_REASONS = re.compile(r"(?:^|/)(?:o[134](?:-|$)|gpt-[5-9](?!\S*chat)|codex)")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server is told of reasoning.

    Attributes:
        encrypted: whether it is asked for its reasoning, encrypted. Models without any refuse that.
        earlier: whether it gets earlier reasoning back. None but the account that made it can read it.
    """

    encrypted: bool
    earlier: bool = True


def terms_after(terms: Terms, refusal: Outcome) -> Terms | None:
    """Return the terms that a refusal asks for; None if it asks for none."""
    if refusal.status != 400:
        return None
    text = refusal.message[:LONGEST_TEXT]
    if terms.earlier and (refusal.code == "invalid_encrypted_content" or _UNREADABLE.search(text)):
        return Terms(terms.encrypted, earlier=False)
    if terms.encrypted and (_NO_REASONING.search(text) or (refusal.param or "").startswith("include")):
        return Terms(encrypted=False, earlier=terms.earlier)
    return None


# openai/codex#8119, lidge-jun/opencodex#2269 (no code): what another account made. NousResearch/hermes-agent#24234.
_UNREADABLE = re.compile(r"encrypted content .{0,200}could not be (?:verified|decrypted)", re.IGNORECASE)
_NO_REASONING = re.compile(r"encrypted content is not supported|reasoning\.encrypted_content", re.IGNORECASE)


class KnownTerms:
    """The terms of one server's models: known by the name at first, then learned. `now` is in seconds, monotonic.

    That a model refused to be asked for its reasoning is forgotten after an hour, as all that is learned is.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._refused = Newest[str, float](MOST_MODELS)  # until when

    def of(self, model: str, *, wanted: bool = False) -> Terms:
        """Return the terms on which a model is asked. `wanted`: its client asks for the reasoning."""
        may = self._refused.get(model, 0.0) <= self._now()
        return Terms(encrypted=may and (wanted or _REASONS.search(model.lower()) is not None))

    def learn(self, model: str, terms: Terms) -> None:
        """Remember the terms on which the model's server has just taken a request."""
        if not terms.encrypted:
            self._refused[model] = self._now() + KEPT_SECONDS
