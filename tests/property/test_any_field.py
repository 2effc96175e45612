"""Any JSON in a field of a chat: it is refused, or each kind says what it makes of it. No value is our fault."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import BadRequest
from deployments.openai_api.capabilities import find_unsupported
from deployments.openai_api.chat import check_chat
from deployments.providers.kinds import KINDS

FIELDS = sorted({name for kind in KINDS.values() if kind.capabilities for name in kind.capabilities.checks})
SCALARS = st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from([0.5, "", "auto", "high", "flex", "a"])
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)
MODELS = ("claude-sonnet-4-5", "amazon.nova-pro-v1:0", "gemini-3-flash", "gpt-5.6")


@pytest.mark.parametrize("name", FIELDS)
@settings(max_examples=60, deadline=None)
@given(value=ANYTHING)
def test_any_value_of_a_field_is_refused_or_understood(name: str, value: Any) -> None:
    body = {"model": "row", "messages": [{"role": "user", "content": "Hi"}], name: value}
    try:
        check_chat(body)
    except BadRequest:
        return
    for kind in KINDS.values():
        for model in MODELS:
            find_unsupported(kind.capabilities, body, model)
