"""How many tokens a vendor counts for an image, a recording or a file in a prompt, by its documented rule. Pure.

The model's name tells the family, because one provider serves models of several vendors. Only the head of an image is
decoded. An image whose size is not told by its bytes counts as one of 1024 by 1024 pixels.
"""

import binascii
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from deployments.openai_api.images import TEXT_FORMATS, format_of, url_of

Size = tuple[int, int]  # width and height in pixels

ASSUMED: Size = (1024, 1024)
_LONGEST_SIDE = 2**20  # a larger one is no image but a lie, which a vendor refuses
_HEADS = 4096, 131_072  # base64 characters: nearly every header, and one behind a photograph's preview

# OpenAI, "Images and vision", "Calculating costs": a base and so much for a tile of 512 pixels. The first match counts.
_TILES = (
    ("gpt-4o-mini", 2833, 5667),
    ("gpt-5", 70, 140),
    ("o1", 75, 150),
    ("o3", 75, 150),
)
_USUAL_TILES = 85, 170  # GPT-4o, GPT-4.1; also taken for families whose rule is not known
# The same page: patches of 32 pixels, at most 1536, times a factor.
_PATCHES = (
    ("gpt-4.1-mini", 1.62),
    ("gpt-4.1-nano", 2.46),
    ("gpt-5-mini", 1.62),
    ("gpt-5-nano", 2.46),
    ("o4-mini", 1.72),
)
_MOST_PATCHES = 1536
_MOST_CLAUDE = 1600  # Anthropic, "Vision": larger images are scaled down to about so many
_GEMINI_TILE = 258  # Gemini API, "Understand and count tokens": also for a page of a PDF

_BYTES_A_SECOND = {"wav": 48_000}  # 16 bits at 24 kHz; of a compressed format 128 kbit/s
_GEMINI_AUDIO, _OPENAI_AUDIO = 32, 10  # tokens a second: the same page; OpenAI, "Managing costs" of the Realtime API
_PAGE_BYTES = 50_000  # our guess, as the pages of a PDF can't be counted without parsing it
_TEXT_BYTES = 4  # of a token of plain text
_PAGE = 2000  # Anthropic, "PDF support": 1,500 to 3,000 tokens a page


def image_tokens(model: str, part: Mapping[str, Any]) -> int:
    """Return the tokens of an `image_url` part."""
    image = part.get("image_url")
    low = isinstance(image, dict) and image.get("detail") == "low"
    return tokens_of_size(model, size_of(url_of(part)) or ASSUMED, low=low)


def tokens_of_size(model: str, size: Size, *, low: bool = False) -> int:
    """Return the tokens of an image of so many pixels; `low` is OpenAI's `detail`."""
    model = model.lower()
    if "claude" in model:
        return min(_MOST_CLAUDE, math.ceil(size[0] * size[1] / 750))
    if "gemini" in model:
        return _gemini(*size)
    for family, factor in _PATCHES:
        if family in model:
            return math.ceil(min(_MOST_PATCHES, _cells(*size, 32)) * factor)
    base, tile = next((rule[1:] for rule in _TILES if rule[0] in model), _USUAL_TILES)
    return base if low else base + tile * _openai_tiles(*size)


def _gemini(width: int, height: int) -> int:
    return _GEMINI_TILE if max(width, height) <= 384 else _GEMINI_TILE * _cells(width, height, 768)


def _openai_tiles(width: int, height: int) -> int:
    """Return the tiles after the image is fitted into 2048 pixels, and its shorter side into 768."""
    scale = min(1.0, 2048 / max(width, height), 768 / min(width, height))
    return _cells(round(width * scale), round(height * scale), 512)


def _cells(width: int, height: int, side: int) -> int:
    return max(1, -(-width // side)) * max(1, -(-height // side))


def audio_tokens(model: str, part: Mapping[str, Any]) -> int:
    """Return the tokens of an `input_audio` part, by the length of its bytes."""
    audio = part.get("input_audio")
    audio = audio if isinstance(audio, dict) else {}
    seconds = _bytes_in(audio.get("data")) / _BYTES_A_SECOND.get(str(audio.get("format")), 16_000)
    return math.ceil(seconds * (_GEMINI_AUDIO if "gemini" in model.lower() else _OPENAI_AUDIO))


def file_tokens(model: str, part: Mapping[str, Any]) -> int:
    """Return the tokens of a `file` part; one that is only named counts as a page. A text counts as texts do."""
    file = part.get("file")
    size = _bytes_in(file.get("file_data") if isinstance(file, dict) else None)
    if format_of(part) in TEXT_FORMATS:
        return math.ceil(size / _TEXT_BYTES)
    pages = math.ceil(size / _PAGE_BYTES)
    return max(1, pages) * (_GEMINI_TILE if "gemini" in model.lower() else _PAGE)


def _bytes_in(base64: Any) -> int:
    return len(base64) * 3 // 4 if isinstance(base64, str) else 0


def size_of(url: str) -> Size | None:
    """Return the pixels of the image in a data URL; None if its head does not tell them, or if it is elsewhere."""
    begin = url.find(",", 0, 256) + 1 if url[:5].lower() == "data:" else 0
    if not begin:
        return None
    for length in _HEADS:
        size = size_in(_decode(url[begin : begin + length]))
        if size or len(url) <= begin + length:
            break
    return size if size and min(size) > 0 and max(size) <= _LONGEST_SIDE else None


def _decode(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text[: len(text) // 4 * 4])
    except ValueError:
        return b""


def size_in(head: bytes) -> Size | None:
    """Return the pixels that the first bytes of a PNG, GIF, WebP or JPEG tell."""
    try:
        return next((read(head) for magic, read in _READERS.items() if head.startswith(magic)), None)
    except (struct.error, IndexError):
        return None


def _png(head: bytes) -> Size | None:
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _gif(head: bytes) -> Size | None:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _webp(head: bytes) -> Size | None:
    """Read Google's "WebP Container Specification": the lossy, the lossless and the extended header."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(head: bytes) -> Size | None:
    """Go from segment to segment to the frame's (ITU-T T.81, B.2.2), which is 0xC0 to 0xCF but for three others."""
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", head, at + 2)[0]
    return None


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    b"\x89PNG": _png,
    b"GIF8": _gif,
    b"RIFF": _webp,
    b"\xff\xd8": _jpeg,
}
