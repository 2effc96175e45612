"""How many tokens a prompt is taken to have of which no provider told any."""

import base64
import struct
from typing import Any

import pytest

from deployments.usage.media_tokens import size_of, tokens_of_size
from deployments.usage.prompt_estimate import estimate_prompt, text_tokens


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **more}


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0" + bytes(40)


def jpeg(width: int, height: int, preview: int = 0) -> bytes:
    """A JPEG's head; a camera puts a preview before the size."""
    exif = b"\xff\xe1" + struct.pack(">H", preview + 2) + bytes(preview)
    return b"\xff\xd8" + exif + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + bytes(100)


def picture(data: bytes, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(data), **more}}


def test_twenty_thousand_characters_are_five_thousand_tokens() -> None:
    assert estimate_prompt(chat("x" * 20_000)) == pytest.approx(5000, rel=0.01)


def test_tools_and_the_arguments_of_calls_count_by_their_length() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 80_000}}]
    assert estimate_prompt(chat("hi", tools=tools)) == pytest.approx(20_000, rel=0.01)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "a" * 80_000}}
    history = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert estimate_prompt(history) == pytest.approx(20_000, rel=0.01)


def test_a_chinese_character_counts_for_more_than_a_latin_one() -> None:
    assert estimate_prompt(chat("漢" * 1000)) > 3 * estimate_prompt(chat("h" * 1000))


@pytest.mark.parametrize(
    ("model", "size", "low", "tokens"),
    [
        ("gpt-4o", (1024, 1024), False, 765),  # the examples of OpenAI's page
        ("gpt-4o", (2048, 4096), False, 1105),
        ("gpt-4o", (4096, 8192), True, 85),
        ("gpt-4.1-mini", (1024, 1024), False, 1659),
        ("gpt-4.1-mini", (5000, 5000), True, 2489),
        ("gpt-4o-mini", (512, 512), False, 8500),
        ("o3", (512, 512), False, 225),
        ("us.anthropic.claude-sonnet-4", (1000, 1000), False, 1334),  # Anthropic's example
        ("claude-3-haiku", (5000, 5000), False, 1600),
        ("gemini-2.5-flash", (384, 384), False, 258),
        ("gemini-2.5-flash", (960, 540), False, 516),
    ],
)
def test_an_image_counts_by_its_vendors_rule(model: str, size: tuple[int, int], low: bool, tokens: int) -> None:
    assert tokens_of_size(model, size, low=low) == tokens


@pytest.mark.parametrize(
    "data",
    [
        png(640, 480),
        jpeg(640, 480),
        jpeg(640, 480, preview=40_000),
        b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(40),
        b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x7f\x02\0\xdf\x01\0" + bytes(9),
        b"RIFF\0\0\0\0WEBPVP8L" + bytes(5) + struct.pack("<I", 639 | 479 << 14) + bytes(8),
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480) + bytes(9),
    ],
)
def test_the_head_of_an_image_tells_its_size(data: bytes) -> None:
    assert size_of(data_url(data)) == (640, 480)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "data:image/png;base64,", "data:image/png;base64,iVBORw0", data_url(png(0, 9))]
)
def test_an_image_whose_size_is_unknown_counts_as_one_of_1024_pixels(url: str) -> None:
    assert size_of(url) is None
    part = {"type": "image_url", "image_url": {"url": url}}
    assert estimate_prompt(chat([part]), "gpt-4o") == 765 + 4


def test_the_bytes_of_an_image_are_no_text() -> None:
    large = chat([{"type": "text", "text": "hi"}, picture(png(64, 64) + bytes(100_000), detail="low")])
    assert estimate_prompt(large, "gpt-4.1") == pytest.approx(90, abs=2)


def test_recordings_and_files_count_by_their_length() -> None:
    minute = {"type": "input_audio", "input_audio": {"format": "wav", "data": "A" * (60 * 64_000)}}
    assert estimate_prompt(chat([minute]), "gemini-2.5-pro") == 1920 + 4
    assert estimate_prompt(chat([minute]), "gpt-4o-audio-preview") == 600 + 4
    named = {"type": "file", "file": {"file_id": "file-1"}}
    assert estimate_prompt(chat([named]), "gemini-2.5-pro") == 258 + 4


def test_a_prompt_is_never_more_than_the_window_nor_less_than_a_token() -> None:
    assert estimate_prompt(chat("x" * 20_000), "gpt", 1000) == 1000
    assert estimate_prompt(None) == estimate_prompt({}) == estimate_prompt({"input": ""}) == 1


def test_embeddings_count_texts_and_tokens() -> None:
    assert estimate_prompt({"input": ["x" * 40, "y" * 40]}) == 20
    assert estimate_prompt({"input": [[1, 2, 3], [4]]}) == 4


@pytest.mark.parametrize("odd", ["\ud800", [5], [{"type": []}], {"a": 2**70}, [{"type": "image_url"}], 7, [None]])
def test_no_body_makes_an_estimate_fail(odd: Any) -> None:
    assert estimate_prompt(chat(odd, tools=odd)) >= 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "A" * 10**6}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "Ab+/" * 250_000}},
    ],
)
def test_a_medium_without_a_rule_is_not_counted_as_text(part: Any) -> None:
    assert estimate_prompt(chat([part])) < 1700


def test_a_long_text_without_spaces_is_a_text_all_the_same() -> None:
    assert estimate_prompt(chat([{"type": "text", "text": "A" * 100_000}])) == 25_004


@pytest.mark.parametrize("character", ["x", "\u0436", "\U0001f600", "\ud800"])
def test_a_long_text_counts_for_as_much_as_its_parts(character: str) -> None:
    text = "x" + character * 100_000
    assert text_tokens(text) == pytest.approx(text_tokens("x") + 1000 * text_tokens(character * 100))
