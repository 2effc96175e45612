"""An estimate of a prompt for drawn bodies: it grows with the text, is bounded by the window, and never fails."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.usage.prompt_estimate import estimate_prompt

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KIND = st.sampled_from(["text", "image_url", "input_audio", "file", "odd"])
PART = st.fixed_dictionaries({"type": KIND}, optional={k: JSON for k in ("text", "image_url", "input_audio", "file")})
MODEL = st.sampled_from(["gpt-4o", "gpt-4.1-mini", "claude-haiku", "gemini-2.5-pro", "smol"])


def chat(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@given(st.text(), st.text())
def test_a_longer_text_is_never_fewer_tokens(text: str, more: str) -> None:
    assert estimate_prompt(chat(text)) <= estimate_prompt(chat(text + more))


@given(st.lists(PART, max_size=4) | JSON, JSON, MODEL, st.integers(1, 10**6))
def test_any_body_has_an_estimate_between_one_token_and_the_window(
    content: Any, tools: Any, model: str, window: int
) -> None:
    assert 1 <= estimate_prompt({**chat(content), "tools": tools}, model, window) <= window
