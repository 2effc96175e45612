"""Each command against a real HTTP server: what it asks, what it prints, and its exit code."""

import json
import time
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from deployments.cli.program import program
from tests.cli import answers
from tests.cli.conftest import Real, Run
from tests.cli.served import Asked, Book, Reply
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.world import REQUEST

READING = [
    ("status",),
    ("usage",),
    ("limits",),
    ("requests",),
    ("explain", "mine"),
    ("traffic",),
    ("alerts",),
    ("providers",),
    ("thresholds",),
]
CHANGING = [("isolate", "openai"), ("restore", "openai"), ("recover", "openai"), ("reset", "openai"),
            ("thresholds", "--set", "failure_threshold=5")]  # fmt: skip
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\r\nnext"


def ask(real: Real, **headers: str) -> None:
    """One chat by the key `alpha`, whatever comes of it."""
    told = {"authorization": "Bearer alpha", "content-type": "application/json", **headers}
    request = urllib.request.Request(f"{real.url}/v1/chat/completions", json.dumps(REQUEST).encode(), told)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


def test_every_command_is_tried_here() -> None:
    tried = {arguments[0] for arguments in (*READING, *CHANGING)}
    assert tried == program.commands.keys() - {"completion"}


@pytest.mark.parametrize("arguments", [*READING, *CHANGING], ids=" ".join)
def test_json_is_what_the_server_said_byte_for_byte(run: Run, book: Book, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--json")
    assert done.err == ""
    assert done.out.encode() == b"".join(book.sent) + b"\n"
    assert json.loads(done.out)


@pytest.mark.parametrize("arguments", [*READING, *CHANGING], ids=" ".join)
def test_the_exit_code_does_not_depend_on_the_form(run: Run, book: Book, arguments: tuple[str, ...]) -> None:
    plain = run(*arguments)
    assert plain.code == run(*arguments, "--json").code
    assert plain.err == ""
    assert "\x1b" not in plain.out


def test_status_of_a_real_service_and_its_exit_codes(run: Run, real: Real) -> None:
    done = run("status")
    assert (done.code, done.out.splitlines()[0]) == (0, "healthy: every row asks its first choice")
    assert "aws/haiku > openai/gpt > local/smol" in done.out

    assert run("isolate", "aws").code == 0
    done = run("status")
    assert (done.code, done.out.splitlines()[0]) == (0, "degraded: openai answers first for default")
    assert "aws/haiku (isolated)" in done.out

    assert run("isolate", "openai").code == run("isolate", "local").code == 0
    for form in ((), ("--json",)):
        assert run("status", *form).code == 1
    assert run("restore", "local").out.startswith("local is restored. Now: local/smol closed.")


def test_a_real_providers_error_is_in_status_without_its_control_characters(run: Run, real: Real) -> None:
    real.w.provider("aws").ends = [replace(SERVER_ERROR, message=HOSTILE)]
    for _ in range(3):
        ask(real)
    # The reports travel to the actor twice a second.
    done = _until(lambda: run("status"), lambda done: "open" in done.out and "3 in a row" in done.out)
    assert "next" in done.out
    assert not set(done.out) & set("\x1b\x07\u202e\r")


def _until(look: Any, seen: Any) -> Any:
    until = time.monotonic() + 20
    while not seen(done := look()):
        assert time.monotonic() < until, done
        time.sleep(0.05)
    return done


def test_a_real_request_is_explained_with_a_waterfall(run: Run, real: Real) -> None:
    real.w.provider("aws").ends = [SERVER_ERROR]
    ask(real, **{"x-request-id": "a b?c#d"})
    done = run("explain", "a b?c#d")
    assert done.code == 0
    assert "(a b?c#d): ok, answered by openai/gpt" in done.out
    first, second = (line for line in done.out.splitlines() if line[:1] in "12" and line[1:3] == "  ")
    assert first.split()[:3] == ["1", "aws/haiku", "server_error"]
    assert first.endswith("x")
    assert second.endswith(">")


def test_thresholds_of_a_real_breaker_are_set_and_taken_back(run: Run, real: Real) -> None:
    done = run("thresholds", "--set", "failure_threshold=5", "--set", "recovery_timeout=30.5")
    assert done.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line}
    assert lines["failure_threshold"] == ["5", "3"]
    assert lines["recovery_timeout"][0] == "30.5"
    done = run("thresholds", "--unset", "failure_threshold", "--set", "recovery_timeout=20")
    assert {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line}["failure_threshold"] == [
        "3",
        "-",
    ]
    done = run("thresholds", "--set", "failure_threshold=-1")
    assert (done.code, done.out) == (5, "")
    assert "failure_threshold" in done.err


def test_isolate_says_for_how_long_and_who(run: Run, real: Real) -> None:
    assert run("isolate", "openai", "--for", "2h", "--as", "ann").out.startswith("openai is isolated for 2 h.")
    assert real.book.asked[-1].query == {"seconds": "7200"}
    assert real.book.asked[-1].headers["x-breakwater-operator"] == "ann"
    line = next(line for line in run("status").out.splitlines() if line.startswith("openai/gpt "))
    assert "isolated" in line
    assert any(left in line for left in ("  2 h  ", "  1 h 59 min  "))
    run("restore", "openai")
    assert "@" in real.book.asked[-1].headers["x-breakwater-operator"]
    run("status")
    assert "x-breakwater-operator" not in real.book.asked[-1].headers


def test_a_place_is_named_by_its_sign(run: Run, book: Book) -> None:
    book.pages["/v1/providers/openai%23spare/isolate"] = answers.OPENAI_HEALTH
    assert run("isolate", "openai#spare").code == 0


def test_usage_asks_by_filters_and_groups(run: Run, book: Book) -> None:
    done = run("usage", "--by", "tenant, day", "--since", "2026-10-01", "--key-name", "alice", "--model", "x")
    assert done.code == 0
    assert book.asked[-1].query == {"group_by": "tenant,day", "since": "2026-10-01", "key": "alice", "model": "x"}
    assert done.out.splitlines()[1].split()[:3] == ["acme", "2026-10-31", "1,200"]


def test_usage_as_csv_is_the_servers_own(run: Run, book: Book) -> None:
    body = b"tenant,requests\n'=1+1,7\n"
    book.pages["/v1/usage"] = lambda asked: Reply(body, kind="text/csv; charset=utf-8")
    done = run("usage", "--csv", "--by", "tenant")
    assert (done.code, done.out.encode()) == (0, body)
    assert book.asked[-1].query == {"group_by": "tenant", "format": "csv"}
    book.pages["/v1/usage"] = Reply(b"<html>", kind="text/html")
    assert run("usage", "--csv").code == 5


def test_a_question_that_found_nothing_says_so(run: Run, book: Book) -> None:
    nothing = {"object": "list", "data": [], "next": None, "looked_back_to": 0}
    book.pages |= {"/v1/usage": nothing, "/v1/limits": nothing, "/v1/requests": nothing}
    said = [run(command).out for command in ("usage", "limits", "requests")]
    assert said == ["Nothing was used.\n", "Nobody has a limit.\n", "No such request.\n"]


@pytest.mark.parametrize(("told", "code", "said"), [
    ({"source": None, "trouble": None, "data": []}, 0, "knows no Prometheus"),
    ({"source": "prometheus", "trouble": None, "data": []}, 0, "No alert fires."),
    ({"source": "prometheus", "trouble": "no answer", "data": []}, 1, "Prometheus can't be asked: no answer"),
    (answers.ALERTS, 1, "BreakwaterProviderOpen"),
])  # fmt: skip
def test_alerts_are_bad_news(run: Run, book: Book, told: Any, code: int, said: str) -> None:
    book.pages["/v1/alerts"] = told
    done = run("alerts")
    assert done.code == code
    assert said in done.out


def pages_of(most: int, total: int) -> Any:
    """A list of requests by the contract: a cursor is the number of what was told so far."""

    def page(asked: Asked) -> Any:
        at = int(asked.query.get("before", 0))
        end = min(at + min(most, int(asked.query["limit"])), total)
        heads = [answers.head(n) for n in range(at, end)]
        following = str(end) if end < total else None
        return {"object": "list", "data": heads, "next": following, "looked_back_to": answers.AT * 1000 - end * 1000}

    return page


def test_a_long_list_is_asked_page_by_page(run: Run, book: Book) -> None:
    book.pages["/v1/requests"] = pages_of(70, 1000)
    done = run("requests", "--limit", "450")
    assert (done.code, len(done.out.splitlines())) == (0, 451)
    assert len({line.split()[2] for line in done.out.splitlines()[1:]}) == 450
    assert {int(asked.query["limit"]) for asked in book.asked} >= {200}
    assert "--before 450" in done.err
    assert len(run("requests", "--before", "990").out.splitlines()) == 11


def test_pages_that_find_nothing_are_not_asked_for_ever(run: Run, book: Book) -> None:
    book.pages["/v1/requests"] = {"object": "list", "data": [], "next": "older", "looked_back_to": 1000}
    done = run("requests", "--outcome", "failed")
    assert (done.code, done.out) == (0, "No such request.\n")
    assert "Looked back to 1970-01-01 00:00:01 UTC. Older ones: --before older" in done.err
    assert len(book.asked) <= 25


def test_requests_asks_by_every_filter_of_the_server(run: Run, book: Book) -> None:
    run(*("requests", "--outcome", "failed", "--provider", "openai", "--model", "gpt", "--tenant", "acme"),
        *("--agent", "a", "--key-name", "alice", "--row", "default", "--failed-over", "--slower-than", "1.5s"),
        *("--since", "2026-10-01", "--until", "2026-11-01", "--before", "c", "--limit", "7"))  # fmt: skip
    assert book.asked[-1].query == {
        **{"outcome": "failed", "provider": "openai", "model": "gpt", "tenant": "acme", "agent": "a", "key": "alice"},
        **{"row": "default", "failed_over": "true", "slower_than_ms": "1500", "since": "2026-10-01"},
        **{"until": "2026-11-01", "before": "c", "limit": "7"},
    }


def test_traffic_can_be_had_slot_by_slot(run: Run, book: Book) -> None:
    assert len(run("traffic", "--slots", "hour").out.splitlines()) == 61
    assert len(run("traffic", "--slots", "day").out.splitlines()) == 49


def test_traffic_without_any_request_has_no_share(run: Run, book: Book) -> None:
    span = {"slot_seconds": 60, "slots": [], "totals": dict.fromkeys(answers.TRAFFIC["hour"]["totals"], 0)}
    none = {"p50": None, "p95": None, "count": 0}
    told = {**span, "first_token_ms": none, "added_ms": none}
    book.pages["/v1/traffic"] = {"at": 0, "hour": told, "day": told}
    done = run("traffic")
    assert done.code == 0
    assert ["share", "answered", "-", "-"] in [line.split() for line in done.out.splitlines()]


@pytest.mark.parametrize(
    "command",
    ["status", "requests", "limits", "alerts", "providers", "usage --by tenant,day", "explain mine", "thresholds"],
)
def test_no_text_of_others_reaches_the_terminal_as_it_is(run: Run, book: Book, command: str) -> None:
    book.pages = {path: _with(HOSTILE, page) for path, page in book.pages.items()}
    done = run(*command.split())
    assert done.err == ""
    assert "next" in done.out
    assert not set(done.out) & set("\x1b\x07\u202e\r")


def _with(hostile: str, page: Any) -> Any:
    """The same answer, in which each text has the signs behind it, but for those that mean something."""
    if isinstance(page, dict):
        kept = ("state", "word", "health", "outcome", "limit", "object", "source", "day")
        return {name: value if name in kept else _with(hostile, value) for name, value in page.items()}
    if isinstance(page, list):
        return [_with(hostile, each) for each in page]
    return page + hostile if isinstance(page, str) else page


def test_the_same_with_a_sentence_of_a_server(run: Run, book: Book) -> None:
    book.pages["/v1/status"] = Reply(json.dumps({"error": {"message": HOSTILE * 500}}).encode(), 500)
    done = run("status")
    assert done.code == 5
    assert not set(done.err) & set("\x1b\x07\u202e\r")
    assert len(done.err.splitlines()) == 1
    assert len(done.err) < 700
