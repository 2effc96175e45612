"""Other names of rows, and patterns of names."""

import pytest

from deployments.config.application import parse
from deployments.errors import ConfigError, UnknownModel
from deployments.routing.aliases import Aliases
from deployments.routing.model_rows import ModelRows
from tests.clock import run_virtually
from tests.unit.test_http_api import client
from tests.unit.world import ARGS, REQUEST

NAMED = {"gpt-5": "row", "claude-*": "large", "claude-*haiku*": "small", "*": "row"}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("claude-opus-4-8", "large"),
        ("claude-haiku-4-5-20251001", "small"),
        ("claude-", "large"),
        ("claude", "row"),
        ("", "row"),
    ],
)
def test_the_pattern_that_says_most_counts(name: str, row: str) -> None:
    assert Aliases(NAMED).matching(name) == row


@pytest.mark.parametrize("name", ["ab", "aXXb", "ab*b"])
def test_a_star_stands_for_any_text_and_for_none(name: str) -> None:
    assert Aliases({"a*b": "row"}).matching(name) == "row"


@pytest.mark.parametrize("name", ["a", "b", "abc", "xab", "A*B"])
def test_what_does_not_match_means_no_row(name: str) -> None:
    assert Aliases({"a*b": "row"}).matching(name) is None


def test_parts_of_a_pattern_do_not_overlap() -> None:
    assert Aliases({"ab*ba": "row"}).matching("aba") is None
    assert Aliases({"a*bc*cd": "row"}).matching("abcd") is None


def test_only_names_without_a_star_are_listed() -> None:
    assert Aliases(NAMED).names == ["gpt-5"]


ALIASED = {**ARGS, "aliases": {"gpt-5": "solo", "claude-*": "default", "*": "solo"}}


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("default", "aws"),
        ("claude-opus", "aws"),
        ("gpt-5", "openai"),
        ("never-heard-of", "openai"),
        ("aws/opus", "aws"),
    ],
)
def test_a_request_goes_to_the_row_that_is_meant(model: str, provider: str) -> None:
    async def main() -> None:
        async with client(ALIASED) as (http, w):
            response = await http.post("/v1/chat/completions", json={**REQUEST, "model": model})
            assert response.status_code == 200
            assert response.headers["x-breakwater-provider"] == provider
            request = await w.service.queries.request(response.headers["x-breakwater-request-id"])
            assert request["row"] == {"claude-opus": "default", "gpt-5": "solo", "never-heard-of": "solo"}.get(
                model, model
            )

    run_virtually(main())


def test_models_are_listed_by_their_other_names_too_and_patterns_are_not() -> None:
    async def main() -> None:
        async with client(ALIASED) as (http, _):
            listed = (await http.get("/v1/models")).json()["data"]
            assert [model["id"] for model in listed] == ["default", "solo", "gpt-5"]
            for name in ("gpt-5", "claude-opus"):
                assert (await http.get(f"/v1/models/{name}")).json()["id"] == name

    run_virtually(main())


def test_without_a_pattern_an_unknown_name_stays_unknown() -> None:
    async def main() -> None:
        async with client({**ARGS, "aliases": {"claude-*": "default"}}) as (http, _):
            response = await http.post("/v1/chat/completions", json={**REQUEST, "model": "gpt-6"})
            assert response.status_code == 404
            response = await http.post("/v1/chat/completions", json={**REQUEST, "model": "nobody/claude-x"})
            assert response.status_code == 404

    run_virtually(main())


def test_a_pinned_model_of_a_provider_that_is_left_out_is_no_other_model() -> None:
    left_out = {"openai": "OPENAI_API_KEY is not set"}
    rows = ModelRows({"solo": ["aws/haiku"]}, {"aws": "bedrock"}, left_out=left_out, aliases={"*": "solo"})
    with pytest.raises(UnknownModel, match="left out"):
        rows.of("openai/gpt-x")


@pytest.mark.parametrize(
    ("aliases", "sentence"),
    [
        ({"gpt-5": "defalt"}, "aliases.gpt-5: no such row: defalt (known: default, solo), did you mean default?"),
        ({"solo": "default"}, "aliases.solo: a row has this name"),
    ],
)
def test_an_alias_that_means_nothing_is_refused(aliases: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse({**ARGS, "aliases": aliases})
    assert str(refused.value) == sentence
