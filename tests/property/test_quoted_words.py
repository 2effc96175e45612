"""No text that a client sends moves a circuit, whatever of it a vendor quotes in a refusal, and however.

The texts are drawn from the vendors' own tables: each is what a rule that would move a circuit looks for.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.outcomes import Outcome, Verdict
from deployments.providers.anthropic.classify import RULES as ANTHROPIC
from deployments.providers.bedrock.classify import RULES as BEDROCK
from deployments.providers.google.classify import RULES as GOOGLE
from deployments.providers.openai.errors.servers import RULES as OPENAI
from deployments.providers.vendor_errors import quotes
from deployments.providers.vendor_errors.bodies import read_error
from deployments.providers.vendor_errors.quotes import own_words
from deployments.providers.vendor_errors.rules import Rule, VendorError, kind_of

STILL = (Verdict.REFUSED, Verdict.NEUTRAL)
MOVING = sorted(
    {
        rule.text.pattern
        for rule in (*OPENAI, *BEDROCK, *GOOGLE, *ANTHROPIC)
        if rule.text is not None and Outcome(rule.kind).verdict not in STILL
    }
)
phrases = st.sampled_from(MOVING).flatmap(lambda pattern: st.from_regex(f"(?i:{pattern})", fullmatch=True))
texts = st.one_of(
    phrases, st.tuples(st.text(max_size=20), phrases, st.text(max_size=20)).map("".join), st.text(max_size=99)
)
PLACES: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {"messages": [{"role": "user", "content": text}]},
    lambda text: {"messages": [{"role": "user", "content": f"Please explain {text} to me."}]},
    lambda text: {"messages": [{"role": text, "content": [{"type": "text", "text": "Hi"}]}]},
    lambda text: {"messages": [], "tools": [{"function": {"name": text, "parameters": {}}}]},
    lambda text: {"messages": [], "tools": [{"function": {"parameters": {"properties": {text: {}}}}}]},
    lambda text: {"messages": [], "response_format": {"json_schema": {"schema": {"enum": ["a", text]}}}},
    lambda text: {"messages": [{"tool_calls": [{"function": {"arguments": json.dumps({"a": text})}}]}]},
    lambda text: {"messages": [], text: 1},
]
REFUSALS = [
    "Invalid value: '{}'. Supported values are: 'text'.",
    "Unrecognized request argument supplied: {}",
    "Value {} at 'toolConfig.tools.1.member.toolSpec.name' failed to satisfy constraint",
    'Invalid JSON payload received. Unknown name "{}" at tools[0]',
    "Invalid schema for function 'f': In context=('properties', '{}'), schema must have a 'type' key.",
    "[{{'type': 'literal_error', 'loc': ('body', 'messages'), 'input': {}}}]",
    "This argument is not supported: {}",
    "unknown {}",
    "the model's template refuses {}",
    "{}",
]
HOW: list[Callable[[str], str]] = [str, json.dumps, repr, str.upper, lambda text: text.replace("\n", " ")]


def kinds_of(message: str, status: int, asked: dict[str, Any]) -> list[str]:
    """Return what each table makes of a refusal."""
    body = {"error": {"message": message, "type": "invalid_request_error", "code": None, "param": None}}
    told = read_error(body, status)
    tables: Sequence[tuple[VendorError, Sequence[Rule]]] = (
        (told, OPENAI),
        (read_error({"detail": [{"loc": ["body", "x"], "msg": message}]}, status), OPENAI),
        (read_error(message, status), OPENAI),
        (VendorError(status, told.message, "ValidationException"), BEDROCK),
        (VendorError(status, told.message, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), GOOGLE),
        (VendorError(status, told.message, "invalid_request_error", "invalid_request_error"), ANTHROPIC),
    )
    return [kind_of(error, rules, asked) for error, rules in tables]


@given(
    text=texts,
    place=st.sampled_from(PLACES),
    refusal=st.sampled_from(REFUSALS),
    how=st.sampled_from(HOW),
    status=st.sampled_from([400, 413, 422]),
)
def test_no_text_of_a_client_that_a_refusal_quotes_moves_a_circuit(
    text: str, place: Callable[[str], dict[str, Any]], refusal: str, how: Callable[[str], str], status: int
) -> None:
    asked = {"model": "row", **place(text)}
    for kind in kinds_of(refusal.format(how(text)), status, asked):
        assert Outcome(kind).verdict in STILL, kind


@given(text=st.tuples(st.text(min_size=1, max_size=20), phrases).map("".join), cut=st.integers(12, 60))
def test_the_beginning_of_a_text_that_is_quoted_moves_no_circuit(text: str, cut: int) -> None:
    asked = {"messages": [{"role": "user", "content": text + " and so on"}]}
    for kind in kinds_of(f"Invalid input: {text[:cut]}...", 400, asked):
        assert Outcome(kind).verdict in STILL, kind


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("This feature is not supported: allowed_countries", ["allowed_countries"]),
        ("This tool is not supported in countries", ["countries"]),
        ("Unknown name: api key not found", ["api key not found"]),
        ("unknown model parameter", ["model parameter"]),
        ("the tool 'account' could not be verified: account verify", ["account verify", "account"]),
    ],
)
def test_half_a_sentence_of_a_client_moves_no_circuit(message: str, names: list[str]) -> None:
    asked = {"tools": [{"function": {"name": name}} for name in names]}
    for kind in kinds_of(message, 400, asked):
        assert Outcome(kind).verdict in STILL, kind


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Incorrect API key provided: sk-x."),
        (400, "Your credit balance is too low to access the Anthropic API."),
        (404, "The model `gpt-9` does not exist or you do not have access to it."),
    ],
)
def test_what_a_vendor_says_itself_still_moves_a_circuit(status: int, message: str) -> None:
    asked = {"model": "gpt-9", "messages": [{"role": "user", "content": "Hi, I have an api and a key"}], "user": "ann"}
    assert Outcome(kinds_of(message, status, asked)[0]).verdict is Verdict.MISCONFIGURED


def test_the_words_of_a_request_are_found_however_deep_they_are() -> None:
    asked: Any = "incorrect"
    for _ in range(5000):
        asked = [asked]
    assert own_words("incorrect api key", asked) == "x api key"


LONG = {
    "a text": "x" * quotes._MOST_SEARCHED,
    "JSON in a text": "[" + "[]," * (quotes._MOST_SEARCHED // 24) + "0]",
    "values": [[]] * (quotes._MOST_SEARCHED // 8),
    "names": {f"{n:08}": 0 for n in range(quotes._MOST_SEARCHED // 16)},
}


@pytest.mark.parametrize("name", LONG)
def test_a_request_for_whose_search_others_would_wait_moves_no_circuit_by_a_text(name: str) -> None:
    asked = {"model": "gpt-9", "messages": [{"role": "user", "content": "Hi"}]}
    message = "Incorrect API key provided: sk-x."
    assert Outcome(kinds_of(message, 400, asked)[0]).verdict is Verdict.MISCONFIGURED
    assert Outcome(kinds_of(message, 400, {**asked, "metadata": LONG[name]})[0]).verdict in STILL


def test_words_of_a_vendor_and_of_a_client_together_are_no_word_of_the_vendors() -> None:
    said = "is not servable in region"
    asked = {"model": "row", "messages": [{"role": "user", "content": f"Please explain {said} to me."}]}
    for kind in kinds_of(f"This argument is not supported: {said}", 400, asked):
        assert Outcome(kind).verdict in STILL, kind
