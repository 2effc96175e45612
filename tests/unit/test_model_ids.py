"""An id of a model that its vendor can't have is the request's own fault, before anything is sent."""

import pytest

from deployments.errors import BadRequest
from deployments.routing.model_rows import ModelRows

KINDS = {"openai": "openai", "bedrock": "bedrock", "google": "google"}
ROWS = {"row": ["google/odd#one", "bedrock/m"]}
# Each of them would be another path, another method of the API, or another host's.
PATHS = ["../x", "..", ".", "x#y", "x?y", "x:countTokens#", "a%2Fb", "%2e%2e/files", "a\\b", "{x}", "<x>", "*", "/x"]


def rows() -> ModelRows:
    return ModelRows(ROWS, KINDS)


@pytest.mark.parametrize("upstream", [*PATHS, "a&b=c", "a;b", "a|b", "a+b", "'x'", '"', "~", "^", "//evil.example/x"])
@pytest.mark.parametrize("provider", ["bedrock", "google"])
def test_what_would_be_more_than_a_name_in_a_url_is_refused(provider: str, upstream: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rows().of(f"{provider}/{upstream}")
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "model", "invalid_value")
    assert provider in str(caught.value)


@pytest.mark.parametrize("upstream", ["a..b", "x:countTokens", "a//b", "a/./b", "x/", "models/../files/x"])
def test_gemini_has_the_id_in_its_path_as_it_is_so_no_step_and_no_method_may_be_in_it(upstream: str) -> None:
    with pytest.raises(BadRequest):
        rows().of(f"google/{upstream}")


@pytest.mark.parametrize("upstream", [*PATHS, "deepseek-ai/DeepSeek-V3:free", "@cf/meta/llama-3", "ft:gpt-4o:me::x"])
def test_a_server_that_gets_the_id_in_its_body_may_have_any(upstream: str) -> None:
    assert rows().of(f"openai/{upstream}") == [f"openai/{upstream}"]


@pytest.mark.parametrize(
    "target",
    [
        "bedrock/global.anthropic.claude-haiku-4-5-20251001-v1:0",
        "google/gemini-2.5-flash",
        "google/models/gemini-2.5-flash-preview-05-20",
        "google/tunedModels/my-model-1a2b",
        "google/publishers/google/models/gemini-2.0-flash@001",
        "google/odd#one",
    ],
)
def test_each_form_that_a_vendor_documents_can_be_pinned_and_so_can_what_the_configuration_names(target: str) -> None:
    assert rows().of(target) == [target]


@pytest.mark.parametrize(
    "upstream",
    [
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
        "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:custom-model/a.b/abcdefghijkl",
    ],
)
def test_an_arn_would_carry_its_account_into_the_ledger_so_it_is_asked_for_by_its_name(upstream: str) -> None:
    with pytest.raises(BadRequest, match="by the name that its configuration gives it") as refused:
        rows().of(f"bedrock/{upstream}")
    assert "123456789012" not in str(refused.value)


@pytest.mark.parametrize("upstream", ["a b", "a\nb", "é", "\x00", "", " ", "m" * 257])
@pytest.mark.parametrize("provider", KINDS)
def test_no_provider_is_asked_for_a_name_of_other_characters(provider: str, upstream: str) -> None:
    with pytest.raises(BadRequest, match="printable ASCII"):
        rows().of(f"{provider}/{upstream}")
