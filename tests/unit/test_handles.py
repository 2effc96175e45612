"""The methods of the handle beside the routes of HTTP: what is shut to one is not open to the other."""

import ast
import inspect
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deployments.ingress.http import CHAT, route_table
from deployments.python_api.facade import Facade
from deployments.service.auth import Access
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import World, world

ROOT = pathlib.Path(__file__).parents[2] / "deployments"
PROVIDER, COMMAND = "/v1/providers/{name}", "/v1/providers/{name}/{verb}"
# Each method of the handle with the routes that do the same. A new method must be written here, or a test fails.
METHODS: dict[str, frozenset[tuple[str, str]]] = {
    **dict.fromkeys(
        ("chat", "stream_chat", "generate_completion", "generate_streaming_completion"), frozenset({("POST", CHAT)})
    ),
    **dict.fromkeys(("respond", "stream_respond"), frozenset({("POST", "/v1/responses")})),
    **dict.fromkeys(("message", "stream_message"), frozenset({("POST", "/v1/messages")})),
    "embed": frozenset({("POST", "/v1/embeddings")}),
    "get_request": frozenset({("GET", "/v1/requests/{name:path}")}),
    "get_usage_stats": frozenset({("GET", "/v1/usage")}),
    "get_system_health": frozenset({("GET", "/v1/health")}),
    **dict.fromkeys(("get_health_summary", "get_all_provider_health"), frozenset({("GET", "/v1/providers")})),
    "get_provider_health": frozenset({("GET", PROVIDER)}),
    **dict.fromkeys(
        ("force_provider_recovery", "reset_provider_stats", "isolate", "restore"),
        frozenset({("POST", COMMAND)}),
    ),
    "thresholds": frozenset({("GET", "/v1/breaker"), ("PATCH", "/v1/breaker")}),
    # The routes that a caller may use, as they are.
    **dict.fromkeys(("call_http", "call_http_whole"), frozenset()),
    **dict.fromkeys(("begin_call", "report_call"), frozenset()),  # functions of other apps, which HTTP can't run
}
# Routes that have no method: who holds a handle reads the configuration, asks for health, or uses `call_http`.
HTTP_ALONE = {
    *(("GET", path) for path in ("/v1/models", "/v1/models/{name:path}", "/", "/v1/status", "/v1/events")),
    *(("GET", path) for path in ("/v1/requests", "/v1/limits", "/v1/traffic", "/v1/setup", "/v1/alerts")),
    *(("GET", path) for path in ("/openapi.json", "/livez", "/readyz")),
    *(("POST", path) for path in ("/v1/responses/input_tokens", "/v1/messages/count_tokens")),
    *((method, "/v1/responses/{name:path}") for method in ("GET", "POST", "DELETE")),
}
NOT_FOR_CALLERS = {"reconfigure"}  # Serve calls it
NOT_OF_ROUTES = {"aclose", "call_with_failover"}  # of the client alone


def methods_of(file: str, cls: str) -> dict[str, list[str]]:
    """The public async methods of a class with their arguments, read and not imported: the file imports Ray."""
    tree = ast.parse((ROOT / file).read_text())
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls)
    found = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_"]
    return {node.name: [a.arg for a in [*node.args.args, *node.args.kwonlyargs]] for node in found}


HANDLE = methods_of("ingress/deployment.py", "Ingress")
CLIENT = methods_of("client.py", "Client")


def of_operators(table: list[Any]) -> set[str]:
    """The methods that do what a route does for operators alone."""
    admin = {(route.method, route.path) for route in table if route.access is Access.ADMIN}
    return {name for name, routes in METHODS.items() if routes & admin}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "alpha")
    monkeypatch.setenv("ADMIN", "root")


def test_each_method_and_each_route_has_its_twin_or_a_reason_to_have_none() -> None:
    async def main() -> None:
        async with world() as w:
            routes = {(route.method, route.path) for route in route_table(w.service)}
            assert HANDLE.keys() - NOT_FOR_CALLERS == METHODS.keys()
            assert CLIENT.keys() - NOT_OF_ROUTES <= METHODS.keys()
            assert frozenset().union(*METHODS.values()) | HTTP_ALONE == routes

    run_virtually(main())


def test_a_method_takes_the_admin_key_where_its_route_needs_it_and_nowhere_else() -> None:
    async def main() -> None:
        async with world() as w:
            operators = of_operators(route_table(w.service))
            assert len(operators) == 5
            assert {name for name, arguments in HANDLE.items() if "admin_key" in arguments} == operators
            assert {name for name, arguments in CLIENT.items() if "admin_key" in arguments} == operators & CLIENT.keys()
            facade = {n for n, m in inspect.getmembers(Facade) if "admin_key" in getattr(m, "__annotations__", {})}
            assert {name for name in facade if name[0] != "_"} == operators

    run_virtually(main())


def calls(w: World) -> dict[str, Callable[..., Awaitable[Any]]]:
    """A call of each method of operators."""
    facade = Facade(w.service)

    def of(name: str) -> Callable[..., Awaitable[Any]]:
        method: Callable[..., Awaitable[Any]] = getattr(facade, name)
        first = {"failure_threshold": 1} if name == "thresholds" else "aws"
        return lambda **key: method(first, **key)

    return {name: of(name) for name in of_operators(route_table(w.service))}


@pytest.mark.parametrize(
    "key", [{}, {"admin_key": "wrong"}, {"admin_key": "alpha"}, {"admin_key": 7}, {"admin_key": ""}]
)
def test_without_the_admin_key_a_handle_commands_nothing_where_http_asks_for_it(key: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(GUARDED) as w:
            before = w.actor.board.version
            for name, call in calls(w).items():
                answer = await call(**key)
                assert (answer["status"], answer["error"]["code"]) == (401, "invalid_api_key"), name
            assert w.actor.board.version == before, "the breaker was told nothing"

    run_virtually(main())


def test_with_the_admin_key_a_handle_commands_as_http_does() -> None:
    async def main() -> None:
        async with world(GUARDED) as w:
            for name, call in calls(w).items():
                answer = await call(admin_key="root")
                assert "error" not in answer, name
            assert (await Facade(w.service).thresholds(admin_key="root"))["failure_threshold"] == 1
            reading = await Facade(w.service).thresholds()
            assert reading["status"] == 401, "HTTP asks for the key to read them too"

    run_virtually(main())


def test_where_operators_have_no_key_http_is_shut_and_a_handle_is_trusted() -> None:
    """Who holds a handle can run code on the cluster: docs/SECURITY.md."""

    async def main() -> None:
        async with client() as (http, w):
            assert (await http.post("/v1/providers/aws/isolate")).status_code == 403
            assert (await Facade(w.service).isolate("aws"))["isolated"] is True

    run_virtually(main())
