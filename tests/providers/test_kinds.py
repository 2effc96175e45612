"""A kind of provider is one row, one folder and one settings class: nobody else asks for it by its name."""

import ast
import asyncio
import importlib
import pathlib
import sys
from collections.abc import AsyncGenerator
from typing import Annotated, Literal

import pytest
from pydantic import Field

from deployments.config.application import Config
from deployments.config.places import Cloud
from deployments.config.providers import Anthropic, Bedrock, Google, Local, OpenAI, Serve
from deployments.config.resolved import resolve
from deployments.openai_api.capabilities import COMMON_FIELDS, Capabilities, Unsupported
from deployments.providers.base import Call, Completed, End, Frames
from deployments.providers.joined.whole import WholeAnswers
from deployments.providers.kinds import KINDS, ProviderKind
from deployments.providers.time_limits import TimeLimits
from deployments.replica import build_provider
from deployments.routing.request_fit import unsupported_in_chat, unsupported_in_embedding

ROOT = pathlib.Path(__file__).parents[2]


class Echo:
    """A further kind's adapter."""

    def __init__(self, greeting: str, connect: float):
        self.greeting, self.connect = greeting, connect

    def streams_whole(self, call: Call) -> bool:
        return False

    async def complete(self, call: Call) -> Completed:
        return Completed(f"{self.greeting} {call.model}".encode(), None)

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        yield End(None)

    async def embed(self, call: Call) -> Completed:
        return await self.complete(call)

    async def close(self) -> None:
        pass


class EchoSettings(Cloud):
    kind: Literal["echo"]
    greeting: str = "hello"

    def missing(self) -> str | None:
        return None


def build(settings: EchoSettings, connect: float) -> Echo:
    return Echo(settings.greeting, connect)


class FiveKinds(Config):
    providers: dict[str, Annotated[Bedrock | OpenAI | Google | Local | EchoSettings, Field(discriminator="kind")]]  # type: ignore[assignment]


ECHO = ProviderKind("echo", __name__, "echo.example", Capabilities(COMMON_FIELDS, {}), is_aws=True)
ASKED = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]}


def test_a_further_kind_is_a_row_an_adapter_and_a_settings_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "echo", ECHO)
    config = FiveKinds.model_validate(
        {
            "providers": {"fifth": {"kind": "echo", "greeting": "good day"}, "own": {"kind": "local"}},
            "models": {"default": {"fifth": "parrot", "own": "smollm2-135m"}},
            "timeouts": {"connect": 2},
        }
    )
    layout = resolve(config)
    assert layout.usable == ["fifth", "own"]
    assert layout.rows() == {"default": ["fifth/parrot", "own/smollm2-135m"]}
    assert layout.fixed() == {"own"}
    assert unsupported_in_chat("echo", ASKED) == Unsupported(("tools",))
    assert unsupported_in_embedding("echo", {"model": "e", "input": [1, 2]}).missing == ("input",)
    adapter = build_provider(config, "fifth")
    assert isinstance(adapter, WholeAnswers)
    assert isinstance(adapter._inner, Echo)
    assert adapter._inner.connect == 2
    call = Call(ASKED, "parrot", "default", TimeLimits())
    assert asyncio.run(adapter.complete(call)).body == b"good day parrot"


def test_each_kind_has_a_settings_class_and_an_adapter_that_is_imported_only_when_it_is_built() -> None:
    settings = {cls.model_fields["kind"].annotation: cls for cls in (Bedrock, OpenAI, Google, Anthropic, Serve, Local)}
    kinds = [kind.name for kind in KINDS.values() if not kind.family]
    assert {kind: Literal[kind] for kind in kinds} == {str(a.__args__[0]): a for a in settings}  # type: ignore[union-attr]
    for kind in KINDS.values():
        assert callable(importlib.import_module(kind.adapter).build), kind.name
    tree = ast.parse((ROOT / "deployments/providers/kinds.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {kind.adapter for kind in KINDS.values()}
    assert "deployments.providers.kinds" in sys.modules


def names_of_kinds(tree: ast.AST) -> list[int]:
    """Lines on which the name of a kind is compared, matched, or used as a key."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                used = [node.left, *node.comparators]
            case ast.Dict():
                used = [key for key in node.keys if key is not None]
            case ast.Subscript():
                used = [node.slice]
            case ast.MatchValue():
                used = [node.value]
            case _:
                continue
        parts = [part for part in used for part in getattr(part, "elts", [part])]
        if any(isinstance(part, ast.Constant) and part.value in KINDS for part in parts):
            found.append(node.lineno if not isinstance(node, ast.MatchValue) else node.value.lineno)
    return found


def test_no_module_but_the_table_and_the_settings_asks_for_a_kind_by_its_name() -> None:
    classes = {"Bedrock", "OpenAI", "Google", "Anthropic", "Serve", "Local"}
    for path in sorted([*(ROOT / "actors").rglob("*.py"), *(ROOT / "deployments").rglob("*.py")]):
        name = str(path.relative_to(ROOT))
        if name.startswith("deployments/providers/") or name == "deployments/config/providers.py":
            continue
        if name.startswith("deployments/ops/serve_run/"):
            continue  # there `serve` is the command of Ray Serve
        tree = ast.parse(path.read_text())
        assert not names_of_kinds(tree), name
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.name in classes], (
            name
        )
