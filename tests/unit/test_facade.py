"""The facade: what an agent gets and reads, in the shapes that the user named."""

from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.python_api.facade import Facade
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR, in_world
from tests.unit.world import ARGS, World, world


def facade(w: World) -> Facade:
    return Facade(w.service)


def all_fail(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [SERVER_ERROR]


@in_world
async def test_a_completion_says_the_response_and_who_gave_it(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    answer = await facade(w).generate_completion(
        prompt="Hi", agent_id="meetmind.coordinator", tenant_id="tenant_123", model="default", temperature=0.3
    )
    assert answer["response"] == "openai says hello"
    assert (answer["provider_used"], answer["model"], answer["attempts"]) == ("openai", "gpt", 2)
    assert answer["usage"] == {"total_tokens": 3}
    assert answer["latency_ms"] >= 0
    assert answer["degraded"] is False


@in_world
async def test_a_prompt_may_be_messages_and_the_model_is_the_default_row(w: World) -> None:
    answer = await facade(w).generate_completion([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])
    assert answer["provider_used"] == "aws"


@in_world
async def test_what_is_wrong_is_named_as_the_caller_wrote_it(w: World) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prompt": 7}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [{"role": "nobody", "content": "x"}]}, "prompt.0.role"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "temperature": 9.0}, "temperature"),
        ({"prompt": "x", "agent_id": 7}, "agent_id"),
        ({"prompt": "x", "tenant_id": ""}, "tenant_id"),
        ({"prompt": "x", "messages": []}, "messages"),
        ({"prompt": "x", "timeout_seconds": 0}, "timeout"),
    ]
    for arguments, param in wrong:
        answer = await facade(w).generate_completion(**arguments)
        assert (answer["status"], answer["error"]["param"]) == (400, param), arguments
        assert f"'{param}'" in answer["error"]["message"]
        assert [x async for x in facade(w).generate_streaming_completion(**arguments)] == [answer]
    unknown = await facade(w).generate_completion("x", model="gpt-17")
    assert (unknown["status"], unknown["error"]["code"]) == (404, "model_not_found")


@in_world
async def test_when_nobody_answers_the_attempts_and_the_time_to_wait_are_told(w: World) -> None:
    all_fail(w)
    answer = await facade(w).generate_completion("Hi")
    assert answer["status"] == 503
    assert answer["retry_after"] > 0
    assert [a["provider"] for a in answer["error"]["attempts"]] == ["aws", "openai", "local"]


@in_world
async def test_a_stream_is_deltas_and_then_the_whole(w: World) -> None:
    items = [item async for item in facade(w).generate_streaming_completion("Hi")]
    assert items[:-1] == [{"delta": "Hel"}, {"delta": "lo"}]
    assert items[-1]["response"] == "Hello"
    assert (items[-1]["provider_used"], items[-1]["attempts"]) == ("aws", 1)


@in_world
async def test_a_stream_that_breaks_ends_in_an_error_that_says_whose_it_was(w: World) -> None:
    w.provider("aws").after = 1
    w.provider("aws").ends = [Outcome("broken", content=True)]
    items = [item async for item in facade(w).generate_streaming_completion("Hi")]
    assert items[0] == {"delta": "Hel"}
    assert (items[1]["status"], items[1]["error"]["code"]) == (503, "stream_interrupted")
    assert items[1]["provider_used"] == "aws"
    assert len(items) == 2


@in_world
async def test_closing_a_stream_of_the_facade_frees_the_provider(w: World) -> None:
    w.provider("aws").pace = 1.0
    items = facade(w).generate_streaming_completion("Hi")
    await anext(items)
    await items.aclose()
    assert w.provider("aws").cancelled == 1


@in_world
async def test_the_system_is_healthy_degraded_or_unhealthy(w: World) -> None:
    service = (await facade(w).get_system_health())["services"]["llm"]
    assert service == {
        "health": "healthy",
        "circuit_breaker_state": "closed",
        "failure_count": 0,
        "aws_available": True,
        "local_available": True,
    }
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await facade(w).generate_completion("Hi")
    await w.settle()
    service = (await facade(w).get_system_health())["services"]["llm"]
    assert (service["health"], service["circuit_breaker_state"], service["failure_count"]) == ("degraded", "open", 3)
    assert service["aws_available"] is False
    for name in ("openai", "local"):
        await facade(w).isolate(name)
    assert (await facade(w).get_system_health())["services"]["llm"]["health"] == "unhealthy"


@pytest.mark.parametrize(
    ("mode", "aws", "local", "available"),
    [
        ("hybrid", True, True, ["aws", "openai", "local"]),
        ("aws_only", True, False, ["aws", "openai"]),
        ("local_only", False, True, ["local"]),
    ],
)
def test_the_mode_changes_what_is_available(mode: str, aws: bool, local: bool, available: list[str]) -> None:
    async def main() -> None:
        async with world({**ARGS, "mode": mode, "models": {"default": ARGS["models"]["default"]}}) as w:
            health = await facade(w).get_system_health()
            service = health["services"]["llm"]
            assert health["mode"] == mode
            assert (service["aws_available"], service["local_available"]) == (aws, local)
            assert service["health"] == "healthy"
            summary = await facade(w).get_health_summary()
            assert summary["available_providers"] == available

    run_virtually(main())


@in_world
async def test_all_health_is_one_provider_after_another(w: World) -> None:
    every = await facade(w).get_all_provider_health()
    assert list(every) == ["aws", "openai", "local"]
    assert every["aws"] == await facade(w).get_provider_health("aws")


@in_world
async def test_an_operator_may_recover_reset_isolate_and_restore_by_the_users_names(w: World) -> None:
    f = facade(w)
    assert (await f.isolate("aws"))["available"] is False
    assert (await f.restore("aws"))["available"] is True
    await w.settle()
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await f.generate_completion("Hi")
    await w.settle()
    assert (await f.get_provider_health("aws"))["state"] == "open"
    assert (await f.force_provider_recovery("aws"))["state"] == "half_open"
    after = await f.reset_provider_stats("aws")
    assert (after["state"], after["total_requests"]) == ("closed", 0)


@in_world
async def test_an_unknown_provider_is_a_typed_404(w: World) -> None:
    f = facade(w)
    asked = [f.get_provider_health("x"), f.force_provider_recovery("x"), f.reset_provider_stats("x"), f.isolate("x")]
    for answer in [await a for a in asked]:
        assert (answer["status"], answer["error"]["code"]) == (404, "not_found")
    assert (await f.isolate("aws", -1))["error"]["param"] == "seconds"
