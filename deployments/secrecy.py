"""Which words of a configuration may be repeated. What may be a secret in the wrong place never is. Pure."""

import re

HIDDEN = "(hidden)"
# How keys of vendors begin: OpenAI, Anthropic and OpenRouter, Groq, Hugging Face, xAI, Google, AWS, GitHub, Replicate,
# NVIDIA, Perplexity, Cerebras, Fireworks; a JSON web token; the whole header.
_BEGINNINGS = re.compile(r"(sk[-_]|gsk_|hf_|xai-|AIza|AKIA|ASIA|gh[a-z]_|r8_|nvapi-|pplx-|csk-|fw_|eyJ|Bearer\b)")
_PIECE = re.compile(r"[A-Za-z0-9]+")
_MIXED, _LONG = 16, 32  # letters: with digits among them, and of any kind
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


def is_key(text: str) -> bool:
    """Return whether a text begins as a vendor's keys do, or is a URL with a password."""
    return _BEGINNINGS.match(text) is not None or ("://" in text and "@" in text)


def looks_secret(text: str) -> bool:
    """Return whether a text may be a key, or a URL with one in it. Some names that nobody would give look so too."""
    return is_key(text) or any(_is_random(piece) for piece in _PIECE.findall(text))


def _is_random(piece: str) -> bool:
    mixed = not piece.isalpha() and not piece.isdecimal()
    return len(piece) >= (_MIXED if mixed else _LONG)


def shown(name: object) -> str:
    """Return a name as a sentence may repeat it."""
    text = str(name)
    return HIDDEN if looks_secret(text) or not text.isprintable() else text


_WORD = re.compile(r"[^\s'\"(){}\[\]<>,;]+")


def hide_secrets(text: str) -> str:
    """Return a text of others without each word in it that may be a secret."""
    return _WORD.sub(lambda word: HIDDEN if looks_secret(word[0]) else word[0], text)


# Google names the project in a path and in a throttle ("for consumer 'project_number:123'"), OpenAI the organization.
_ACCOUNT = re.compile(
    r"(?P<kept>\bprojects/|\bproject_number:|\bproject[ =])(?:[0-9]{6,}\b|(?<=/)[a-z0-9][a-z0-9.:-]*)"
    r"|\b(?:org|proj)[-_][A-Za-z0-9]{8,}\b"
)


def hide_accounts(text: str) -> str:
    """Return a vendor's text without the ids of projects and organizations in it."""
    return _ACCOUNT.sub(lambda found: f"{found['kept'] or ''}{HIDDEN}", text)


def objection_to_variable(name: str) -> str | None:
    """Return why this is no name of an environment variable, without repeating it; None if it may be one."""
    if looks_secret(name) or "://" in name:
        what = "a URL" if "://" in name else "a key"
        return f"looks like {what}, not the name of a variable: put it into an environment variable, and its name here"
    if "$" in name:
        return "must be the name of a variable alone, without $, { and }"
    if not name:
        return "is empty"
    return (
        None if _NAME.fullmatch(name) else "is no name of a variable, which has letters, digits and _, no digit first"
    )


def unset(variable: str, key: str) -> str:
    """Return the sentence that a variable is not set. `key` named it, in case that it may be a password itself."""
    return f"{variable if _USUAL_NAME.fullmatch(variable) else f'the variable that {key} names'} is not set"
