"""Kind `serve` with real handles: deployments of another application on the same cluster."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from msgspec import structs
from ray import serve
from ray.exceptions import ActorDiedError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed
from deployments.providers.base import Call, End, Frames, complete_within, stream_within
from deployments.providers.serve.adapter import ServeProvider
from deployments.providers.serve.handle import HandleDeployment, Place, failure_of_call
from deployments.providers.time_limits import TimeLimits
from tests.cluster.conftest import GPU, SOON, Cluster, eventually
from tests.cluster.contract_app import WORDS, Adapter, Contract, Engine
from tests.fakes.server import Behaviour
from tests.readme import blocks

APP = "contract"
LIMITS = TimeLimits(connect=10, first_token=30, idle=30, total=60)


def deploy(name: str = "Contract", app: str = APP, **options: Any) -> None:
    least = {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}, "health_check_period_s": 1}
    made: Any = serve.deployment(name=name, **{**least, **options})(Contract)
    serve.run(made.bind(), name=app, route_prefix=None)


@pytest.fixture(scope="module")
def contract(cluster: Cluster) -> Iterator[Cluster]:
    deploy()
    yield cluster
    serve.delete(APP)


def provider(app: str = APP, deployment: str | None = None, multiplexed: bool = False, **methods: str) -> ServeProvider:
    return ServeProvider(HandleDeployment(Place(app, deployment, multiplexed), LIMITS.connect), **methods)


def call(user: str | None = None, limits: TimeLimits = LIMITS, **body: Any) -> Call:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return Call({"model": "row", "messages": messages, "user": user, **body}, "theirs", "row", limits)


async def whole(asked: ServeProvider, **more: Any) -> Any:
    return (await complete_within(asked, call(**more))).usage


async def streamed(asked: ServeProvider, **more: Any) -> tuple[bytes, End | None]:
    frames, items = b"", stream_within(asked, call(stream=True, **more))
    async for item in items:
        if isinstance(item, Frames):
            frames += item.data
        else:
            return frames, item
    return frames, None


def failure(cluster: Cluster, work: Any) -> Outcome:
    with pytest.raises(AttemptFailed) as caught:
        cluster.run(work)
    return caught.value.outcome


async def asked_of(method: str, app: str = APP) -> Any:
    return await getattr(serve.get_app_handle(app), method).remote()


def test_a_whole_answer_and_a_stream_come_by_handle(contract: Cluster) -> None:
    theirs = provider()
    assert contract.run(whole(theirs))["total_tokens"] == 10
    frames, end = contract.run(streamed(theirs))
    assert all(word.encode() in frames for word in WORDS)
    assert end is not None
    by_name = provider(deployment="Contract")
    assert contract.run(whole(by_name))["total_tokens"] == 10


def test_errors_exceptions_and_streams_that_break_off_are_told_apart(contract: Cluster) -> None:
    theirs = provider()
    assert failure(contract, whole(theirs, user="errs")).kind == "throttled"
    for stream, work in ((False, whole), (True, streamed)):
        raised = failure(contract, work(theirs, user="raises"))
        assert (raised.kind, raised.content) == ("server_error", stream)
        assert "ValueError: no such thing" in raised.message
    assert failure(contract, streamed(theirs, user="ends")).kind == "broken"


def test_a_method_that_is_not_there_or_is_no_generator_is_named(contract: Cluster) -> None:
    missing = failure(contract, whole(provider(method="talk")))
    assert missing.kind == "model_missing"
    assert "talk" in missing.message
    plain = failure(contract, streamed(provider(stream_method="plain")))
    assert plain.kind == "server_error"
    assert "did not return a generator" in plain.message


@pytest.mark.parametrize("stream", [False, True])
def test_our_time_limits_and_our_callers_cancel_go_through_to_the_deployment(contract: Cluster, stream: bool) -> None:
    theirs, what = provider(), "stream" if stream else "whole"
    work = streamed if stream else whole

    def left() -> int:
        return contract.run(asked_of("what_was_left")).count(what)

    before = left()
    short = structs.replace(LIMITS, idle=0.3, total=0.3)
    assert failure(contract, work(theirs, user="hangs", limits=short)).kind == ("idle" if stream else "timeout")
    eventually(lambda: left() == before + 1)

    async def cancelled() -> None:
        task = asyncio.ensure_future(work(theirs, user="hangs"))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    contract.run(cancelled())
    eventually(lambda: left() == before + 2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_replica_that_dies_in_mid_call_is_lost_and_the_next_one_answers(contract: Cluster, stream: bool) -> None:
    theirs = provider()
    lost = failure(contract, (streamed if stream else whole)(theirs, user="dies"))
    assert (lost.kind, lost.content) == ("lost", stream)
    assert contract.run(whole(theirs))["total_tokens"] == 10


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ActorDiedError(), "lost"),
        (TaskCancelledError(), "lost"),
        (BackPressureError(1, 1), "busy"),
        (ValueError("no such thing"), "server_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_call_of_the_methods_own_that_failed_is_told_as_one_of_ours_without_addresses(
    cause: Exception, kind: str
) -> None:
    """As that of the adapter to an engine behind it, which Ray hands on as the error of the method."""
    outcome = failure_of_call(RayTaskError("chat", "a traceback", cause).as_instanceof_cause()).outcome
    assert (outcome.kind, "actor" in outcome.message) == (kind, False)


def test_a_full_queue_is_busy(contract: Cluster) -> None:
    deploy(name="Narrow", app="narrow", max_ongoing_requests=1, max_queued_requests=1)
    try:
        theirs = provider(app="narrow")

        async def crowd() -> list[Any]:
            tasks = [asyncio.ensure_future(whole(theirs, user="hangs")) for _ in range(4)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=30)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            return [task.exception() for task in done]

        errors = contract.run(crowd())
        assert errors
        assert all(isinstance(error, AttemptFailed) and error.outcome.kind == "busy" for error in errors)
    finally:
        serve.delete("narrow")


def test_an_application_that_is_missing_is_named_at_once_and_answers_when_it_is_deployed(contract: Cluster) -> None:
    theirs, other = provider(app="later"), provider(deployment="Other")
    missing = failure(contract, whole(theirs))
    assert (missing.kind, missing.message) == ("connect", "this cluster has no application later")
    nowhere = failure(contract, streamed(other))
    assert (nowhere.kind, nowhere.message) == ("connect", f"the application {APP} has no deployment Other")
    for _ in range(2):  # it comes back too
        deploy(app="later")
        try:
            assert contract.run(whole(theirs))["total_tokens"] == 10
        finally:
            serve.delete("later")
        eventually(lambda: _is_missing(contract, theirs))


def _is_missing(contract: Cluster, theirs: ServeProvider) -> bool:
    try:
        contract.run(whole(theirs, limits=structs.replace(LIMITS, total=0.5)))
    except AttemptFailed as error:
        return error.outcome.kind == "connect"
    return False


def test_request_ids_sessions_and_multiplexed_models_reach_the_deployment(contract: Cluster) -> None:
    theirs = provider(multiplexed=True)

    async def ask() -> None:
        await complete_within(theirs, structs.replace(call(), cache_key="5e55", caller={"request_id": "req-1"}))

    contract.run(ask())
    assert ("req-1", "5e55", "theirs") in [tuple(seen) for seen in contract.run(asked_of("what_was_seen"))]


def test_the_adapter_before_serve_llm_answers_streams_refuses_and_hands_on_the_session(contract: Cluster) -> None:
    least: dict[str, Any] = {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}}
    engine: Any = serve.deployment(name="LLMServer:qwen", **least)(Engine)
    adapter: Any = serve.deployment(name="Adapter", **least)(Adapter)
    serve.run(adapter.bind(engine.bind()), name="gpu", route_prefix=None)
    try:
        theirs, asked = provider(app="gpu"), structs.replace(call(), model=Engine.model_id, cache_key="5e55")
        assert contract.run(complete_within(theirs, asked)).usage["total_tokens"] == 10

        async def stream() -> bytes:
            items = stream_within(theirs, structs.replace(asked, body={**asked.body, "stream": True}))
            return b"".join([item.data async for item in items if isinstance(item, Frames)])

        frames = contract.run(stream())
        assert all(word.encode() in frames for word in WORDS)
        refused = failure(contract, whole(theirs))  # of a model that the engine does not have
        assert (refused.kind, refused.status) == ("model_missing", 404)
        assert {session for session, _ in contract.run(asked_of("what_was_seen", app="gpu"))} == {"5e55", ""}
    finally:
        serve.delete("gpu")


def test_the_example_of_the_contract_answers_streams_and_refuses(contract: Cluster) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}  # so that it is sent to the replica as it is
    exec(blocks("python", "docs/gpu-tier.md")[0], space)
    serve.run(space["app"], name="shown", route_prefix=None)
    try:
        theirs = provider(app="shown")
        assert contract.run(whole(theirs))["total_tokens"] == 12
        frames, end = contract.run(streamed(theirs))
        assert b" capital." in frames
        assert end is not None
        refused = failure(contract, whole(theirs, messages=[{"role": "user", "content": ""}]))
        assert (refused.kind, refused.status, refused.message) == ("rejected", 400, "say something")
    finally:
        serve.delete("shown")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_to_breakwater_has_its_own_id_and_a_hidden_session_in_the_deployment(
    llm: Cluster, stream: bool
) -> None:
    """Also where the calls share a connection between ingress and provider replica, which one of them has opened."""
    ours = []
    for _ in range(4):
        headers = {"x-request-id": "of the client, who may say the same twice", "x-session-id": "talk"}
        answer = llm.post(stream=stream, headers=headers, model=f"first-{GPU}")
        assert (answer.status_code, answer.headers["x-breakwater-provider"]) == (200, GPU)
        ours.append(answer.headers["x-breakwater-request-id"])
    told = [received.headers for received in llm.fakes[GPU].received]
    assert len(set(ours)) == 4
    assert [headers["x-serve-request"] for headers in told] == ours
    [session] = {headers["x-serve-session"] for headers in told}
    assert session not in ("", "talk")


def test_a_client_that_leaves_ends_the_work_in_the_deployment(llm: Cluster) -> None:
    fake = llm.fakes[GPU]
    fake.behave = Behaviour("stall", after=3)
    body = {"model": f"first-{GPU}", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    with httpx2.stream("POST", f"{llm.url}/v1/chat/completions", json=body, timeout=60) as response:
        assert next(response.iter_bytes())
        assert not fake.received[-1].gone.is_set()
    assert fake.received[-1].gone.wait(SOON)
