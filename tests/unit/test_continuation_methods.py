"""By which method each model is asked to go on, by the ids that it has at its vendors."""

import pytest

from deployments.continuation.methods import method_of, refuses_prefill

OWN = [
    ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "prefill"),
    ("claude-haiku-4-5@20251001", "prefill"),
    ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "prefill"),
    ("claude-sonnet-4-20250514", "prefill"),
    ("claude-sonnet-4-5", "prefill"),
    ("claude-opus-4-1-20250805", "prefill"),
    ("claude-opus-4-6", "instruct"),
    ("claude-opus-4-10", "instruct"),
    ("claude-sonnet-4-6", "instruct"),
    ("claude-sonnet-5", "instruct"),
    ("amazon.nova-pro-v1:0", "prefill"),
    ("us.meta.llama3-3-70b-instruct-v1:0", "instruct"),
    ("gemini-2.5-flash", "prefill"),
    ("gemini-3.5-flash", "prefill"),
    ("gemini-3.5-flash-lite", "instruct"),
    ("gemini-3.6-flash", "instruct"),
    ("gemini-3.8-flash", "instruct"),
]
HOSTS = [
    (None, "instruct"),
    ("https://api.mistral.ai/v1", "prefix"),
    ("https://api.deepseek.com/beta", "prefix"),
    ("https://api.deepseek.com", "instruct"),
    ("https://api.moonshot.ai/v1", "partial"),
    ("https://api.groq.com/openai/v1", "instruct"),
    ("https://mistral.ai.example/v1", "instruct"),
]


@pytest.mark.parametrize(("model", "word"), OWN)
def test_a_model_of_a_vendors_own_api_is_known_by_its_id(model: str, word: str) -> None:
    assert method_of(model, in_process=False, passes_through=False).word == word


@pytest.mark.parametrize(("base_url", "word"), HOSTS)
def test_a_server_that_gets_chats_as_they_are_is_known_by_its_host(base_url: str | None, word: str) -> None:
    for model in ("claude-haiku-4-5", "m"):
        assert method_of(model, in_process=False, passes_through=True, base_url=base_url).word == word


def test_the_model_in_this_machine_is_held_to_the_word_that_was_cut() -> None:
    assert method_of("smollm2-135m", in_process=True, passes_through=False).forced


@pytest.mark.parametrize(
    "message",
    [
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "requires the last turn in the conversation to be a user message",
        "Requests ending with a model turn are not supported by this model.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
        "Cannot have 2 or more assistant messages at the end of the list.",
        "When `thinking` is enabled, a response can't be pre-filled.",
    ],
)
def test_a_refusal_of_the_assistants_last_turn_is_known(message: str) -> None:
    assert refuses_prefill(message)
    assert not refuses_prefill("temperature must be between 0 and 2")
