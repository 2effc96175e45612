"""How each model is asked to go on with a text that another one has begun, by the pattern of its id. Pure.

Some go on behind an assistant's turn that comes last. Others refuse that, or begin a new turn. Those are asked by a
turn of the user, and have to repeat the last words, so that the place is found where they go on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Word = Literal["prefill", "continue_final_message", "prefix", "partial", "instruct", "none"]


@dataclass(frozen=True, slots=True)
class Method:
    """One way to ask.

    Attributes:
        word: its name, as the configuration and the marker in a stream have it.
        trusted: whether it is known to go on behind what it was given. Another one has to repeat a word first.
        repeats: whether it may repeat all that it was given.
        forced: whether its server can be held to the text that must come first.
    """

    word: Word
    trusted: bool = False
    repeats: bool = True
    forced: bool = False


PREFILL = Method("prefill", trusted=True, repeats=False)
INSTRUCT = Method("instruct")
FORCED = Method("continue_final_message", trusted=True, repeats=False, forced=True)
# What a configuration names is its operator's word: a server that ignores a flag answers as if it had none.
CONFIGURED: Mapping[str, Method | None] = {
    "prefill": Method("prefill"),
    "continue_final_message": Method("continue_final_message"),
    "prefix": Method("prefix"),
    "partial": Method("partial"),
    "instruct": INSTRUCT,
    "none": None,
}

# Of models that are asked by their vendor's own API. What is not here refuses it, or begins a new turn.
_MODELS: tuple[tuple[str, Method], ...] = (
    # Anthropic, "Prefill Claude's response", and "Migrating to Claude 4.6": from there on it is a 400.
    (
        r"claude-(?:v2|instant|3|haiku-4[-.]5|sonnet-4(?:[-.][05](?!\d)|-2025|@|$)|opus-4(?:[-.][015](?!\d)|-2025|@|$))",
        PREFILL,
    ),
    (r"amazon\.nova", PREFILL),  # Amazon Nova, "Complete request schema": an assistant turn that comes last
    # A live table of refusals: from 3.6 on, and by the light models of 3.5, it is a 400.
    (r"gemini-(?:2\.5|3-|3\.1-|3\.5-flash(?!-lite))", PREFILL),
)
_HOSTS: tuple[tuple[str, Method], ...] = (
    (r"(?:^|\.)mistral\.ai$", Method("prefix", trusted=True)),  # it repeats what it was given
    (r"(?:^|\.)moonshot\.(?:ai|cn)$", Method("partial", trusted=True, repeats=False)),
)


def configured_word(model: str, configured: Mapping[str, str]) -> str | None:
    """Return the method that a configuration names for a model. It maps patterns, with `*` for any text, to words."""
    found = (
        word for pattern, word in configured.items() if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), model)
    )
    return next(found, None)


def method_of(model: str, *, in_process: bool, passes_through: bool, base_url: str | None = None) -> Method:
    """Return how a model is asked to go on, by the vendor's own id of it.

    `passes_through`: its server gets a chat as it is, at `base_url` if that is not its vendor's.
    """
    if in_process:
        return FORCED
    if passes_through:
        return INSTRUCT if base_url is None else _at_host(base_url) or INSTRUCT
    name = model.lower()
    return next((method for pattern, method in _MODELS if re.search(pattern, name)), INSTRUCT)


def _at_host(base_url: str) -> Method | None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host.endswith("deepseek.com") and parts.path.rstrip("/").endswith("/beta"):
        return Method("prefix", trusted=True, repeats=False)  # DeepSeek, "Chat Prefix Completion (Beta)"
    return next((method for pattern, method in _HOSTS if re.search(pattern, host)), None)


_NO_PREFILL = re.compile(
    r"pre-?fill|last turn|must end with|end(?:ing|s)? with an? (?:model|assistant|user)|last role|"
    r"add_generation_prompt|continue_final_message|final message|assistant messages? at the end",
    re.IGNORECASE,
)


def refuses_prefill(message: str) -> bool:
    """Return whether a refusal says that the assistant may not have the last word."""
    return _NO_PREFILL.search(message) is not None
