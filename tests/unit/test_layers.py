"""What may import what: two folders, no cycles, Ray in a few named files."""

import ast
import functools
import pathlib
import re
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).parents[2]
FILES = [p for folder in ("actors", "deployments") for p in sorted((ROOT / folder).rglob("*.py"))]
MAY_IMPORT_RAY = {
    "actors/singleton.py",
    "actors/meter.py",
    "deployments/app.py",
    "deployments/ingress.py",
    "deployments/hop.py",
    "deployments/routing.py",
    "deployments/client.py",
}


@functools.cache
def parsed(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text())


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All of them, however deep: no expression holds an import."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            if isinstance(inner := getattr(node, part, None), list):
                yield from statements(inner)


@functools.cache
def imports(path: pathlib.Path, *, top_level: bool = False) -> frozenset[str]:
    tree = parsed(path)
    nodes = tree.body if top_level else list(statements(tree.body))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found)


def name_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_ray_is_imported_only_where_the_design_says() -> None:
    users = {str(p.relative_to(ROOT)) for p in FILES if any(i.split(".")[0] == "ray" for i in imports(p))}
    assert users <= MAY_IMPORT_RAY


def test_actors_never_import_deployments() -> None:
    for path in (ROOT / "actors").rglob("*.py"):
        assert not [i for i in imports(path) if i.startswith("deployments")], path


def test_there_is_no_import_cycle() -> None:
    graph = {name_of(p): imports(p, top_level=True) for p in FILES}
    graph = {name: {i for i in found if i in graph and i != name} for name, found in graph.items()}
    while graph:
        free = {name for name, needs in graph.items() if not needs}
        assert free, f"a cycle among {sorted(graph)}"
        graph = {name: needs - free for name, needs in graph.items() if name not in free}


def test_only_the_builder_binds_deployments() -> None:
    for path in FILES:
        if path.name != "app.py":
            text = re.sub(r"(near|far)\.bind\(", "", path.read_text())  # sockets
            assert "serve.deployment(" not in text, path
            assert ".bind(" not in text, path


def test_a_providers_module_does_not_know_ray_serve_or_the_breaker() -> None:
    for path in (ROOT / "deployments" / "providers").glob("*.py"):
        assert not {i for i in imports(path) if i.startswith(("actors.b", "deployments.failover", "deployments.board"))}
