"""The whole path on a real cluster: HTTP and handle, four tiers, the breaker actor, the real local model."""

import contextlib
import http.client
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import yaml

from actors.process import BACKGROUND
from tests.cluster.conftest import APP, CLOUDS, ROOT, SOON, WIRES, Cluster, eventually, overridden
from tests.cluster.listening import command_of, descendants
from tests.fakes.server import Behaviour, Received, status

DOWN = status(500)


def text_of(stream: str) -> str:
    events = [e.removeprefix("data: ") for e in stream.split("\n\n") if e.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for e in events for c in json.loads(e)["choices"])


def kill_all(llm: Cluster, *names: str) -> None:
    for name in names:
        llm.fakes[name].behave = DOWN


def test_with_all_clouds_up_the_first_of_the_row_answers(llm: Cluster) -> None:
    response = llm.post()
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "Paris is the capital."
    assert response.headers["x-breakwater-provider"] == "aws_bedrock"
    assert response.headers["x-breakwater-attempts"] == "1"
    assert "x-breakwater-degraded" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("dead", "answers"),
    [((), "aws_bedrock"), (CLOUDS[:1], "openai"), (CLOUDS[:2], "google_genai"), (CLOUDS[:3], "anthropic")],
)
def test_each_cloud_answers_in_turn_on_its_own_wire(
    llm: Cluster, dead: tuple[str, ...], answers: str, stream: bool
) -> None:
    kill_all(llm, *dead)
    response = llm.post(stream=stream)
    assert response.headers["x-breakwater-provider"] == answers
    assert response.headers["x-breakwater-attempts"] == str(len(dead) + 1)
    if stream:
        assert text_of(response.text) == "Paris is the capital."
        assert response.text.endswith("data: [DONE]\n\n")
    else:
        assert response.json()["usage"]["total_tokens"] == 12


@pytest.mark.parametrize("stream", [False, True])
def test_with_all_clouds_down_the_real_local_model_answers(llm: Cluster, stream: bool) -> None:
    llm.fakes["aws_bedrock"].refuse()
    kill_all(llm, *CLOUDS[1:])
    response = llm.post(stream=stream)
    assert response.headers["x-breakwater-provider"] == "local"
    assert response.headers["x-breakwater-model"] == "smollm2-135m"
    assert response.headers["x-breakwater-degraded"] == "true"
    text = text_of(response.text) if stream else response.json()["choices"][0]["message"]["content"]
    assert "Paris" in text


@pytest.mark.parametrize(
    "behaviour",
    [status(429), status(503), Behaviour("reset"), Behaviour("raw", raw=b"<html/>", content_type="text/html")],
    ids=["429", "503", "reset", "html"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_primary_is_answered_by_the_next(llm: Cluster, behaviour: Behaviour, stream: bool) -> None:
    llm.fakes["aws_bedrock"].behave = behaviour
    response = llm.post(stream=stream)
    assert response.headers["x-breakwater-provider"] == "openai"
    assert response.headers["x-breakwater-attempts"] == "2"


def test_three_failures_open_the_breaker_and_the_fourth_request_spares_the_dead(llm: Cluster) -> None:
    kill_all(llm, "aws_bedrock")
    for _ in range(3):
        assert llm.post().headers["x-breakwater-attempts"] == "2"
    fourth = llm.post()
    assert fourth.headers["x-breakwater-provider"] == "openai"
    assert fourth.headers["x-breakwater-attempts"] == "1"
    assert len(llm.fakes["aws_bedrock"].received) == 3
    eventually(lambda: llm.state("aws_bedrock") == "open")


def test_after_the_recovery_timeout_a_probe_brings_the_primary_back(quick_recovery: Cluster) -> None:
    llm = quick_recovery
    kill_all(llm, "aws_bedrock")
    eventually(lambda: llm.post() and llm.state("aws_bedrock") == "open")
    llm.fakes["aws_bedrock"].reset()
    eventually(lambda: llm.post().headers["x-breakwater-provider"] == "aws_bedrock")
    eventually(lambda: llm.state("aws_bedrock") == "closed")


def test_when_every_tier_is_out_the_client_is_told_which_and_when(llm: Cluster) -> None:
    kill_all(llm, *CLOUDS)
    llm.command("isolate", "local")
    response = llm.post()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    attempts = response.json()["error"]["attempts"]
    assert {a["provider"]: a["outcome"] for a in attempts} == {
        "aws_bedrock": "server_error",
        "openai": "server_error",
        "google_genai": "server_error",
        "anthropic": "server_error",
        "local": "skipped: isolated",
    }


def test_a_bad_request_never_reaches_a_provider(llm: Cluster) -> None:
    for body, code, param in [
        ({"messages": []}, 400, "messages"),
        ({"model": "gpt-17"}, 404, "model"),
        ({"temperature": 9}, 400, "temperature"),
    ]:
        response = llm.post(**body)
        assert (response.status_code, response.json()["error"]["param"]) == (code, param)
    broken = httpx2.post(
        f"{llm.url}/v1/chat/completions",
        headers={"content-type": "application/json"},
        content=b'{"model": ',
        timeout=10,
    )
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")
    assert "Traceback" not in broken.text
    assert all(fake.received == [] for fake in llm.fakes.values())


@pytest.mark.parametrize("name", ["x-request-id", "x-request-timeout-seconds", "x-session-id"])
def test_a_header_that_serve_can_not_decode_is_a_typed_400(llm: Cluster, name: str) -> None:
    with contextlib.closing(http.client.HTTPConnection(llm.url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", "/v1/models", headers={name: b"\xff\xfe"})
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "invalid_value", name)


def test_a_cut_stream_is_an_error_frame_and_never_done(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("cut", after=3)
    response = llm.post(stream=True)
    assert "[DONE]" not in response.text
    last = json.loads(response.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "stream_interrupted"


def leave_once_it_is_upstream(llm: Cluster, name: str, stream: bool) -> Received:
    """A client leaves when its request has come to the fake and its stream has begun; what the fake received."""
    body = {"model": "openai/gpt-5.4-mini", "stream": stream, "messages": [{"role": "user", "content": name}]}
    with contextlib.closing(http.client.HTTPConnection(llm.url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", "/livez")
        connection.getresponse().read()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        if stream:
            connection.getresponse().read(1)
        fake = llm.fakes["openai"]
        [received] = eventually(lambda: [r for r in fake.received if r.body["messages"] == body["messages"]])
    return received


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_closes_the_upstream_and_moves_no_breaker(llm: Cluster, stream: bool) -> None:
    """Many times, on kept-alive connections: HAProxy with splice misses every second one (deployments/ops/haproxy)."""
    llm.fakes["openai"].behave = Behaviour("stall", after=3)

    def ask_and_leave(number: int) -> None:
        received = leave_once_it_is_upstream(llm, f"Hi {number}", stream)
        assert received.gone.wait(SOON), "the upstream call went on without its client"

    with ThreadPoolExecutor(5) as clients:
        list(clients.map(ask_and_leave, range(30)))
    assert len(llm.fakes["openai"].received) == 30
    health = llm.get("/v1/providers/openai")
    assert (health["state"], health["consecutive_failures"]) == ("closed", 0)


def test_a_callers_short_deadline_is_a_typed_504(llm: Cluster) -> None:
    for name in CLOUDS:
        llm.fakes[name].behave = Behaviour("hang")
    response = llm.post(headers={"x-request-timeout-seconds": "0.3"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert llm.state("aws_bedrock") == "closed"


def test_a_request_id_comes_back(llm: Cluster) -> None:
    assert llm.post(headers={"x-request-id": "abc-123"}).headers["x-request-id"] == "abc-123"


def test_the_python_door_gives_the_same_answers_as_dicts(llm: Cluster) -> None:
    request = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}

    async def main() -> None:
        from ray import serve

        handle = serve.get_app_handle("llm")
        answer = await handle.chat.remote(request)
        assert answer["choices"][0]["message"]["content"] == "Paris is the capital."
        assert answer["breakwater"]["provider"] == "aws_bedrock"

        chunks = [chunk async for chunk in handle.options(stream=True).stream_chat.remote(request)]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "Paris is the capital."
        assert chunks[0]["breakwater"]["attempts"] == 1

        error = await handle.chat.remote({**request, "messages": []})
        assert (error["status"], error["error"]["param"]) == (400, "messages")

    llm.run(main())


def test_each_provider_is_a_deployment_of_its_own_and_overrides_hold_by_name(llm: Cluster) -> None:
    from ray import serve

    deployments = serve.status().applications["llm"].deployments
    assert set(deployments) == {"Ingress", *WIRES, "local"}
    assert {d.status.value for d in deployments.values()} == {"HEALTHY"}
    from ray.serve._private.api import _get_global_client

    details = _get_global_client().get_serve_details()["applications"]["llm"]["deployments"]
    openai = details["openai"]["deployment_config"]
    assert openai["max_ongoing_requests"] == 77
    assert openai["autoscaling_config"]["max_replicas"] == 1
    assert details["google_genai"]["deployment_config"]["autoscaling_config"]["max_replicas"] == 8


def breaker_pid(llm: Cluster) -> int:
    import ray

    return int(ray.get(llm.breaker().whoami.remote(), timeout=10)["pid"])


def test_the_breaker_actor_killed_under_load_no_request_fails_and_it_comes_back(llm: Cluster) -> None:
    kill_all(llm, "aws_bedrock")
    for _ in range(3):
        llm.post()
    eventually(lambda: llm.state("aws_bedrock") == "open")
    llm.command("isolate", "google_genai")
    before = breaker_pid(llm)
    answers: list[Any] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(llm.post())

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    os.kill(before, signal.SIGKILL)
    try:
        after = eventually(lambda: _new_pid(llm, before), 60)
        known = len(answers)
        eventually(lambda: len(answers) >= known + 2 * len(threads))  # some more requests under the new actor
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert after != before
    assert answers
    assert {a.status_code for a in answers} == {200}
    states = eventually(lambda: (s := llm.get("/v1/providers"))["breaker_actor"] == "reachable" and s)
    assert states["provider_health"]["google_genai"]["isolated"], "what an operator set is gone"


def _new_pid(llm: Cluster, before: int) -> int | None:
    import ray

    try:
        pid = breaker_pid(llm)
    except ray.exceptions.RayError:
        return None
    return pid if pid != before else None


def test_a_wrong_config_never_gets_as_far_as_a_deployment(llm: Cluster) -> None:
    from ray.serve.exceptions import RayServeException

    from deployments.app import build_app

    args = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"][0]["args"]
    with pytest.raises(RayServeException, match=r"^timeouts.idel: unknown key, did you mean idle\?$"):
        build_app({**args, "timeouts": {"idel": 3}})


def deploy(llm: Cluster, config: dict[str, Any]) -> None:
    """What `serve deploy` does, without the seconds that its imports take."""
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    ServeSubmissionClient(llm.dashboard).deploy_applications(config)


def ingress_replicas() -> set[str]:
    from ray import serve
    from ray.serve._private.api import _get_global_client

    assert serve.status().applications["llm"].status.value in ("RUNNING", "DEPLOYING")
    deployments = _get_global_client().get_serve_details()["applications"]["llm"]["deployments"]
    return {r["replica_id"] for r in deployments.get("Ingress", {}).get("replicas", []) if r["state"] == "RUNNING"}


@contextlib.contextmanager
def tuned(llm: Cluster, threshold: int, **timeouts: float) -> Iterator[None]:
    """Thresholds and limits, set while it runs. An ingress has them before the breaker actor hears of them."""
    changes = {"breaker": {"failure_threshold": threshold}, "timeouts": timeouts}
    deploy(llm, overridden(llm, "Ingress", user_config=changes))
    try:
        eventually(lambda: llm.thresholds()["failure_threshold"] == threshold, 60)
        yield
    finally:
        deploy(llm, overridden(llm, "Ingress"))
        eventually(lambda: llm.thresholds()["failure_threshold"] == 3, 60)


def test_thresholds_change_while_running_and_nothing_restarts_or_forgets(llm: Cluster) -> None:
    llm.command("isolate", "google_genai")
    before, pid = ingress_replicas(), breaker_pid(llm)
    with tuned(llm, threshold=1):
        kill_all(llm, "aws_bedrock")
        eventually(lambda: _opens_at_once(llm), 60)
        eventually(lambda: ingress_replicas() == before)  # one that takes a change is not running for a moment
        assert breaker_pid(llm) == pid
        assert llm.get("/v1/providers/google_genai")["isolated"]


def _opens_at_once(llm: Cluster) -> bool:
    """Does one failure open the circuit now?"""
    llm.command("reset", "aws_bedrock")
    eventually(lambda: llm.state("aws_bedrock") == "closed")
    llm.fakes["aws_bedrock"].received.clear()
    llm.post()
    llm.post()
    return len(llm.fakes["aws_bedrock"].received) == 1


def test_only_the_model_in_this_machine_gives_way_to_other_processes(llm: Cluster) -> None:
    found = set[tuple[str, int]]()
    for pid in descendants(os.getpid()):
        if replica := re.match(rf"ray::ServeReplica:{APP}:(\w+)", command_of(pid)):
            found.add((replica[1], os.getpriority(os.PRIO_PROCESS, pid)))
    assert found == {("Ingress", 0), *((name, 0) for name in WIRES), ("local", BACKGROUND)}


def test_a_silent_primary_costs_its_first_token_limit(llm: Cluster) -> None:
    """Set to less than the other tests have, who never wait for it."""
    llm.fakes["aws_bedrock"].behave = Behaviour("hang")
    with tuned(llm, threshold=2, first_token=3):
        response = llm.post(stream=True)
        assert response.headers["x-breakwater-provider"] == "openai"
        assert text_of(response.text) == "Paris is the capital."
        assert llm.fakes["aws_bedrock"].received[0].gone.wait(SOON)
        told = llm.get(f"/v1/requests/{response.headers['x-breakwater-request-id']}")
        assert told["candidates"][0]["outcome"] == "first_token"
