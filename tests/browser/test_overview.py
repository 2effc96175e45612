"""The console's overview in a real browser, on a real cluster: what an operator sees, and what clicks do."""

import asyncio
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from deployments.ingress.http import build_http_api
from tests.browser.browser import Browser
from tests.browser.line import Line
from tests.cluster.conftest import Cluster, eventually
from tests.fakes.server import Behaviour
from tests.unit.test_http_api import GUARDED
from tests.unit.world import world

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> {{7*7}}"
DOWN = Behaviour("status", status=500, message=HOSTILE)


def tier(name: str) -> str:
    return f'.tier:has(h3:text-is("{name}"))'


def is_shown_as(word: str, name: str = "aws_bedrock") -> str:
    return f'{tier(name)} >> css=h3 + .word:text-is("{word}")'


def button(verb: str, name: str = "aws_bedrock") -> str:
    return f'role=button[name="{verb} {name}"]'


def look(browser: Browser, llm: Cluster, **how: object) -> None:
    browser.open(f"{llm.url}/", **how)
    browser.see(is_shown_as("healthy"))


def kill(llm: Cluster, name: str = "aws_bedrock") -> None:
    """Its circuits of both rows are open."""
    llm.fakes[name].behave = DOWN
    for row in ("default", "gpt-4"):
        for _ in range(3):
            llm.post(model=row)
    eventually(lambda: _states(llm, name) == {"open"}, 5)


def _states(llm: Cluster, name: str) -> set[str]:
    return {target["state"] for target in llm.get(f"/v1/providers/{name}")["targets"].values()}


def test_a_provider_that_dies_is_shown_within_two_seconds(browser: Browser, llm: Cluster, traffic: None) -> None:
    look(browser, llm)
    browser.see('#health:text-is("healthy")')
    llm.fakes["aws_bedrock"].refuse()
    eventually(lambda: llm.state("aws_bedrock") == "open")
    browser.see(f'{tier("aws_bedrock")} >> css=h3 + .word:text-matches("open$")', 2)
    browser.see('#health:text-is("degraded")')
    browser.see("#why >> text=openai answers first")
    browser.see(is_shown_as("open"))
    browser.see(f"{tier('aws_bedrock')} >> .why >> text=its calls failed")
    browser.see(f"{tier('aws_bedrock')} >> .error >> text=connect")
    browser.see("#rows .skipped li >> text=/aws_bedrock open, next probe in/")
    browser.see("#log >> text=/aws_bedrock: (partly )?open/")
    assert browser.complaints() == []


def test_the_time_until_the_next_probe_runs_down(browser: Browser, llm: Cluster) -> None:
    look(browser, llm)
    kill(llm)
    due = f"{tier('aws_bedrock')} >> .due"
    browser.see(f"{due} >> text=/next probe in [0-9]+ s/")
    first = browser.text(due)
    eventually(lambda: browser.text(due) != first, 5)
    assert int(browser.text(due).split()[-2]) < int(first.split()[-2])


def test_a_provider_comes_back_by_a_click_and_the_page_follows(browser: Browser, llm: Cluster) -> None:
    kill(llm)
    browser.open(f"{llm.url}/")
    browser.see(is_shown_as("open"))
    llm.fakes["aws_bedrock"].reset()
    browser.click(button("Recover"))
    browser.fill("input[type=password]", "admin")
    browser.click("#yes")
    browser.see(is_shown_as("half-open"))
    for row in ("default", "gpt-4"):
        llm.post(model=row)
    browser.see(is_shown_as("ramping"))
    browser.see("#rows >> text=/first for [0-9]+%/")
    browser.see(is_shown_as("healthy"), 30)
    browser.see('#health:text-is("healthy")')


def test_isolate_and_restore_by_click_ask_for_the_admin_key_once(browser: Browser, llm: Cluster) -> None:
    look(browser, llm)
    browser.click(button("Isolate"))
    browser.see("dialog >> text=Isolate aws_bedrock?")
    browser.fill("input[type=password]", "wrong")
    browser.click("#yes")
    browser.see("#refused >> text=This admin key was refused.")
    assert llm.get("/v1/providers/aws_bedrock")["isolated"] is False
    browser.fill("input[type=password]", "admin")
    browser.do("choose", at="dialog select", label="15 minutes")
    browser.click("#yes")
    browser.see(is_shown_as("isolated"))
    browser.see(f"{tier('aws_bedrock')} >> .due >> text=/back in 1[45] min/")
    assert llm.post().headers["x-breakwater-provider"] == "openai"
    browser.click(button("Restore"))
    browser.see(is_shown_as("healthy"))
    assert llm.post().headers["x-breakwater-provider"] == "aws_bedrock"
    assert browser.run("[{...localStorage}, document.cookie, location.search]") == [{}, "", ""]
    assert browser.complaints() == []


def test_an_isolation_that_is_not_confirmed_does_nothing(browser: Browser, llm: Cluster) -> None:
    look(browser, llm)
    browser.run("document.querySelector('[aria-label=\"Isolate aws_bedrock\"]').focus()")
    browser.do("press", key="Enter")
    browser.see("dialog[open]")
    browser.do("press", key="Escape")
    browser.miss("dialog[open]")
    assert browser.run("document.activeElement.ariaLabel") == "Isolate aws_bedrock"
    assert llm.get("/v1/providers/aws_bedrock")["isolated"] is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_leads_out_of_sight(
    browser: Browser, llm: Cluster, traffic: None, scheme: str, shots: pathlib.Path | None
) -> None:
    look(browser, llm, width=360, height=780, scheme=scheme)
    kill(llm)
    browser.see(is_shown_as("open"))
    browser.click(f"{tier('aws_bedrock')} >> summary")
    assert browser.run("document.documentElement.scrollWidth") == 360
    taken(browser, shots, f"phone-{scheme}")
    browser.click(button("Isolate"))
    assert browser.run("document.documentElement.scrollWidth") == 360
    assert browser.run("document.querySelector('dialog').getBoundingClientRect().right <= 360")
    assert browser.complaints() == []


def test_it_is_dark_where_that_is_wanted(browser: Browser, llm: Cluster, shots: pathlib.Path | None) -> None:
    look(browser, llm, width=1440)
    kill(llm)
    browser.see(is_shown_as("open"))
    luminance = "(c => c.match(/\\d+/g).map(Number).reduce((a, b) => a + b))(getComputedStyle(document.body).{})"
    for scheme in ("light", "dark"):
        browser.do("scheme", scheme=scheme)
        light = browser.run(luminance.format("backgroundColor")) > browser.run(luminance.format("color"))
        assert light == (scheme == "light")
        taken(browser, shots, f"desktop-{scheme}")
    assert browser.complaints() == []


def taken(browser: Browser, shots: pathlib.Path | None, name: str) -> None:
    if shots is not None:
        browser.do("shot", path=str(shots / f"{name}.png"))


def test_what_a_provider_says_stays_text(browser: Browser, llm: Cluster) -> None:
    look(browser, llm)
    kill(llm)
    browser.see(f"{tier('aws_bedrock')} >> .error >> text={HOSTILE}")
    assert browser.run("document.images.length + document.querySelectorAll('main script').length") == 0
    assert browser.complaints() == []


def test_nothing_but_the_pages_own_script_can_run(browser: Browser, llm: Cluster) -> None:
    look(browser, llm)
    for attempt in ("insertAdjacentHTML('beforeend', '<b>x</b>')", "setAttribute('onclick', 'document.title = 1')"):
        with pytest.raises(AssertionError, match="Trusted"):
            browser.run(f"document.body.{attempt}")
    browser.run("document.body.append(Object.assign(new Image(), {src: '/livez'}))")
    browser.run("fetch('http://localhost:1/').catch(() => 0)")
    refused = [text.split()[1] for text in browser.complaints() if text.startswith("policy: ")]
    assert {"img-src", "connect-src", "require-trusted-types-for"} <= set(refused)


def test_a_line_that_is_lost_is_said_and_what_is_old_does_not_look_live(browser: Browser, llm: Cluster) -> None:
    line = Line("127.0.0.1", int(llm.url.rpartition(":")[2]))
    try:
        browser.open(f"{line.url}/")
        browser.see('#line:text-is("live")')
        line.cut()
        browser.see("#lost >> text=Connection lost at")
        browser.see('#line:text-is("not live")')
        assert browser.run("document.body.className + document.title") == "oldnot live - Breakwater"
        line.mend()
        browser.see('#line:text-is("live")', 15)
        browser.miss("#lost")
        browser.see("#log >> text=connected again")
    finally:
        line.close()


def test_a_page_that_stays_open_takes_a_new_stream_and_nobody_notices(browser: Browser, llm: Cluster) -> None:
    look(browser, llm)
    streams = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('v1/events')).length"
    eventually(lambda: browser.run(streams) >= 1, 45)  # an entry is made when a stream has ended
    llm.command("isolate", "openai")
    browser.see(is_shown_as("isolated", "openai"), 2)
    assert "connected again" not in browser.text("#log")
    assert browser.complaints() == []


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A door where keys are needed, on a real socket in this process."""
    monkeypatch.setenv("KEYS", "reader")
    monkeypatch.setenv("ADMIN", "root")
    stop, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    async def main() -> None:
        async with world(GUARDED) as w:
            server = uvicorn.Server(uvicorn.Config(build_http_api(w.service), log_level="error", lifespan="off"))
            serving = asyncio.create_task(server.serve([listener]))
            await asyncio.to_thread(stop.wait)
            server.should_exit = server.force_exit = True
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    thread.join(30)
    listener.close()


def test_where_keys_are_needed_the_page_asks_and_forgets_on_demand(browser: Browser, guarded: str) -> None:
    browser.open(f"{guarded}/")
    browser.see("dialog >> text=A key is needed")
    browser.fill("input[type=password]", "wrong")
    browser.click("#yes")
    browser.see("#refused >> text=This key was refused.")
    browser.fill("input[type=password]", "reader")
    browser.click("#yes")
    browser.see(is_shown_as("healthy", "openai"))

    browser.click(button("Isolate", "openai"))
    browser.click("#yes")  # the reader's key is tried
    browser.see("#refused >> text=This needs the admin key.")
    browser.fill("input[type=password]", "root")
    browser.click("#yes")
    browser.see(is_shown_as("isolated", "openai"))
    assert browser.run("({...sessionStorage})") == {"reader": "reader", "admin": "root"}
    browser.click("text=Forget my keys")
    assert browser.run("({...sessionStorage})") == {}
    assert browser.complaints() == []
