"""The context windows of the vendors' models: that of each id is its family's, and no other's."""

import pytest

from deployments.config.providers import OpenAI
from deployments.providers.known_windows import known_window


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", 200_000),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", 200_000),
        ("anthropic.claude-opus-4-7", 1_000_000),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", 200_000),
        ("gpt-5.4-mini", 272_000),
        ("gpt-5.4-mini-2026-03-17", 272_000),
        ("gpt-5.4", 1_050_000),
        ("gpt-5.4-2026-03-05", 1_050_000),
        ("gpt-5-chat-latest", 128_000),
        ("gpt-5", 272_000),
        ("gpt-4.1-nano", 1_047_576),
        ("openai/gpt-4o-2024-11-20", 128_000),
        ("o4-mini", 200_000),
        ("gemini-3.8-flash", 1_048_576),
        ("gemini-2.5-pro", 1_048_576),
        ("amazon.nova-lite-v1:0", 300_000),
        ("amazon.nova-2-lite-v1:0", 1_000_000),
        *((name, None) for name in ("gpt-4", "my-gpt", "gpt-50", "llama-3", "gemini-2.5-flash-image", "solo-1", "gpt")),
    ],
)
def test_a_model_has_the_window_of_its_family(model: str, window: int | None) -> None:
    assert known_window(model) == window


def test_the_configuration_goes_before_what_is_known() -> None:
    settings = OpenAI.model_validate({"kind": "openai", "context_windows": {"gpt-4.1": 8000}})
    assert (settings.window("gpt-4.1"), settings.window("gpt-4o"), settings.window("other")) == (8000, 128_000, None)
