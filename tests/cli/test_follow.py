"""Requests as they end: each once, in order, over a server that is away for a while, until Ctrl-C."""

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from deployments.cli.commands import follow as following
from deployments.cli.commands.follow import Followed
from deployments.cli.server.client import Server
from deployments.cli.server.options import Asking
from tests.cli import answers
from tests.cli.conftest import Run, started
from tests.cli.served import Asked, Book, Reply


class Requests:
    """A server's list by the contract: the newest first, by pages, from an instant on."""

    def __init__(self) -> None:
        self.heads: list[dict[str, Any]] = []  # the oldest first
        self.most = 200

    def begin(self, number: int, outcome: str = "open", **more: Any) -> None:
        self.heads.append(answers.head(number, outcome=outcome, began_at=answers.AT * 1000 + number, **more))

    def end(self, number: int, outcome: str = "ok") -> None:
        for head in self.heads:
            if head["request_id"] == f"{number:08x}":
                head["outcome"] = outcome

    def __call__(self, asked: Asked) -> Any:
        since = float(asked.query.get("since", 0)) * 1000
        found = [head for head in reversed(self.heads) if head["began_at"] >= since]
        at = int(asked.query.get("before", 0))
        end = at + min(self.most, int(asked.query["limit"]))
        following = str(end) if end < len(found) else None
        return {"object": "list", "data": found[at:end], "next": following, "looked_back_to": 0}


@pytest.fixture
def requests(book: Book) -> Requests:
    made = Requests()
    book.pages["/v1/requests"] = made
    return made


@pytest.fixture
def followed(book: Book) -> Any:
    server = Server(os.environ["BREAKWATER_URL"], None, 5.0)
    yield Followed(Asking(server, False), {"outcome": "failed"})
    server.close()


def names(heads: Any) -> list[int]:
    return [int(head["request_id"], 16) for head in heads]


def test_each_request_is_told_once_and_when_it_is_over(followed: Followed, requests: Requests, book: Book) -> None:
    for number in range(5):
        requests.begin(number, "ok")
    requests.begin(5)
    assert names(followed.begin(3)) == [2, 3, 4]
    assert names(followed.look()) == []
    requests.begin(6, "deadline")
    assert names(followed.look()) == [6]
    requests.end(5, "ok")
    requests.begin(7)
    assert names(followed.look()) == [5]
    assert names(followed.look()) == []
    assert {asked.query["outcome"] for asked in book.asked} == {"failed"}


def test_what_came_on_several_pages_is_told_in_order(followed: Followed, requests: Requests) -> None:
    requests.begin(0, "ok")
    followed.begin(10)
    requests.most = 50
    for number in range(1, 231):
        requests.begin(number, "ok")
    assert names(followed.look()) == list(range(1, 231))


def test_one_that_takes_long_is_told_when_it_ends_though_many_came_meanwhile(
    followed: Followed, requests: Requests
) -> None:
    requests.begin(0)
    followed.begin(10)
    for number in range(1, 300):
        requests.begin(number, "ok")
        if number % 50 == 0:
            followed.look()
    followed.look()
    requests.end(0, "deadline")
    assert names(followed.look()) == [0]
    requests.begin(300, "ok")
    assert names(followed.look()) == [300]


def test_a_flood_asks_for_some_pages_and_no_more(followed: Followed, requests: Requests, book: Book) -> None:
    followed.begin(10)
    requests.most = 10
    for number in range(1000):
        requests.begin(number, "ok")
    before = len(book.asked)
    assert names(followed.look()) == list(range(950, 1000))
    assert len(book.asked) - before == following.MOST_PAGES


def test_what_is_remembered_has_a_bound(
    followed: Followed, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_SEEN", 300)
    for number in range(1000):
        requests.begin(number, "ok")
        if number % 100 == 99:
            followed.look()
    assert len(followed._seen) == 300
    assert names(followed.look()) == []


def test_a_server_that_is_away_is_said_once_and_asked_again(
    followed: Followed, requests: Requests, book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    requests.begin(0, "ok")
    followed.begin(10)
    book.pages["/v1/requests"] = Reply(b'{"error":{"message":"The ledger is away."}}', 503)
    assert [followed.look(), followed.look()] == [[], []]
    book.pages["/v1/requests"] = requests
    requests.begin(1, "ok")
    assert names(followed.look()) == [1]
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("answered 503: The ledger is away. It is asked again until it answers.")
    assert second.endswith("answers again.")


def test_what_can_not_be_asked_at_the_start_ends_it(run: Run, book: Book) -> None:
    book.pages["/v1/requests"] = Reply(b'{"error":{"message":"no"}}', 401)
    assert run("requests", "--follow").code == 4
    assert run("requests", "--follow", "--url", "http://127.0.0.1:1").code == 3


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["plain", "json"])
def test_ctrl_c_ends_it_without_a_word(requests: Requests, book: Book, form: tuple[str, ...]) -> None:
    requests.begin(0, "ok")
    requests.begin(1)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = started("requests", "--follow", *form, **pipes)
    assert process.stdout is not None
    if not form:
        assert process.stdout.readline().startswith(b"began (UTC)")
    first = process.stdout.readline()
    requests.end(1, "cancelled")
    second = process.stdout.readline()  # a line is there as soon as its request is over, though nobody has a terminal
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
    if form:
        assert [json.loads(line)["outcome"] for line in (first, second)] == ["ok", "cancelled"]
        assert json.loads(first) == requests.heads[0]
    else:
        assert [line.split()[4] for line in (first, second)] == [b"ok", b"cancelled"]


def test_nobody_who_reads_on_ends_it_in_silence(requests: Requests, book: Book) -> None:
    requests.begin(0, "ok")
    process = started("requests", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    requests.begin(1, "ok")
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
