"""The HTTP door without Ray: routes, headers, OpenAI's error shape. A real HTTP client over ASGI."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from actors.breaker.outcomes import Outcome
from deployments.config.settings import Auth
from deployments.errors import ConfigError
from deployments.ingress.body.bodies import MAX_BODY
from deployments.ingress.http import build_http_api, route_table
from deployments.openai_api.chat import check_chat
from deployments.service.arguments import CallOptions
from deployments.service.auth import Access, Authenticator, Key
from deployments.strict_json.quick import parse_quickly
from deployments.telemetry.tracer import Tracer
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.described import hold_to_description
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.world import ARGS, REQUEST, World, world

JSON_TYPE = (b"content-type", b"application/json")
JSON_BODY = {"content-type": "application/json"}


@contextlib.asynccontextmanager
async def client(
    args: dict[str, Any] = ARGS, traces: Tracer | None = None
) -> AsyncIterator[tuple[httpx2.AsyncClient, World]]:
    async with world(args, traces) as w:
        transport = httpx2.ASGITransport(build_http_api(w.service), raise_app_exceptions=False)
        hooks = {"response": [hold_to_description]}
        url = "http://localhost"
        async with httpx2.AsyncClient(transport=transport, base_url=url, headers=JSON_BODY, event_hooks=hooks) as http:
            yield http, w


def test_a_whole_answer_says_who_gave_it() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [SERVER_ERROR]
            response = await http.post("/v1/chat/completions", json=REQUEST)
            assert response.status_code == 200
            assert response.json()["object"] == "chat.completion"
            headers = {k: v for k, v in response.headers.items() if k.startswith("x-breakwater")}
            assert headers.pop("x-breakwater-request-id")
            assert headers == {
                "x-breakwater-provider": "openai",
                "x-breakwater-model": "gpt",
                "x-breakwater-attempts": "2",
            }

    run_virtually(main())


def test_the_local_tiers_answer_is_marked_as_degraded() -> None:
    async def main() -> None:
        async with client() as (http, w):
            for name in ("aws", "openai"):
                w.provider(name).ends = [SERVER_ERROR]
            for stream in (False, True):
                response = await http.post("/v1/chat/completions", json={**REQUEST, "stream": stream})
                assert response.headers["x-breakwater-provider"] == "local"
                assert response.headers["x-breakwater-degraded"] == "true"
                assert response.headers["x-breakwater-attempts"] == "3"

    run_virtually(main())


def test_a_stream_is_server_sent_events() -> None:
    async def main() -> None:
        async with client() as (http, _):
            response = await http.post("/v1/chat/completions", json={**REQUEST, "stream": True})
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.text.endswith("data: [DONE]\n\n")

    run_virtually(main())


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "broken"])
def test_a_streams_body_ends_once_and_with_its_last_bytes_if_it_is_whole(whole: bool) -> None:
    async def main() -> None:
        async with world() as w:
            if not whole:
                w.provider("aws").ends, w.provider("aws").after = [SERVER_ERROR], 1
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": json.dumps({**REQUEST, "stream": True}).encode()}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [JSON_TYPE]}
            await build_http_api(w.service)(scope, receive, send)
            _, *bodies = sent
            assert [body["more_body"] for body in bodies] == [True] * (len(bodies) - 1) + [False]
            assert bodies[-1]["body"].endswith(b"data: [DONE]\n\n") is whole

    run_virtually(main())


BAD = [
    (b"{", None, "invalid_json"),
    (b"[]", None, "invalid_json"),
    (b'"hi"', None, "invalid_json"),
    (b"\xff\xfe", None, "invalid_json"),
    (b'{"messages":[{"role":"user","content":"\xed\xa0\x80"}]}', None, "invalid_json"),
    (json.dumps(REQUEST).encode("utf-16"), None, "invalid_json"),
    (json.dumps(REQUEST).encode("utf-32-be"), None, "invalid_json"),
    (b'{"messages":[],"temperature":1e400}', None, "invalid_json"),
    (b"[" * 100_000, None, "invalid_json"),
    (json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode(), "model", "missing_required_parameter"),
    (json.dumps({"model": "default"}).encode(), "messages", "missing_required_parameter"),
    (json.dumps({"model": "default", "messages": []}).encode(), "messages", "invalid_value"),
    (json.dumps({"model": "default", "messages": "hi"}).encode(), "messages", "invalid_value"),
    (json.dumps({"model": "", "messages": [{"role": "user"}]}).encode(), "model", "invalid_value"),
    (
        json.dumps({**REQUEST, "messages": [{"role": "robot", "content": "x"}]}).encode(),
        "messages.0.role",
        "invalid_value",
    ),
    (json.dumps({**REQUEST, "messages": [{"content": "x"}]}).encode(), "messages.0.role", "missing_required_parameter"),
    (
        json.dumps({**REQUEST, "messages": [{"role": "user", "content": 7}]}).encode(),
        "messages.0.content",
        "invalid_value",
    ),
    (json.dumps({**REQUEST, "temperature": "hot"}).encode(), "temperature", "invalid_value"),
    (json.dumps({**REQUEST, "temperature": 3}).encode(), "temperature", "invalid_value"),
    (json.dumps({**REQUEST, "max_tokens": 0}).encode(), "max_tokens", "invalid_value"),
    (json.dumps({**REQUEST, "stream": "yes"}).encode(), "stream", "invalid_value"),
    (json.dumps({**REQUEST, "stop": 5}).encode(), "stop", "invalid_value"),
    (json.dumps({**REQUEST, "seed": "abc"}).encode(), "seed", "invalid_value"),
    (json.dumps({**REQUEST, "seed": float("nan")}).encode(), None, "invalid_json"),
    (json.dumps({**REQUEST, "presence_penalty": "high"}).encode(), "presence_penalty", "invalid_value"),
    (json.dumps({**REQUEST, "user": "\ud800"}).encode(), None, "invalid_json"),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD)
def test_a_malformed_request_is_a_400_that_names_the_field_and_asks_nobody(
    body: bytes, param: str | None, code: str
) -> None:
    async def main() -> None:
        async with client() as (http, w):
            response = await http.post("/v1/chat/completions", content=body)
            assert response.status_code == 400
            error = response.json()["error"]
            assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
            assert error["message"]
            assert all(script.calls == 0 for script in w.hop.providers.values())

    run_virtually(main())


def test_an_unknown_model_is_a_404_with_the_known_names() -> None:
    async def main() -> None:
        async with client() as (http, _):
            response = await http.post("/v1/chat/completions", json={**REQUEST, "model": "gpt-17"})
            assert response.status_code == 404
            error = response.json()["error"]
            assert (error["param"], error["code"]) == ("model", "model_not_found")
            assert "default, solo" in error["message"]

    run_virtually(main())


def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    async def main() -> None:
        async with client() as (http, _):
            response = await http.post("/v1/chat/completions", content=b" " * (MAX_BODY + 1))
            assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")

    run_virtually(main())


def test_when_all_are_down_the_client_gets_503_retry_after_and_every_attempt() -> None:
    async def main() -> None:
        async with client() as (http, w):
            for script in w.hop.providers.values():
                script.ends = [SERVER_ERROR]
            for stream in (False, True):
                response = await http.post("/v1/chat/completions", json={**REQUEST, "stream": stream})
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) >= 1
                attempts = response.json()["error"]["attempts"]
                assert [a["provider"] for a in attempts] == ["aws", "openai", "local"]
                assert attempts[0]["status"] == 500
                assert attempts[0]["ms"] >= 0

    run_virtually(main())


def test_a_providers_400_comes_through_with_its_own_words() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [Outcome("bad_request", status=400, message="top_k?", code="bad", param="top_k")]
            response = await http.post("/v1/chat/completions", json=REQUEST)
            error = response.json()["error"]
            assert (response.status_code, error["message"], error["param"], error["code"]) == (
                400,
                "top_k?",
                "top_k",
                "bad",
            )

    run_virtually(main())


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_deadline_that_is_no_positive_number_is_a_400(text: str) -> None:
    async def main() -> None:
        async with client() as (http, _):
            headers = {"x-request-timeout-seconds": text}
            response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
            assert (response.status_code, response.json()["error"]["param"]) == (400, "x-request-timeout-seconds")

    run_virtually(main())


def test_the_callers_deadline_is_a_504() -> None:
    async def main() -> None:
        async with client() as (http, w):
            for script in w.hop.providers.values():
                script.seconds = 10.0
            headers = {"x-request-timeout-seconds": "0.5"}
            response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")

    run_virtually(main())


PATIENT = {**ARGS, "timeouts": {"timeout_seconds": 900, "first_token": 900, "idle": 900, "deadline": 900}}
HAPROXY_SECONDS = 90


@pytest.fixture
def haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S", str(HAPROXY_SECONDS))


@pytest.mark.usefixtures("haproxy")
@pytest.mark.parametrize("headers", [{}, {"x-request-timeout-seconds": "300"}], ids=["ours", "the caller's"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_deadline_is_over_before_haproxy_gives_up(stream: bool, headers: dict[str, str]) -> None:
    async def main() -> None:
        async with client(PATIENT) as (http, w):
            for script in w.hop.providers.values():
                script.seconds = 1000.0
            now = asyncio.get_running_loop().time
            began = now()
            response = await http.post("/v1/chat/completions", json={**REQUEST, "stream": stream}, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
            assert HAPROXY_SECONDS - 10 < now() - began < HAPROXY_SECONDS - 4

    run_virtually(main())


@pytest.mark.usefixtures("haproxy")
@pytest.mark.parametrize(("deadline", "whole"), [("300", True), ("150", False)])
def test_a_stream_that_flows_has_all_the_time_that_its_caller_gives(deadline: str, whole: bool) -> None:
    async def main() -> None:
        async with client(PATIENT) as (http, w):
            w.provider("aws").words, w.provider("aws").pace = ["a", "b", "c", "d", "e"], 40.0
            headers = {"x-request-timeout-seconds": deadline}
            response = await http.post("/v1/chat/completions", json={**REQUEST, "stream": True}, headers=headers)
            assert response.text.endswith("data: [DONE]\n\n") is whole
            assert ("deadline_exceeded" in response.text) is not whole

    run_virtually(main())


def test_models_are_the_rows() -> None:
    async def main() -> None:
        async with client() as (http, _):
            listed = (await http.get("/v1/models")).json()
            assert (listed["object"], [m["id"] for m in listed["data"]]) == ("list", ["default", "solo"])
            assert (await http.get("/v1/models/solo")).json()["id"] == "solo"
            assert (await http.get("/v1/models/none")).status_code == 404

    run_virtually(main())


def test_alive_is_always_and_ready_is_when_somebody_can_answer() -> None:
    async def main() -> None:
        async with client() as (http, w):
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).status_code == 200
            for name in w.hop.providers:
                await w.service.operations.command("isolate", name)
            await w.settle()
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).status_code == 503

    run_virtually(main())


def test_providers_health_has_the_users_shape() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [SERVER_ERROR]
            for _ in range(4):
                await http.post("/v1/chat/completions", json=REQUEST)
            await w.settle()
            summary = (await http.get("/v1/providers")).json()
            assert summary["service_name"] == "llm_service"
            assert summary["available_providers"] == ["openai", "local"]
            assert summary["total_providers"] == 3
            assert summary["total_requests"] == 7
            assert summary["overall_success_rate"] == round(100 * 4 / 7, 1)
            assert summary["provider_states"] == {"aws": "open", "openai": "closed", "local": "closed"}
            aws = (await http.get("/v1/providers/aws")).json()
            assert aws == summary["provider_health"]["aws"]
            assert (aws["available"], aws["success_rate"], aws["consecutive_failures"]) == (False, 0.0, 3)
            assert aws["last_error"]["kind"] == "server_error"
            assert summary["provider_health"]["openai"]["success_rate"] == 100.0
            assert summary["provider_health"]["openai"]["avg_latency_ms"] >= 0
            assert (await http.get("/v1/providers/none")).status_code == 404

    run_virtually(main())


def test_while_the_actor_is_away_health_says_so_in_time() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [SERVER_ERROR]
            for _ in range(3):
                await http.post("/v1/chat/completions", json=REQUEST)
            await w.settle()
            w.actor.kill()
            summary = (await http.get("/v1/providers")).json()
            assert summary["breaker_actor"] == "away"
            assert summary["provider_states"] == {"aws": "open", "openai": "closed", "local": "closed"}
            assert summary["total_requests"] == 0, "nobody here knows, so nobody says"

    run_virtually(main())


def test_a_wrong_route_or_method_is_openai_shaped_too() -> None:
    async def main() -> None:
        async with client() as (http, _):
            for method, path, code in [("GET", "/v2", 404), ("GET", "/v1/chat/completions", 405)]:
                response = await http.request(method, path)
                assert response.status_code == code
                assert response.json()["error"]["type"] == "invalid_request_error"

    run_virtually(main())


GUARDED = {**ARGS, "auth": {"api_keys_env": "KEYS", "admin_key_env": "ADMIN"}}


class TestKeys:
    @pytest.fixture(autouse=True)
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEYS", "alpha:tenant_1, beta")
        monkeypatch.setenv("ADMIN", "root")

    def test_without_a_key_nobody_gets_in(self) -> None:
        async def main() -> None:
            async with client(GUARDED) as (http, w):
                for authorization in (None, "Bearer", "Bearer wrong", "Basic alpha", "Bearer alpha:tenant_1"):
                    headers = {"authorization": authorization} if authorization else {}
                    for path in ("/v1/models", "/v1/providers"):
                        assert (await http.get(path, headers=headers)).status_code == 401
                    response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
                    assert response.status_code == 401
                    assert response.headers["www-authenticate"] == "Bearer"
                assert w.provider("aws").calls == 0

        run_virtually(main())

    def test_every_route_but_three_asks_for_a_key_first_of_all(self) -> None:
        """Before it looks at a header or a body."""
        wrong = {"authorization": "Bearer wrong", "x-request-timeout-seconds": "none"}

        async def main() -> None:
            async with client(GUARDED) as (http, w):
                table = route_table(w.service)
                free = {route.path for route in table if route.access is Access.ANYONE}
                assert free == {"/", "/openapi.json", "/livez", "/readyz"}
                for route in table:
                    path = route.path.replace("{name:path}", "x").replace("{name}", "x").replace("{verb}", "reset")
                    status = (await http.request(route.method, path, headers=wrong, content=b"no JSON")).status_code
                    assert (status == 401) is (path not in free), path

        run_virtually(main())

    def test_each_key_gets_in_and_may_be_bound_to_a_tenant(self) -> None:
        async def main() -> None:
            async with client(GUARDED) as (http, w):
                for key in ("alpha", "beta"):
                    headers = {"authorization": f"Bearer {key}"}
                    assert (await http.post("/v1/chat/completions", json=REQUEST, headers=headers)).status_code == 200
                assert w.service.authenticator.key("Bearer alpha").tenant == "tenant_1"
                assert w.service.authenticator.key("Bearer beta").tenant is None

        run_virtually(main())

    def test_a_bound_key_names_no_other_tenant(self) -> None:
        async def main() -> None:
            async with client(GUARDED) as (http, w):
                headers = {"authorization": "Bearer alpha", "x-tenant-id": "tenant_2"}
                response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
                assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
                assert w.provider("aws").calls == 0
                for tenant in ("tenant_1", ""):
                    headers["x-tenant-id"] = tenant
                    assert (await http.post("/v1/chat/completions", json=REQUEST, headers=headers)).status_code == 200
                headers = {"authorization": "Bearer beta", "x-tenant-id": "anybody"}
                assert (await http.post("/v1/chat/completions", json=REQUEST, headers=headers)).status_code == 200

        run_virtually(main())

    def test_where_tenants_are_declared_there_are_no_others(self) -> None:
        async def main() -> None:
            async with client({**ARGS, "tenants": ["acme"]}) as (http, w):
                for tenant, status in (("acme", 200), ("", 200), ("acne", 400)):
                    headers = {"x-tenant-id": tenant}
                    response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
                    assert response.status_code == status
                assert response.json()["error"]["param"] == "x-tenant-id"
                refused = await w.python.chat(REQUEST, CallOptions(caller=Caller("handle", "acne")))
                assert (refused["status"], refused["error"]["param"]) == (400, "tenant_id")

        run_virtually(main())

    def test_an_empty_key_is_none(self) -> None:
        with pytest.raises(ConfigError, match="an API key is empty"):
            Authenticator(Auth(api_keys_env="KEYS"), {"KEYS": "alpha, :tenant"})
        key = Authenticator(Auth(api_keys_env="KEYS"), {"KEYS": " alpha : acme : ops "}).key("Bearer alpha")
        assert key == Key("ops", "acme")

    def test_a_key_has_a_name_that_does_not_tell_it(self) -> None:
        async def main() -> None:
            async with client(GUARDED) as (_, w):
                key = w.service.authenticator.key("Bearer beta")
                assert key.name.startswith("key-")
                assert "beta" not in key.name

        run_virtually(main())

    def test_operators_routes_need_the_admin_key(self) -> None:
        async def main() -> None:
            async with client(GUARDED) as (http, w):
                path = "/v1/providers/aws/isolate"
                assert (await http.post(path, headers={"authorization": "Bearer alpha"})).status_code == 401
                done = await http.post(path, headers={"authorization": "Bearer root"})
                assert (done.status_code, done.json()["isolated"]) == (200, True)
                await w.settle()
                headers = {"authorization": "Bearer beta"}
                response = await http.post("/v1/chat/completions", json=REQUEST, headers=headers)
                assert response.headers["x-breakwater-provider"] == "openai"
                wrong = await http.post("/v1/providers/aws/explode", headers={"authorization": "Bearer root"})
                assert wrong.status_code == 404

        run_virtually(main())

    def test_without_an_admin_key_in_the_config_operators_routes_are_closed(self) -> None:
        async def main() -> None:
            async with client() as (http, _):
                response = await http.post("/v1/providers/aws/isolate", headers={"authorization": "Bearer x"})
                assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")

        run_virtually(main())


def test_a_command_while_the_actor_is_away_is_a_typed_503() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, w):
            w.actor.kill()
            await asyncio.sleep(0.1)
            response = await http.post("/v1/providers/aws/reset", headers={"authorization": "Bearer root"})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYS", "k")
        patch.setenv("ADMIN", "root")
        run_virtually(main())


def test_operators_set_thresholds_and_how_long_an_isolation_lasts() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, w):
            admin = {"authorization": "Bearer root"}
            assert (await http.patch("/v1/breaker", json={"failure_threshold": 1})).status_code == 401
            done = await http.patch("/v1/breaker", json={"failure_threshold": 1}, headers=admin)
            assert done.json()["failure_threshold"] == 1
            assert (await http.get("/v1/breaker", headers=admin)).json()["failure_threshold"] == 1
            await w.settle()
            w.provider("aws").ends = [SERVER_ERROR]
            user = {"authorization": "Bearer k"}
            for _ in range(3):
                await http.post("/v1/chat/completions", json=REQUEST, headers=user)
            assert w.provider("aws").calls == 1
            assert done.json()["overrides"] == {"failure_threshold": {"value": 1, "configured": 3}}
            done = await http.patch("/v1/breaker", json={"failure_threshold": None}, headers=admin)
            assert done.json()["failure_threshold"] == 3
            assert done.json()["overrides"] == {}

            for bad, param in [
                ({"failure_treshold": 1}, "failure_treshold"),
                ({"failure_threshold": 0}, "failure_threshold"),
            ]:
                response = await http.patch("/v1/breaker", json=bad, headers=admin)
                assert (response.status_code, response.json()["error"]["param"]) == (400, param)
            assert (await http.patch("/v1/breaker", content=b"[", headers=admin)).status_code == 400

            done = await http.post("/v1/providers/openai/isolate?seconds=5", headers=admin)
            assert done.json()["targets"]["openai/gpt"]["isolated_for_seconds"] == 5
            for bad in ("0", "-1", "soon", "1e9"):
                assert (
                    await http.post(f"/v1/providers/openai/isolate?seconds={bad}", headers=admin)
                ).status_code == 400

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYS", "k")
        patch.setenv("ADMIN", "root")
        run_virtually(main())


def test_a_body_with_a_byte_order_mark_and_a_large_number_is_read() -> None:
    body = b"\xef\xbb\xbf" + json.dumps({**REQUEST, "top_p": 1e-300, "user": "1e999"}).encode()
    assert check_chat(parse_quickly(body)).body["top_p"] == 1e-300
    assert check_chat(parse_quickly(json.dumps({**REQUEST, "x": 1e300}).encode())).body["x"] == 1e300
