"""How a command ends that could not be done: one sentence, one exit code, no stack, and never a key."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli import answers
from tests.cli.conftest import Done, Real, Run, started
from tests.cli.served import Book, Reply
from tests.cli.test_commands import READING, pages_of
from tests.readme import ROOT

SECRET = "sk-proj-abcdef1234567890"
WRONG = [
    ("status", "--url", "ftp://host"),
    ("status", "--url", "127.0.0.1:8000"),
    ("status", "--url", "http://"),
    ("status", "--url", "http://host:99999"),
    ("status", "--url", "http://user:pass@host"),
    ("status", "--url", "http://host/?a=b"),
    ("status", "--url", "http://ho st"),
    ("status", "--timeout", "0"),
    ("status", "--timeout", "soon"),
    ("status", "--key", SECRET),
    ("status", "--key-file", "/no/such/file"),
    ("state",),
    ("explain",),
    ("isolate",),
    ("isolate", "openai", "--for", "a while"),
    ("isolate", "openai", "--for", "0s"),
    ("isolate", "openai", "--as", "  "),
    ("isolate", "openai", "--as", "a\x1b[2J"),
    ("thresholds", "--set", "failure_threshold"),
    ("thresholds", "--set", "failure_threshold=many"),
    ("thresholds", "--set", "failure_threshold=nan"),
    ("thresholds", "--set", "=5"),
    ("thresholds", "--set", "window=5", "--unset", "window"),
    ("usage", "--by", "tenant,planet"),
    ("usage", "--since", "yesterday"),
    ("usage", "--csv", "--json"),
    ("requests", "--slower-than", "a snail"),
    ("requests", "--limit", "0"),
    ("requests", "--follow", "--before", "c"),
    ("requests", "--follow", "--until", "1d"),
    ("traffic", "--slots", "week"),
    ("completion", "tcsh"),
]


def is_one_sentence(done: Done) -> bool:
    return done.out == "" and len(done.err.splitlines()) == 1 and done.err.endswith(".\n")


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_usage_is_2_and_asks_nobody(run: Run, book: Book, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert is_one_sentence(done), done.err
    assert book.asked == []
    assert SECRET not in done.err


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    done = run()
    assert (done.code, done.out) == (2, "")
    assert "Exit codes: 0 done, 1 bad news" in done.err
    assert run("--help").code == run("requests", "-h").code == 0


@pytest.mark.parametrize("text", ["", "\n\n", "two words", "a\x1bb", "ключ", "x" * 5000])
def test_what_is_no_key_is_wrong_usage_and_not_repeated(
    run: Run, book: Book, tmp_path: pathlib.Path, text: str
) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    done = run("status", "--key-file", str(file))
    assert (done.code, done.err) == (2, "--key-file does not hold one key, on one line.\n")


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_server_that_is_not_there_is_3(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("BREAKWATER_URL", f"http://127.0.0.1:{port}")
    done = run(*arguments)
    assert (done.code, done.out) == (3, "")
    assert done.err == f"http://127.0.0.1:{port} can't be reached: [Errno 111] Connection refused.\n"


def listening(speak: Any) -> Iterator[str]:
    """A server that speaks bytes. It reads the request first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    with near, contextlib.suppress(OSError):
                        near.recv(65536)
                        speak(near)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@contextlib.contextmanager
def spoken(speak: Any) -> Iterator[str]:
    yield from listening(speak)


def hang(near: socket.socket) -> None:
    near.recv(1)  # until the client leaves


def drip(near: socket.socket) -> None:
    near.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    near.settimeout(0.02)
    while True:
        near.sendall(b" ")
        with contextlib.suppress(TimeoutError):
            if not near.recv(1):
                return


@pytest.mark.parametrize("speak", [hang, drip])
def test_a_server_that_hangs_or_drips_is_left_after_the_timeout(run: Run, speak: Any) -> None:
    with spoken(speak) as url:
        done = run("status", "--url", url, "--timeout", "0.3")
    assert (done.code, done.out, done.err) == (3, "", f"{url} did not answer within 0.3 s.\n")


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_what_is_no_http_is_3(run: Run, said: bytes) -> None:
    with spoken(lambda near: near.sendall(said)) as url:
        done = run("status", "--url", url)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"{url} can't be reached: ")
    assert len(done.err.splitlines()) == 1


def test_https_to_a_server_without_it_is_3(run: Run, book: Book) -> None:
    done = run("status", "--url", os.environ["BREAKWATER_URL"].replace("http:", "https:"))
    assert (done.code, len(done.err.splitlines())) == (3, 1)


def test_a_real_server_that_refuses_is_4_and_says_which_key_it_was(run: Run, real: Real, monkeypatch: Any) -> None:
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", SECRET)
    done = run("status")
    assert (done.code, done.out) == (4, "")
    assert "refused this (401): Incorrect API key provided" in done.err
    assert done.err.endswith("The key was that of BREAKWATER_ADMIN_KEY.\n")
    monkeypatch.delenv("BREAKWATER_ADMIN_KEY")
    assert "No key was sent: set BREAKWATER_ADMIN_KEY or BREAKWATER_KEY." in run("status").err
    monkeypatch.setenv("BREAKWATER_KEY", "beta")
    assert run("status").code == 0
    assert run("isolate", "openai").code == 4
    assert run("thresholds").err.endswith("The key was that of BREAKWATER_KEY.\n")
    assert SECRET not in done.err


def test_the_admin_key_goes_before_a_callers_and_a_file_before_both(
    run: Run, book: Book, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def sent(*arguments: str) -> str | None:
        assert run(*arguments).code == 0
        return book.asked[-1].headers.get("authorization")

    assert sent("status") is None
    monkeypatch.setenv("BREAKWATER_KEY", "caller")
    assert sent("status") == "Bearer caller"
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", " admin ")
    assert sent("status") == "Bearer admin"
    file = tmp_path / "key"
    file.write_text("filed\n")
    assert sent("status", "--key-file", str(file)) == sent("--key-file", str(file), "status") == "Bearer filed"


def test_a_key_may_come_by_standard_input(book: Book) -> None:
    process = started("status", "--key-file", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.communicate(b"piped\n", timeout=30)
    assert process.returncode == 0
    assert book.asked[-1].headers["authorization"] == "Bearer piped"


OTHERS = [
    (Reply(b"<html><body>502 Bad Gateway", 502, "text/html"), 5, "502 with text/html, not with JSON"),
    (Reply(b"<html>Sign in", 200, "text/html; charset=utf-8"), 5, "200 with text/html; charset=utf-8, not with JSON"),
    (Reply(b"<html>", 403, "text/html"), 4, "refused this (403)"),
    (Reply(b"", 200, "application/json"), 5, "not with JSON"),
    (Reply(b"[" * 100_000, 200), 5, "not with JSON"),
    (Reply(b"\xff\xfe\x00", 200), 5, "not with JSON"),
    (Reply(b'{"error":{"message":"The breaker actor is away"}}', 503), 5, "answered 503: The breaker actor is away."),
    (Reply(b'{"detail":"nope"}', 404), 5, "answered 404: it gave no reason."),
    (Reply(b"", 302, headers=((b"location", b"https://login.example/"),)), 5, "leads to https://login.example/"),
    (Reply(b"{}", 200), 5, "is not what this command expects (KeyError: 'health')"),
    (Reply(b"[]", 200), 5, "is not what this command expects"),
    (Reply(b"null", 200), 5, "not with JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "code", "said"), OTHERS, ids=[said for _, _, said in OTHERS])
def test_any_other_answer_is_one_sentence(run: Run, book: Book, reply: Reply, code: int, said: str) -> None:
    book.pages["/v1/status"] = reply
    done = run("status")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_name_that_the_server_does_not_know_is_5(run: Run, real: Real) -> None:
    done = run("explain", "nobody")
    assert (done.code, "The request 'nobody' is not known." in done.err) == (5, True)
    done = run("isolate", "nobody")
    assert (done.code, "Known providers: aws, openai, local." in done.err) == (5, True)


def test_a_server_behind_a_path_is_asked_there(run: Run, book: Book) -> None:
    book.pages["/llm/v1/status"] = answers.STATUS
    url = os.environ["BREAKWATER_URL"]
    for told in ("/llm", "/llm/", "/llm/v1"):
        assert run("status", "--url", url + told).code == 0
        assert run("--url", url + told, "status").code == 0
    assert {asked.path for asked in book.asked} == {"/llm/v1/status"}


def test_what_stands_behind_the_command_goes_before_what_stands_ahead(run: Run, book: Book) -> None:
    assert run("--url", "http://127.0.0.1:1", "status", "--url", os.environ["BREAKWATER_URL"]).code == 0


def test_a_proxy_of_the_environment_does_not_lead_to_this_machine(
    run: Run, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert run("status").code == 0
    monkeypatch.setenv("BREAKWATER_URL", os.environ["BREAKWATER_URL"].replace("127.0.0.1", "localhost"))
    assert run("status").code == 0


def test_a_proxy_is_asked_for_other_machines(run: Run, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """This book is the proxy: it is sent the whole address, whose path it knows."""
    monkeypatch.setenv("HTTP_PROXY", os.environ["BREAKWATER_URL"])
    assert run("status", "--url", "http://breakwater.example").code == 0
    assert book.asked[-1].headers["host"] == "breakwater.example"
    monkeypatch.setenv("HTTP_PROXY", "gopher://user:secret@host")
    done = run("status", "--url", "http://breakwater.example")
    assert (done.code, "secret" in done.err, len(done.err.splitlines())) == (3, False, 1)


def test_nobody_who_reads_on_is_silent(book: Book, tmp_path: pathlib.Path) -> None:
    book.pages["/v1/requests"] = pages_of(200, 5000)
    with (tmp_path / "said").open("wb") as said:
        process = started("requests", "--limit", "5000", stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"began (UTC)")
        process.stdout.close()
        assert process.wait(30) == 141
    assert (tmp_path / "said").read_bytes() == b""


def test_a_full_disk_is_one_sentence(book: Book) -> None:
    with open("/dev/full", "wb") as full:
        process = started("status", stdout=full, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 5
    assert len(said.splitlines()) == 1
    assert said.startswith(b"The output can't be written: [Errno 28] No space left on device")


def test_ctrl_c_while_it_waits_is_130(tmp_path: pathlib.Path) -> None:
    asked = threading.Event()

    def note(near: socket.socket) -> None:
        asked.set()
        hang(near)

    with spoken(note) as url:
        process = started("status", "--url", url, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_it_runs_by_its_path_from_any_folder_and_imports_nothing_heavy(book: Book, tmp_path: pathlib.Path) -> None:
    (tmp_path / "deployments").mkdir()  # a folder of another project must not be taken for ours
    process = started("status", stdout=subprocess.PIPE, cwd=tmp_path)
    process.communicate(timeout=30)
    assert process.returncode == 0
    names = ("ray", "openai", "boto3", "pydantic", "numpy", "grpc", "sqlalchemy", "rich", "yaml")
    code = (
        "import sys; from deployments.cli.program import main; code = main(['status'])\n"
        f"print(code, sorted(set({names}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=30, check=True)
    assert done.stderr == b"0 []\n"
