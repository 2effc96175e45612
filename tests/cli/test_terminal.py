"""On a real terminal: colours, widths, and nothing of others that it would obey."""

import contextlib
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from deployments.cli.commands import follow
from deployments.cli.program import main
from deployments.cli.terminal.text import width
from tests.cli import answers
from tests.cli.conftest import Run, started
from tests.cli.served import Book, Reply
from tests.cli.test_commands import HOSTILE, _with

CODES = re.compile(r"\x1b\[([0-9;]*)m")


Shown = Callable[..., str]


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What a terminal of so many columns is sent. The command runs in this process, and the terminal is a real one."""

    def shown(*arguments: str, columns: int = 120, code: int | None = None, **env: str) -> str:
        near, far = pty.openpty()
        said = bytearray()
        thread = threading.Thread(target=_read, args=(near, said))
        thread.start()
        with monkeypatch.context() as patch, os.fdopen(far, "w", encoding="utf-8") as terminal:
            for name, value in {"COLUMNS": str(columns), "TERM": "xterm-256color", **env}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", terminal)
            ended = main(arguments)
        thread.join(30)
        os.close(near)
        assert ended == code or (code is None and ended in (0, 1))
        return said.decode().replace("\r\n", "\n")

    return shown


def _read(near: int, said: bytearray) -> None:
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(near, 65536):
            said += piece


def test_states_have_colours_and_a_pipe_gets_the_same_words_without(on_terminal: Shown, run: Run, book: Book) -> None:
    shown = on_terminal("status", columns=200)
    assert {"31", "32", "33", "1"} <= set(CODES.findall(shown))  # red, green, yellow, bold
    plain = run("status").out
    assert "\x1b" not in plain
    words = [line.split() for line in CODES.sub("", shown).splitlines()]
    assert words == [line.split() for line in plain.splitlines()]


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_who_wants_no_colours_gets_none(on_terminal: Shown, book: Book, env: dict[str, str]) -> None:
    assert set(CODES.findall(on_terminal("status", **env))) <= {"0", "1"}  # bold is no colour


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
@pytest.mark.parametrize(
    "command", ["status", "requests", "usage --by tenant,day", "providers", "alerts", "thresholds"]
)
def test_on_a_narrow_terminal_no_figure_is_broken(on_terminal: Shown, book: Book, command: str, columns: int) -> None:
    text = CODES.sub("", on_terminal(*command.split(), columns=columns))
    whole = {"status": "100.0 %", "requests": "2026-10-31 13:59:59", "usage": "1,200", "thresholds": "recovery_timeout"}
    assert whole.get(command.split()[0], "openai" if command == "providers" else "BreakwaterProviderOpen") in text
    if columns >= 100:
        tables = [line for line in text.splitlines() if not line.startswith(("2026-10-31 14:00", "degraded"))]
        assert max(map(width, tables)) <= columns


def test_words_in_brackets_are_no_markup(on_terminal: Shown, book: Book) -> None:
    book.pages["/v1/alerts"] = {
        **answers.ALERTS,
        "data": [{**answers.ALERTS["data"][0], "summary": "[bold]x[/] :boom:"}],
    }
    assert "[bold]x[/] :boom:" in on_terminal("alerts")


@pytest.mark.parametrize(
    "command", ["status", "explain mine", "requests --json", "status --json", "usage --by day --csv"]
)
def test_nothing_of_others_is_obeyed(on_terminal: Shown, book: Book, command: str) -> None:
    book.pages = {path: _with(HOSTILE, page) for path, page in book.pages.items()}
    if "--csv" in command:
        book.pages["/v1/usage"] = Reply(f"tenant\n{HOSTILE}\n".encode(), kind="text/csv")
    shown = on_terminal(*command.split())
    assert "next" in shown
    assert not set(CODES.sub("", shown)) & set("\x1b\x07\u202e")
    if "--json" in command:
        assert json.loads(shown) == book.pages[f"/v1/{command.split()[0]}"]


def test_nothing_of_those_who_come_is_obeyed(on_terminal: Shown, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look is refused, which ends it."""
    monkeypatch.setattr(follow, "SECONDS", 0.0)
    told = iter([_with(HOSTILE, book.pages["/v1/requests"]), Reply(b"{}", 401)])
    book.pages["/v1/requests"] = lambda asked: next(told)
    shown = on_terminal("requests", "--follow", code=4)
    assert "acme" in shown
    assert not set(CODES.sub("", shown)) & set("\x1b\x07\u202e")


def test_json_into_a_file_is_not_touched(book: Book, tmp_path: pathlib.Path) -> None:
    body = json.dumps({**answers.STATUS, "why": HOSTILE, "more": "\x9b\x7f"}, ensure_ascii=False).encode()
    book.pages["/v1/status"] = Reply(body)
    with (tmp_path / "out").open("wb") as out:
        assert started("status", "--json", stdout=out).wait(30) == 0
    assert (tmp_path / "out").read_bytes() == body + b"\n"


def test_an_encoding_without_our_signs_is_no_failure(book: Book) -> None:
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = started("traffic", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out.isascii()
