"""The command, in this process or in one of its own, and servers for it."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deployments.cli.program import main
from deployments.ingress.http import build_http_api
from tests.cli import answers
from tests.cli.served import Book, alone, serving
from tests.readme import ROOT
from tests.unit.test_http_api import GUARDED
from tests.unit.world import World, world

CLI = str(pathlib.Path(ROOT) / "deployments" / "cli")
KEYS = ("BREAKWATER_URL", "BREAKWATER_KEY", "BREAKWATER_ADMIN_KEY")
CANNED = {
    "/v1/status": answers.STATUS,
    "/v1/traffic": answers.TRAFFIC,
    "/v1/alerts": answers.ALERTS,
    "/v1/requests": {"object": "list", "data": answers.REQUESTS, "next": None, "looked_back_to": 0},
    "/v1/requests/00000002": answers.EXPLAINED,
    "/v1/requests/mine": answers.EXPLAINED,
    "/v1/usage": answers.USAGE,
    "/v1/limits": answers.LIMITS,
    "/v1/setup": answers.SETUP,
    "/v1/breaker": answers.BREAKER,
    **{f"/v1/providers/openai/{verb}": answers.OPENAI_HEALTH for verb in ("isolate", "restore", "recover", "reset")},
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's user has set is not for these tests."""
    for name in (
        *KEYS,
        "NO_COLOR",
        "FORCE_COLOR",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "RAY_PROMETHEUS_HOST",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command in this process."""

    def running(*arguments: str) -> Done:
        capfdbinary.readouterr()
        code = main(arguments)
        out, err = capfdbinary.readouterr()
        return Done(code, out.decode(), err.decode())

    return running


def started(*arguments: str, **how: Any) -> "subprocess.Popen[bytes]":
    """The command in a process of its own."""
    environment = {**os.environ, **how.pop("env", {})}
    return subprocess.Popen([sys.executable, CLI, *arguments], env=environment, preexec_fn=_heed_ctrl_c, **how)


def _heed_ctrl_c() -> None:
    """A background job of a shell ignores it, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def library() -> Iterator[tuple[str, Book]]:
    """One server for all tests that need none of their own: to start one takes a fifth of a second."""
    with serving(lambda: alone(Book())) as made:
        yield made


@pytest.fixture
def book(library: tuple[str, Book], monkeypatch: pytest.MonkeyPatch) -> Book:
    """A server whose answers are those of the pages. The command asks it."""
    url, made = library
    made.pages, made.asked, made.sent = dict(CANNED), [], []
    monkeypatch.setenv("BREAKWATER_URL", url)
    return made


@dataclass
class Real:
    """A real service behind the real HTTP API. `book` notes what it was asked."""

    url: str
    book: Book
    w: World


@contextlib.asynccontextmanager
async def service(args: dict[str, Any]) -> AsyncIterator[tuple[Book, tuple[Book, World]]]:
    async with world(args) as w:
        book = Book({}, build_http_api(w.service))
        yield book, (book, w)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    """Guarded by the admin key `root` and the callers' keys `alpha` and `beta`. The command sends the first."""
    monkeypatch.setenv("KEYS", "alpha:tenant_1, beta")
    monkeypatch.setenv("ADMIN", "root")
    with serving(lambda: service(GUARDED)) as (url, (book, w)):
        monkeypatch.setenv("BREAKWATER_URL", url)
        monkeypatch.setenv("BREAKWATER_ADMIN_KEY", "root")
        yield Real(url, book, w)
