"""Ray's calls that wait for its control store hang while that is away: one module makes them, and no event loop."""

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_layers import FILES, ROOT, parsed

# Of ray, of ray.serve, and of ray.experimental.internal_kv. Each asks the control store, or waits for who does.
WAITING = {
    "get_actor",
    "list_named_actors",
    "kill",
    "cluster_resources",
    "available_resources",
    "get_if_exists",
    "internal_kv",
    "_get_global_client",
    "get_app_handle",
    "get_deployment_handle",
    "list_actors",
    "list_nodes",
}
OF_RAY_ALONE = {"get", "wait", "init", "cancel", "nodes"}  # as `ray.get`; the bare word has other meanings
MAY_WAIT = {
    "actors/singleton.py": "on its thread, and in an actor's constructor",
    "deployments/app.py": "builds the application in a task that serves nobody",
    "deployments/providers/serve/handle.py": "in a thread of its own, for as long as a call may connect",
    "deployments/client.py": "runs in other applications, and looks for its handle in a thread",
}


def waiting_names(tree: ast.AST) -> Iterator[str]:
    """The names of such calls wherever they stand, called or handed on."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="ray"), attr=name) if name in OF_RAY_ALONE:
                yield f"ray.{name}"
            case ast.Attribute(value=ast.Name(id="os"), attr="kill"):
                pass
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)) if name in WAITING:
                yield name
            case ast.Attribute(attr=name) | ast.Name(id=name) if name.startswith("_internal_kv_"):
                yield name
            case ast.alias(name=name) if name in WAITING:
                yield name


def called_on_a_loop(tree: ast.AST) -> Iterator[str]:
    """The names of such calls that an `async def` makes itself."""
    for function in ast.walk(tree):
        if isinstance(function, ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call):
                    yield from waiting_names(call.func)


def test_only_one_module_makes_calls_that_wait_for_the_control_store() -> None:
    users = {str(path.relative_to(ROOT)): sorted(set(waiting_names(parsed(path)))) for path in FILES}
    assert {path for path, names in users.items() if names} == MAY_WAIT.keys(), users


def test_no_coroutine_makes_such_a_call_itself() -> None:
    assert [(path, name) for path in FILES for name in called_on_a_loop(parsed(path))] == []


@pytest.mark.parametrize(
    "line",
    [
        "ray.get_actor('x')",
        "ray.get(x)",
        "cls.options(get_if_exists=True)",
        "internal_kv._internal_kv_get(b'')",
        "from ray.util.state import list_actors",
        "ray.nodes()",
    ],
)
def test_such_a_call_is_found(line: str) -> None:
    assert list(waiting_names(ast.parse(line)))


def test_a_call_in_a_coroutine_is_found_and_one_that_is_handed_to_a_thread_is_not() -> None:
    text = "async def f():\n    await run(partial(ray.kill, actor))\n    ray.kill(actor)"
    assert list(called_on_a_loop(ast.parse(text))) == ["kill"]
    assert not list(called_on_a_loop(ast.parse("async def f():\n    os.kill(1, 2)\n    loads.get(3)")))
