"""One request may name several models, in the order in which they may answer."""

from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import BadRequest, UnknownModel
from deployments.openai_api.chat import check_request
from tests.unit.test_sessions import SERVER_ERROR, in_world
from tests.unit.world import REQUEST, World

MESSAGES = {"messages": REQUEST["messages"]}


def asked(**body: Any) -> tuple[str, tuple[str, ...]]:
    request = check_request({**MESSAGES, **body})
    assert "models" not in request.body
    return request.model, request.others


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"model": "a"}, ("a", ())),
        ({"model": "a", "models": None}, ("a", ())),
        ({"model": "a", "models": []}, ("a", ())),
        ({"models": ["a", "b"]}, ("a", ("b",))),
        ({"model": "c", "models": ["a", "b"]}, ("c", ("a", "b"))),
        ({"model": "b", "models": ["a", "b"]}, ("b", ("a",))),
    ],
)
def test_the_model_is_the_first_and_the_list_goes_on(body: Any, found: Any) -> None:
    assert asked(**body) == found


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"models": []}, "model"),
        ({"models": "a"}, "models"),
        ({"model": "a", "models": 0}, "models"),
        ({"model": "a", "models": False}, "models"),
        ({"model": "a", "models": ""}, "models"),
        ({"model": "a", "models": {}}, "models"),
        ({"model": "a", "models": "b"}, "models"),
        ({"models": [7]}, "models"),
        ({"models": ["a", ""]}, "models"),
        ({"models": ["a" * 600, "b"]}, "models"),
        ({"models": [f"m{n}" for n in range(17)]}, "models"),
    ],
)
def test_what_is_no_list_of_models_is_refused_by_name(body: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(**body)
    assert str(caught.value.param).partition(".")[0] == param


def test_each_target_is_asked_once_in_the_requests_own_order() -> None:
    async def test(w: World) -> None:
        for script in w.hop.providers.values():
            script.ends = [SERVER_ERROR]
        w.provider("local").ends = [None]
        request = check_request({**MESSAGES, "models": ["openai/gpt", "default"]})
        answer = await w.service.failover.complete(request, w.service.deadline())
        assert [entry["provider"] for entry in answer.record.entries] == ["openai", "aws", "local"]

    in_world(test)


def test_an_unknown_name_among_them_is_told() -> None:
    async def test(w: World) -> None:
        request = check_request({**MESSAGES, "models": ["default", "nope"]})
        with pytest.raises(UnknownModel, match="nope"):
            await w.service.failover.complete(request, w.service.deadline())

    in_world(test)


def test_the_first_that_can_take_it_is_asked() -> None:
    async def test(w: World) -> None:
        w.provider("openai").ends = [Outcome("content_filter", status=400)]
        request = check_request({**MESSAGES, "models": ["aws/haiku", "openai/gpt"]})
        assert (await w.service.failover.complete(request, w.service.deadline())).target == "aws/haiku"

    in_world(test)
