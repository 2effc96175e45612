"""The console's routes: what the page may do, who may look, and a stream that costs next to nothing."""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.console.feed import MOST_PAGES, STREAM_SECONDS
from deployments.console.routes import STUCK_SECONDS
from deployments.ingress.http import build_http_api
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR, complete
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import World, world


class Reader:
    """One open page: the ASGI application called by hand, so that a test decides how it reads and when it leaves."""

    def __init__(self, app: Any, spec: str = "2.4", slow: float = 0.0):
        self.shown: list[dict[str, Any]] = []
        self.at: list[float] = []
        self.status = 0
        self.body: dict[str, Any] = {}
        self._app, self._spec, self._slow = app, spec, slow
        self._gone = asyncio.Event()

    async def __call__(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self._spec},
            "method": "GET",
            "path": "/v1/events",
            "raw_path": b"/v1/events",
            "query_string": b"",
            "headers": [],
        }
        with contextlib.suppress(Exception):
            await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._gone.is_set():
            raise OSError("the reader is gone")
        self.status = message.get("status", self.status)
        if (data := message.get("body")) and data.startswith(b"data: "):
            self.shown.append(json.loads(data[6:]))
            self.at.append(asyncio.get_running_loop().time())
        elif data:
            self.body = json.loads(data)
        await asyncio.sleep(self._slow)

    def leave(self) -> None:
        self._gone.set()


@contextlib.asynccontextmanager
async def reading(count: int = 1, **kind: Any) -> AsyncIterator[tuple[World, list[Reader], list["asyncio.Task[None]"]]]:
    async with world() as w:
        app = build_http_api(w.service)
        readers = [Reader(app, **kind) for _ in range(count)]
        tasks = [asyncio.create_task(reader()) for reader in readers]
        await asyncio.sleep(0)
        yield w, readers, tasks
        for reader in readers:
            reader.leave()
        await asyncio.gather(*tasks)


def state(snapshot: dict[str, Any], place: int = 0) -> str:
    return str(snapshot["tiers"][place]["word"])


def test_the_page_needs_no_key_and_may_do_nothing_but_talk_to_us() -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            response = await http.get("/")
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/html")
            policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
            for tag in ("script", "style"):
                [text] = re.findall(f"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
                digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
                assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
            assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
            assert (policy["img-src"], policy["frame-ancestors"]) == ("data:", "'none'")
            more = {
                "x-frame-options": "DENY",
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                "cross-origin-resource-policy": "same-origin",
                "cross-origin-opener-policy": "same-origin",
            }
            assert response.headers.items() >= more.items()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYS", "k")
        patch.setenv("ADMIN", "root")
        run_virtually(main())


FIRST = re.compile(r'<script type="application/json" id="first">(.*?)</script>', re.DOTALL)


def test_where_no_key_is_needed_the_page_has_what_it_shows_first() -> None:
    async def main() -> None:
        async with client() as (http, _):
            response = await http.get("/")
            [first] = FIRST.findall(response.text)
            assert json.loads(first)["tiers"] == (await http.get("/v1/status")).json()["tiers"]
            assert response.headers["cache-control"] == "no-store"

    run_virtually(main())


def test_nothing_in_what_it_shows_first_ends_its_element() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [Outcome("server_error", status=500, message="</script><b>bold</b>")]
            await complete(w)
            await w.settle()
            [first] = FIRST.findall((await http.get("/")).text)
            assert "bold" in first
            assert "<" not in first

    run_virtually(main())


def test_a_page_does_not_wait_for_an_actor_that_is_away() -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.actor.slow = 60.0
            began = asyncio.get_running_loop().time()
            response = await http.get("/")
            assert FIRST.findall(response.text) == [""]
            assert asyncio.get_running_loop().time() - began < 0.21

    run_virtually(main())


def test_where_a_key_is_needed_the_page_has_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            assert FIRST.findall((await http.get("/")).text) == [""]

    monkeypatch.setenv("KEYS", "k")
    monkeypatch.setenv("ADMIN", "root")
    run_virtually(main())


def test_the_page_names_no_other_host_and_makes_no_markup_of_data() -> None:
    async def main() -> None:
        async with client() as (http, _):
            page = (await http.get("/")).text
            assert set(re.findall(r"https?://[^\s'\"<>]+", page)) <= {"http://www.w3.org/2000/svg"}
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style="):
                assert word not in page, word

    run_virtually(main())


@pytest.mark.parametrize("path", ["/v1/status", "/v1/events"])
def test_whoever_may_ask_may_look_and_so_may_an_operator(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with client(GUARDED) as (http, _):
            for authorization in (None, "Bearer wrong", "Basic k"):
                response = await http.get(path, headers={"authorization": authorization} if authorization else {})
                assert response.status_code == 401
            for key in ("k", "root"):
                assert (await http.get(path, headers={"authorization": f"Bearer {key}"})).status_code == 200

    monkeypatch.setenv("KEYS", "k")
    monkeypatch.setenv("ADMIN", "root")
    run_virtually(main())


def test_the_status_is_what_the_stream_shows() -> None:
    async def main() -> None:
        async with client() as (http, w):
            once = (await http.get("/v1/status")).json()
            response = await http.get("/v1/events")
            assert response.headers["content-type"].startswith("text/event-stream")
            first = json.loads(response.text.split("\n\n")[0].removeprefix("data: "))
            assert {**first, "at": 0} == {**once, "at": 0}
            assert [tier["name"] for tier in once["tiers"]] == ["aws", "openai", "local"]
            assert sum(target["ok"] + target["failed"] for target in w.targets().values()) == 0

    run_virtually(main())


def test_a_stream_shows_a_snapshot_at_once_one_a_second_and_ends_by_itself() -> None:
    async def main() -> None:
        async with reading() as (_, [reader], [task]):
            began = asyncio.get_running_loop().time()
            await task
            assert reader.at[0] == began
            assert max(later - sooner for sooner, later in zip(reader.at, reader.at[1:], strict=False)) <= 1.0
            assert STREAM_SECONDS <= reader.at[-1] - began <= STREAM_SECONDS + 1

    run_virtually(main())


def test_a_circuit_that_opens_is_shown_at_once() -> None:
    async def main() -> None:
        async with reading() as (w, [reader], _):
            w.provider("aws").ends = [SERVER_ERROR]
            for _ in range(3):
                await complete(w)
            await w.settle()
            assert state(reader.shown[-1]) == "open"
            assert reader.shown[-1]["why"] == "openai answers first for default"
            assert reader.shown[-1]["tiers"][0]["last_error"]["kind"] == "server_error"

    run_virtually(main())


def test_a_change_while_the_actor_is_asked_is_not_missed() -> None:
    async def main() -> None:
        async with reading() as (w, [reader], _):
            for provider, place in (("aws", 0), ("openai", 1), ("local", 2)):
                await asyncio.sleep(0.93)  # about when a frame is made
                await w.service.operations.command("isolate", provider)
                await asyncio.sleep(0.25)
                assert state(reader.shown[-1], place) == "isolated"

    run_virtually(main())


def test_all_pages_share_one_poll_and_with_none_open_there_is_none() -> None:
    async def main() -> None:
        async with reading(20) as (w, readers, tasks):
            await asyncio.sleep(5.2)
            assert w.actor.polls <= 20 + 6, "one for each that opens, then one for all"
            for reader in readers:
                assert len(reader.shown) >= 5
                reader.leave()
            await asyncio.gather(*tasks)
            polls = w.actor.polls
            await asyncio.sleep(60)
            assert w.actor.polls == polls
            again = Reader(build_http_api(w.service))
            task = asyncio.create_task(again())
            await asyncio.sleep(2.5)
            assert len(again.shown) >= 3
            again.leave()
            await task

    run_virtually(main())


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_reader_who_vanishes_leaves_nothing_behind(spec: str) -> None:
    async def main() -> None:
        async with reading(spec=spec) as (w, [reader], [task]):
            await asyncio.sleep(3)
            reader.leave()
            async with asyncio.timeout(2):
                await task
            polls = w.actor.polls
            await asyncio.sleep(10)
            assert w.actor.polls == polls

    run_virtually(main())


def test_a_slow_reader_gets_the_newest_and_nothing_waits_for_it() -> None:
    async def main() -> None:
        async with reading(slow=7.0) as (w, [slow], _):
            await asyncio.sleep(8)
            await w.service.operations.command("isolate", "aws")
            await asyncio.sleep(14)
            assert len(slow.shown) <= 3
            assert state(slow.shown[-1]) == "isolated"

    run_virtually(main())


def test_a_reader_who_takes_nothing_is_cut_off() -> None:
    async def main() -> None:
        async with reading(slow=10_000.0) as (_, [stuck], [task]):
            async with asyncio.timeout(STREAM_SECONDS + STUCK_SECONDS + 1):
                await task
            assert stuck.status == 200

    run_virtually(main())


def test_pages_may_not_fill_a_replica() -> None:
    async def main() -> None:
        async with reading(MOST_PAGES + 1) as (_, readers, _):
            await asyncio.sleep(1)
            assert [r.status for r in readers] == [200] * MOST_PAGES + [503]
            assert readers[-1].body["error"]["code"] == "unavailable"
            readers[0].leave()
            await asyncio.sleep(2)
            another = Reader(readers[0]._app)
            task = asyncio.create_task(another())
            await asyncio.sleep(0.1)
            assert another.status == 200
            another.leave()
            await task

    run_virtually(main())


def test_while_the_actor_is_away_the_page_says_so_and_goes_on() -> None:
    async def main() -> None:
        async with reading() as (w, [reader], _):
            await w.service.operations.command("isolate", "aws")
            await w.settle()
            w.actor.kill()
            await asyncio.sleep(2)
            assert reader.shown[-1]["breaker_actor"] == "away"
            assert state(reader.shown[-1]) == "isolated"
            w.actor.away = False
            await asyncio.sleep(4)
            assert reader.shown[-1]["breaker_actor"] == "reachable"

    run_virtually(main())
