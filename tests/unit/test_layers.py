"""What may import what: no cycles between files or folders, Ray in a few named files."""

import ast
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

ROOT = pathlib.Path(__file__).parents[2]
FILES = [p for folder in ("actors", "deployments") for p in sorted((ROOT / folder).rglob("*.py"))]
MAY_IMPORT_RAY = {
    "actors/singleton.py",
    "actors/ray_metrics.py",
    "deployments/app.py",
    "deployments/ingress/deployment.py",
    "deployments/ingress/server/counts.py",
    "deployments/rpc/client.py",
    "deployments/rpc/p2c_router.py",
    "deployments/providers/serve/handle.py",
    "deployments/ops/serve_llm.py",
    "deployments/client.py",
    "deployments/ops/serve_run/hook.py",
    "deployments/ops/serve_run/slim.py",
}
MAY_PROVIDERS = ("aio", "errors", "json_schema", "newest", "openai_api", "providers", "secrecy")


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


def graph_of(name: Callable[[pathlib.Path], str]) -> dict[str, set[str]]:
    """Who imports whom, where `name` says what a file belongs to."""
    rooms = {name_of(p): name(p) for p in FILES}
    graph: dict[str, set[str]] = {room: set() for room in rooms.values()}
    for path in FILES:
        graph[name(path)] |= {rooms[i] for i in imports(path, top_level=True) if i in rooms} - {name(path)}
    return graph


def levels_of(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The graph in levels: each needs only what is before it. Fails if there is a cycle."""
    left, levels = dict(graph), list[set[str]]()
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"a cycle among {sorted(left)}"
        levels.append(free)
        left = {name: needs for name, needs in left.items() if name not in free}
    return levels


def room_of(path: pathlib.Path) -> str:
    """The folder of a file; one that lies directly in `actors` or `deployments` is a room by itself."""
    relative = path.relative_to(ROOT)
    if path.name == "__init__.py":
        return str(relative.parent)
    return str(relative.with_suffix("") if len(relative.parts) == 2 else relative.parent)


def test_there_is_no_import_cycle() -> None:
    """And the road from the application down to the ground has twelve steps at most."""
    assert len(levels_of(graph_of(name_of))) <= 12


def test_folders_import_each_other_one_way() -> None:
    rooms = graph_of(room_of)
    assert levels_of(rooms)
    folders = {name for name in rooms if (ROOT / name).is_dir()}
    assert len(levels_of({name: rooms[name] & folders for name in folders})) <= 10


def test_no_folder_is_a_drawer_and_no_file_a_book() -> None:
    for folder in {p.parent for p in FILES}:
        modules = [p for p in folder.glob("*.py") if p.name != "__init__.py"]
        assert len(modules) <= 12, f"{folder}: {len(modules)} modules"
    long = {str(p.relative_to(ROOT)) for p in FILES if len(p.read_text().splitlines()) > 400}
    assert long <= {"deployments/client.py", "actors/breaker/circuit.py"}


def test_each_folder_says_where_it_runs_and_whom_it_may_import() -> None:
    for folder in {p.parent for p in FILES}:
        words = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert "\nRuns in: " in words, folder
        assert "\nImports: " in words, folder


def test_only_the_builder_binds_deployments() -> None:
    for path in FILES:
        if path.name != "app.py":
            text = re.sub(r"(near|far)\.bind\(", "", path.read_text())  # sockets
            assert "serve.deployment(" not in text, path
            assert ".bind(" not in text, path


def test_a_providers_module_does_not_know_ray_serve_or_the_breaker() -> None:
    for path in (ROOT / "deployments" / "providers").rglob("*.py"):
        ours = {i for i in imports(path) if i.startswith(("actors.", "deployments."))}
        known = ("actors.breaker.outcomes", *(f"deployments.{name}" for name in MAY_PROVIDERS))
        assert not {i for i in ours if not (i == "actors.breaker" or i.startswith(known))}, path
