"""A server without keys and the pages of a browser on its machine: forged requests and rebound names."""

from typing import Any

import httpx2
import pytest

from deployments.config.application import parse
from deployments.errors import ConfigError
from deployments.ingress.http import CHAT, route_table
from deployments.service.auth import Access
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client
from tests.unit.test_routes import BODIES, path_of
from tests.unit.world import ARGS, REQUEST

EVIL = {"host": "evil.example:8000"}


def ask(
    headers: dict[str, str], args: dict[str, Any] = ARGS, method: str = "POST", path: str = CHAT
) -> httpx2.Response:
    async def main() -> httpx2.Response:
        async with client(args) as (http, w):
            answer = await http.request(method, path, headers=headers, json=REQUEST if method == "POST" else None)
            if answer.status_code == 403:
                assert all(script.calls == 0 for script in w.hop.providers.values())
            return answer

    return run_virtually(main())


OURS = [
    "localhost",
    "localhost:8000",
    "LOCALHOST:80",
    "localhost.",
    "app.localhost:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
]
OURS += ["127.8.9.1:1", "[::1]:8000", "[::1]", "192.168.7.7:8000", "[fd00::7]:8000"]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evillocalhost",
    "127.0.0.1.evil.example:8000",
]
FOREIGN += ["2130706433", "0x7f.1", "[evil]:8000", "", ":8000", "\xff", "a" * 5000]


@pytest.mark.parametrize("host", OURS)
def test_a_host_that_no_page_can_rebind_is_taken(host: str) -> None:
    assert ask({"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_any_other_name_is_refused_with_the_setting_that_would_allow_it(host: str) -> None:
    answer = ask({"host": host.encode("latin-1")})  # type: ignore[dict-item]
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (403, "invalid_request_error", "forbidden")
    assert "'hosts'" in error["message"]
    assert len(error["message"]) < 250


def test_names_of_its_own_are_the_configs_and_a_star_is_every_name() -> None:
    own = {**ARGS, "hosts": ["Gateway.internal"]}
    assert ask({"host": "gateway.internal:8000"}, own).status_code == 200
    assert ask({"host": "GATEWAY.INTERNAL."}, own).status_code == 200
    assert ask(EVIL, own).status_code == 403
    assert ask(EVIL, {**ARGS, "hosts": ["*"]}).status_code == 200
    for wrong in ("gateway:8000", "http://gateway", "", "a b"):
        with pytest.raises(ConfigError, match=r"^hosts\.0: "):
            parse({**ARGS, "hosts": [wrong]})


def test_a_page_of_this_server_may_ask_and_no_other_page() -> None:
    host = {"host": "127.0.0.1:8000"}
    for origin, status in [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),  # TLS may end before HAProxy
        ("http://127.0.0.1:9000", 403),
        ("http://localhost:8000", 403),
        ("https://evil.example", 403),
        ("null", 403),  # a sandboxed frame, a file
        ("127.0.0.1:8000", 403),
        ("chrome-extension://abc", 403),
    ]:
        answer = ask({**host, "origin": origin})
        assert answer.status_code == status, origin
        assert status == 200 or "'cors.origins'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 200), ("same-origin", 200), ("none", 200)]
)
def test_what_another_site_sends_without_an_origin_is_refused(site: str, status: int) -> None:
    for method, path in (("POST", CHAT), ("GET", "/v1/usage"), ("GET", "/v1/models")):
        answer = ask({"sec-fetch-site": site}, method=method, path=path)
        assert (answer.status_code == 403) is (status == 403)
        assert status == 200 or "'cors.origins'" in answer.json()["error"]["message"]


def test_pages_that_the_config_names_may_ask_from_another_site() -> None:
    page = {"origin": "https://chat.example", "sec-fetch-site": "cross-site"}
    assert ask(page, {**ARGS, "cors": {"origins": ["https://chat.example"]}}).status_code == 200
    refused = ask({**page, "origin": "https://evil.example"}, {**ARGS, "cors": {"origins": ["https://chat.example"]}})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    assert ask(page, {**ARGS, "cors": {"origins": ["*"]}}).status_code == 200
    nameless = {"sec-fetch-site": "cross-site"}
    assert ask(nameless, {**ARGS, "cors": {"origins": ["*"]}}, "GET", "/v1/models").status_code == 200
    assert (
        ask(nameless, {**ARGS, "cors": {"origins": ["https://chat.example"]}}, "GET", "/v1/models").status_code == 403
    )


def test_clients_that_are_no_browsers_name_no_origin_and_pass() -> None:
    # fetch of Node.js sends the mode alone (nodejs/undici#1305).
    assert ask({"sec-fetch-mode": "cors"}).status_code == 200


@pytest.mark.parametrize("headers", [EVIL, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_every_route_but_those_that_tell_nothing_refuses_them(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with client() as (http, w):
            for route in route_table(w.service):
                answer = await http.request(route.method, path_of(route), headers=headers, json=BODIES.get(route.path))
                if route.access is Access.ANYONE:
                    assert answer.status_code == 200, route
                else:
                    assert answer.status_code == 403, route
                    assert "config" in answer.json()["error"]["message"], route

    run_virtually(main())


@pytest.mark.parametrize("headers", [EVIL, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_with_keys_it_is_the_key_that_counts(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "a")
    monkeypatch.setenv("ADMIN", "root")
    assert ask({**headers, "authorization": "Bearer a"}, GUARDED).status_code == 200
    assert ask(headers, GUARDED).status_code == 401
