"""How many tokens a prompt has, estimated from the request's JSON body alone. Pure, and nothing is learned.

What others asked before can't bend it: a stranger's images or tools once made an estimate 17,000 times too high. It
uses no tokenizer. So it is rough: nearest for English, further off for code, figures and rare scripts.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from deployments.usage.media_tokens import audio_tokens, file_tokens, image_tokens

_ASCII = 0.25  # tokens a character: OpenAI, "What are tokens"; Gemini API, "Understand and count tokens"
# Tokens for each further byte in UTF-8: Cyrillic 0.55 tokens a character, Chinese 0.85, an emoji 1.15.
_MORE_BYTE = 0.3
_MESSAGE = 4  # what a vendor puts around a message: OpenAI Cookbook, "How to count tokens with tiktoken"
_TEXTS = ("content", "refusal", "reasoning_content", "name")
_STRUCTURES = ("tool_calls", "function_call")
_FORMS = ("tools", "functions", "response_format", "prediction")
# A medium of a kind that has no rule here, as a video or Anthropic's `source`: no model reads its base64 as text.
_ENCODED_BYTES, _ENCODED_TOKENS = 2048, 1600
_ENCODED = re.compile(rb'"(?:data:[^",]{1,100},)?[A-Za-z0-9+/=_-]{%d,}"' % _ENCODED_BYTES)
_PIECE = 16 * 1024  # characters
_NO_BODY: Mapping[str, Any] = {}

_MEDIA: dict[str, Callable[[str, Mapping[str, Any]], int]] = {
    "image_url": image_tokens,
    "input_audio": audio_tokens,
    "file": file_tokens,
}


def estimate_prompt(body: Mapping[str, Any] | None, model: str = "", window: int | None = None) -> int:
    """Return about how many tokens the prompt of a chat or of embeddings has: at least 1, and at most the window.

    `model` is the target's own model id, which tells the vendor's rule for images. Any body is taken, and none fails.
    """
    body = body or _NO_BODY
    tokens = 0.0
    messages = body.get("messages")
    for message in messages if isinstance(messages, list | tuple) else ():
        tokens += _MESSAGE + (_message(message, model) if isinstance(message, dict) else 0)
    tokens += _input(body.get("input"))
    for name in _FORMS:
        if (value := body.get(name)) is not None:
            tokens += _structure(value)
    whole = max(1, math.ceil(tokens))
    return whole if window is None else min(whole, max(1, window))


def text_tokens(text: str) -> float:
    """Return about how many tokens a text has, by its length and its script."""
    if text.isascii():
        return _ASCII * len(text)
    return _ASCII * len(text) + _MORE_BYTE * (_bytes_of(text) - len(text))


def _bytes_of(text: str) -> int:
    """Return the length in UTF-8. All bytes of a long text at once would take twice as long."""
    if len(text) <= _PIECE:
        return len(text.encode("utf-8", "surrogatepass"))
    return sum(_bytes_of(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE))


def _message(message: Mapping[str, Any], model: str) -> float:
    tokens = 0.0
    for name in _TEXTS:
        value = message.get(name)
        if isinstance(value, str):
            tokens += text_tokens(value)
        elif value:
            tokens += _parts(value, model)
    for name in _STRUCTURES:
        if value := message.get(name):
            tokens += _structure(value)
    return tokens


def _parts(parts: Any, model: str) -> float:
    if not isinstance(parts, list | tuple):
        return _structure(parts)
    return sum(_part(part, model) for part in parts)


def _part(part: Any, model: str) -> float:
    if not isinstance(part, dict):
        return _structure(part)
    media = _MEDIA.get(part["type"]) if isinstance(part.get("type"), str) else None
    if media is not None:
        return media(model, part)
    text = part.get("text")
    return text_tokens(text) if isinstance(text, str) else _structure(part, media=True)


def _input(value: Any) -> float:
    """Return the tokens of an embedding's input: a text, texts, or token numbers."""
    if isinstance(value, str):
        return text_tokens(value)
    if not isinstance(value, list | tuple):
        return 0.0
    return sum(1.0 if isinstance(item, int) else _input(item) for item in value)


def _structure(value: Any, *, media: bool = False) -> float:
    """Return the tokens of what reaches the model as JSON, by its length. `media`: it may hold some as base64."""
    try:
        data = orjson.dumps(value)
    except (TypeError, ValueError):
        return _ASCII * len(repr(value))  # half a surrogate, or an integer beyond 64 bits
    if not media or len(data) < _ENCODED_BYTES:
        return _ASCII * len(data)
    encoded = [len(found) for found in _ENCODED.findall(data)]
    return _ASCII * (len(data) - sum(encoded)) + _ENCODED_TOKENS * len(encoded)
