"""The table of routes against who calls: no key, a wrong one, a tenant's, another tenant's, and the operators'."""

import gzip
import json
from typing import Any

import pytest

from deployments.ingress.body.bodies import MAX_BODY, SMALL_BODY
from deployments.ingress.gate.routes import Route
from deployments.ingress.http import CHAT, build_http_api, route_table
from deployments.service.auth import Access
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import ARGS, REQUEST, World, world

JSON = "application/json"
ANYONE, KEY, ADMIN, EITHER = Access.ANYONE, Access.KEY, Access.ADMIN, Access.KEY_OR_ADMIN
OPERATOR = Access.OPERATOR
# A new route must be written here too, with all its columns, or the tests below fail.
TABLE = {
    ("POST", "/v1/chat/completions"): (KEY, "chat", MAX_BODY, JSON),
    ("POST", "/v1/embeddings"): (KEY, "chat", MAX_BODY, JSON),
    ("POST", "/v1/responses"): (KEY, "chat", MAX_BODY, JSON),
    ("POST", "/v1/responses/input_tokens"): (KEY, "chat", MAX_BODY, JSON),
    ("GET", "/v1/responses/{name:path}"): (KEY, None, 0, None),
    ("POST", "/v1/responses/{name:path}"): (KEY, None, 0, None),
    ("DELETE", "/v1/responses/{name:path}"): (KEY, None, 0, None),
    ("POST", "/v1/messages"): (KEY, "chat", MAX_BODY, JSON),
    ("POST", "/v1/messages/count_tokens"): (KEY, "chat", MAX_BODY, JSON),
    ("GET", "/v1/models"): (KEY, None, 0, None),
    ("GET", "/v1/models/{name:path}"): (KEY, None, 0, None),
    ("GET", "/v1/health"): (KEY, None, 0, None),
    ("GET", "/v1/providers"): (KEY, None, 0, None),
    ("GET", "/v1/providers/{name}"): (KEY, None, 0, None),
    ("POST", "/v1/providers/{name}/{verb}"): (ADMIN, None, 0, None),
    ("GET", "/v1/requests/{name:path}"): (EITHER, "rows", 0, None),
    ("GET", "/v1/requests"): (EITHER, "rows", 0, None),
    ("GET", "/v1/limits"): (EITHER, "usage", 0, None),
    ("GET", "/v1/traffic"): (OPERATOR, None, 0, None),
    ("GET", "/v1/setup"): (OPERATOR, None, 0, None),
    ("GET", "/v1/alerts"): (OPERATOR, None, 0, None),
    ("GET", "/v1/usage"): (EITHER, "usage", 0, None),
    ("GET", "/v1/breaker"): (ADMIN, None, 0, None),
    ("PATCH", "/v1/breaker"): (ADMIN, None, SMALL_BODY, JSON),
    ("GET", "/"): (ANYONE, None, 0, None),
    ("GET", "/v1/status"): (EITHER, None, 0, None),
    ("GET", "/v1/events"): (EITHER, None, 0, None),
    ("GET", "/openapi.json"): (ANYONE, None, 0, None),
    ("GET", "/livez"): (ANYONE, None, 0, None),
    ("GET", "/readyz"): (ANYONE, None, 0, None),
}
# Who passes the gate of which routes. A reader's key is refused as such where only operators may call.
PASS = {
    ANYONE: {None, "wrong", "a", "b", "root"},
    KEY: {"a", "b"},
    ADMIN: {"root"},
    OPERATOR: {"root"},
    EITHER: {"a", "b", "root"},
}
RESPOND = {"model": "default", "input": "Hi"}
MESSAGE = {**REQUEST, "max_tokens": 9}
BODIES = {
    "/v1/chat/completions": REQUEST,
    "/v1/responses": RESPOND,
    "/v1/messages": MESSAGE,
    "/v1/embeddings": {"model": "none", "input": "x"},
    "/v1/breaker": {},
}
# Nobody pays for them, so it does not matter for whom they are.
COUNTS = {"/v1/responses/input_tokens": RESPOND, "/v1/messages/count_tokens": MESSAGE}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "a:acme,b:other")
    monkeypatch.setenv("ADMIN", "root")


def path_of(route: Route) -> str:
    return route.path.replace("{name:path}", "default").replace("{name}", "aws").replace("{verb}", "reset")


def test_every_route_has_the_columns_that_are_written_here() -> None:
    async def main() -> None:
        async with world() as w:
            found = {
                (r.method, r.path): (r.access, r.scope, r.most_bytes, r.content_type) for r in route_table(w.service)
            }
            assert found == TABLE
            assert all(bool(r.most_bytes) == (r.content_type is not None) for r in route_table(w.service))

    run_virtually(main())


@pytest.mark.parametrize("key", [None, "wrong", "a", "b", "root"])
def test_a_caller_passes_where_the_table_says_and_nowhere_else(key: str | None) -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, w):
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            for route in route_table(w.service):
                body = {**BODIES, **COUNTS}.get(route.path)
                answer = await http.request(route.method, path_of(route), headers=headers, json=body)
                assert (answer.status_code != 401) is (key in PASS[route.access]), route
                if answer.status_code == 401:
                    error = answer.json()["error"]
                    assert error.get("code") == "invalid_api_key" or error["type"] == "authentication_error"

    run_virtually(main())


def test_a_tenant_sees_nothing_of_another_on_any_route() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, w):
            alice, bob = {"authorization": "Bearer a"}, {"authorization": "Bearer b"}
            made = await http.post(CHAT, json=REQUEST, headers={**alice, "x-request-id": "of-alice"})
            ours = made.headers["x-breakwater-request-id"]
            for name in (ours, "of-alice"):
                assert (await http.get(f"/v1/requests/{name}", headers=alice)).status_code == 200
                assert (await http.get(f"/v1/requests/{name}", headers=bob)).status_code == 404
            assert (await http.get("/v1/usage?tenant=acme", headers=bob)).status_code == 403
            for path, body in (item for item in BODIES.items() if item[0] != "/v1/breaker"):
                named = await http.post(path, json=body, headers={**bob, "x-tenant-id": "acme"})
                assert named.status_code == 403, path
            for route in route_table(w.service):
                if route.method == "GET" and route.path not in ("/v1/breaker", "/"):
                    seen = await http.get(path_of(route), headers=bob)
                    assert "acme" not in seen.text, route
                    assert "of-alice" not in seen.text, route

    run_virtually(main())


class Unread:
    """A request whose body must not be asked for."""

    def __init__(self, method: str, path: str, headers: dict[str, str]):
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}
        self.status = 0
        self.error: dict[str, Any] = {}
        self.headers: dict[bytes, bytes] = {}

    async def receive(self) -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        elif message["body"]:
            self.error = json.loads(message["body"]).get("error", {})

    async def to(self, w: World) -> "Unread":
        await build_http_api(w.service)(self.scope, self.receive, self.send)
        return self


WITH_BODIES = [key for key, (_, _, most, _) in TABLE.items() if most]
AS_JSON = {"content-type": JSON}


@pytest.mark.parametrize(("method", "path"), WITH_BODIES)
def test_a_request_is_refused_by_its_key_then_its_type_then_its_length_and_never_read(method: str, path: str) -> None:
    key = {"authorization": f"Bearer {'root' if TABLE[method, path][0] is ADMIN else 'a'}"}
    long = {"content-length": str(TABLE[method, path][2] + 1)}

    async def main() -> None:
        async with world(GUARDED) as w:
            unknown = await Unread(method, path, {"content-type": "text/plain", **long}).to(w)
            assert (unknown.status, unknown.error["code"]) == (401, "invalid_api_key")
            typed = await Unread(method, path, {**key, "content-type": "text/plain", **long}).to(w)
            assert (typed.status, typed.error["code"]) == (415, "unsupported_content_type")
            assert typed.headers[b"accept"] == JSON.encode()
            assert b"accept-encoding" not in typed.headers
            too_long = await Unread(method, path, {**key, **AS_JSON, **long}).to(w)
            assert (too_long.status, too_long.error["code"]) == (413, "request_too_large")

    run_virtually(main())


TYPES = [
    (JSON, True),
    ("application/json; charset=utf-8", True),
    ("Application/JSON ;charset=utf-8", True),
    ("application/x-www-form-urlencoded", False),  # what curl -d sends by itself
    ("text/plain", False),
    ("text/plain; application/json", False),  # a type that a plain form may send
    ("multipart/form-data; boundary=x", False),
    ("application/jsonp", False),
    ("", False),
    (None, False),  # what a page sends for a Blob without a type
]


@pytest.mark.parametrize(("given", "taken"), TYPES)
@pytest.mark.parametrize("args", [ARGS, GUARDED], ids=["open", "with keys"])
def test_a_body_must_say_that_it_is_json(given: str | None, taken: bool, args: dict[str, Any]) -> None:
    async def main() -> None:
        async with client(args) as (http, w):
            del http.headers["content-type"]
            headers = {"authorization": "Bearer a"} | ({} if given is None else {"content-type": given})
            answer = await http.post(CHAT, content=json.dumps(REQUEST), headers=headers)
            assert answer.status_code == (200 if taken else 415)
            if not taken:
                assert "send the header 'content-type: application/json'" in answer.json()["error"]["message"]
                assert w.provider("aws").calls == 0

    run_virtually(main())


def test_of_a_header_that_was_sent_twice_the_first_counts_as_everywhere_else() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            one, other = ("authorization", "Bearer a"), ("authorization", "Bearer wrong")
            for headers, status in (([one, other], 200), ([other, one], 401)):
                assert (await http.get("/v1/models", headers=headers)).status_code == status

    run_virtually(main())


def test_a_small_body_is_small_without_a_length_and_unpacked_too() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            admin = {"authorization": "Bearer root"}
            long = b" " * SMALL_BODY + b"{}"

            async def parts() -> Any:
                yield long

            for content, more in ((parts(), {}), (gzip.compress(long), {"content-encoding": "gzip"})):
                answer = await http.patch("/v1/breaker", content=content, headers={**admin, **more})
                assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
            assert (await http.patch("/v1/breaker", content=long[2:], headers=admin)).status_code == 200

    run_virtually(main())


def test_no_browser_may_guess_the_type_of_an_answer() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, w):
            for route in route_table(w.service):
                for key in ("a", "root", "wrong"):
                    headers = {"authorization": f"Bearer {key}"}
                    answer = await http.request(
                        route.method, path_of(route), headers=headers, json=BODIES.get(route.path)
                    )
                    assert answer.headers["x-content-type-options"] == "nosniff", route

    run_virtually(main())
