"""The console's pages in a real browser, on a real cluster with its ledger: what they show, and what they can do."""

import json
import pathlib
from typing import Any

import pytest

from tests.browser.axe import Axe
from tests.browser.browser import Browser
from tests.browser.test_overview import DOWN, taken
from tests.clients.client import Missing
from tests.cluster.conftest import Cluster, eventually
from tests.fakes.server import Behaviour

pytestmark = pytest.mark.browser

PAGES = {
    "overview": ("#/", "#traffic .card"),
    "usage": ("#/usage?since=7", "#usagetable tbody tr"),
    "requests": ("#/requests", "#list tbody tr"),
    "try": ("#/try", "#python:has-text('OpenAI')"),
    "providers": ("#/providers", "#setup article"),
}
WIDTHS = (360, 768, 1440)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Axe:
    try:
        return Axe(tmp_path_factory.mktemp("axe"))
    except Missing as missing:
        pytest.fail(f"{missing}: apt-get install npm")


@pytest.fixture
def asked(llm: Cluster) -> dict[str, str]:
    """What two tenants have asked: one request that was answered, one that failed over, and one that failed."""
    of = {"ok": llm.post(model="gpt-4", headers={"x-tenant-id": "acme", "x-agent-id": "planner"})}
    llm.fakes["aws_bedrock"].behave = DOWN
    of["moved"] = llm.post(headers={"x-tenant-id": "globex"})
    of["refused"] = llm.post(headers={"x-tenant-id": "globex"}, temperature=99)
    ids = {name: answer.headers.get("x-breakwater-request-id", "") for name, answer in of.items()}
    llm.fakes["aws_bedrock"].reset()
    llm.command("reset", "aws_bedrock")
    eventually(lambda: ids["moved"] in str(llm.get("/v1/requests")), 20)
    return ids


def look(browser: Browser, llm: Cluster, page: str, **how: Any) -> None:
    at, seen = PAGES[page]
    browser.open(f"{llm.url}/{at}", **how)
    browser.see(seen, 20)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_each_page_fits_and_says_nothing_on_the_console_and_axe_finds_nothing(
    browser: Browser,
    llm: Cluster,
    asked: dict[str, str],
    axe: Axe,
    page: str,
    scheme: str,
    shots: pathlib.Path | None,
) -> None:
    for width in WIDTHS:
        look(browser, llm, page, width=width, scheme=scheme)
        assert browser.run("document.documentElement.scrollWidth") == width
        assert axe.findings(browser) == []
        assert browser.complaints() == []
        taken(browser, shots, f"{page}-{width}-{scheme}")


def test_the_pages_are_reached_by_keyboard_and_each_has_a_title(browser: Browser, llm: Cluster) -> None:
    look(browser, llm, "overview")
    browser.see('#line:text-is("live")')
    for name, title in (("Usage", "Usage: healthy"), ("Requests", "Requests: healthy"), ("Providers", "Providers: ")):
        browser.run(f"[...document.querySelectorAll('nav a')].find(a => a.text === '{name}').focus()")
        browser.do("press", key="Enter")
        browser.see(f'nav a[aria-current=page]:text-is("{name}")')
        eventually(lambda title=title: browser.run("document.title").startswith(title), 5)
        assert browser.run("document.activeElement.id") == "main"


def test_the_list_is_live_and_its_filters_are_in_the_address(
    browser: Browser, llm: Cluster, asked: dict[str, str]
) -> None:
    look(browser, llm, "requests")
    browser.see(f'#list a:text-is("{asked["ok"]}")')
    new = llm.post(headers={"x-tenant-id": "initech"}).headers["x-breakwater-request-id"]
    browser.see(f'#list tbody tr:first-child a:text-is("{new}")', 10)
    browser.click('#requests [name="failed_over"]')
    browser.see(f'#list a:text-is("{asked["moved"]}")')
    browser.miss(f'#list a:text-is("{asked["ok"]}")')
    assert browser.run("location.hash") == "#/requests?failed_over=true"
    browser.run("location.hash = '#/requests?tenant=acme'")
    browser.see(f'#list a:text-is("{asked["ok"]}")')
    browser.miss(f'#list a:text-is("{asked["moved"]}")')
    assert browser.run("document.querySelector('#requests [name=tenant]').value") == "acme"


def test_one_request_is_a_timeline_with_a_link_of_its_own(
    browser: Browser, llm: Cluster, asked: dict[str, str], axe: Axe, shots: pathlib.Path | None
) -> None:
    look(browser, llm, "requests", width=1440)
    browser.click(f'#list a:text-is("{asked["moved"]}")')
    browser.see("#explained .waterfall li >> nth=1")
    assert browser.run("location.hash") == f"#/requests/{asked['moved']}"
    told = browser.text("#explained")
    for word in ("server_error", "aws_bedrock", "openai", "first token", "globex", "not reached"):
        assert word in told, word
    assert browser.run("document.querySelectorAll('#explained svg.bar').length") == 2
    assert "capital of France" not in browser.run("document.body.textContent.replace(/.*Try it/s, '')")
    assert axe.findings(browser) == []
    taken(browser, shots, "request-1440-light")
    browser.open(f"{llm.url}/#/requests/{asked['moved']}")
    browser.see("#explained .waterfall li")
    assert browser.complaints() == []


def test_an_answer_that_comes_late_is_not_drawn_over_another(
    browser: Browser, llm: Cluster, asked: dict[str, str]
) -> None:
    look(browser, llm, "requests")
    late = f"String(url).includes({json.dumps(asked['moved'])})"
    wait = f"if ({late}) await new Promise(done => setTimeout(done, 1500))"
    browser.run(f"(f => {{ window.fetch = async (url, how) => {{ {wait}; return f(url, how); }}; }})(window.fetch)")
    browser.run(f"location.hash = '#/requests/{asked['moved']}'")
    browser.see(f'#requestid:text-is("{asked["moved"]}")')
    browser.run(f"location.hash = '#/requests/{asked['ok']}'")
    browser.see("#explained >> text=acme")
    browser.run("new Promise(done => setTimeout(done, 2500))")
    assert "globex" not in browser.text("#explained")
    assert browser.text("#requestid") == asked["ok"]


def test_usage_says_who_used_what_and_how_much_of_a_limit(
    browser: Browser, llm: Cluster, asked: dict[str, str], tmp_path: pathlib.Path
) -> None:
    look(browser, llm, "usage")
    assert {"acme", "globex"} <= set(browser.text("#usagetable").split())
    browser.do("choose", at='#usage [name="by"]', label="provider")
    browser.see('#usagetable th:text-is("openai")')
    assert "by=provider" in browser.run("location.hash")
    said = browser.text("#limits")
    assert "tenant small" in said
    assert "of 3 requests a minute" in said
    csv = browser.do("download", at="#csv", path=str(tmp_path / "usage.csv"))
    head, *rows = pathlib.Path(csv).read_text().splitlines()
    assert head.startswith("day,provider,requests")
    assert any(",openai," in row for row in rows)


def test_a_prompt_is_tried_and_explained_and_can_be_copied_as_code(browser: Browser, llm: Cluster) -> None:
    look(browser, llm, "try")
    before = len(llm.fakes["openai"].received)
    browser.fill("#prompt [name=model]", "gpt-4")
    browser.fill("#messages textarea", "Is this 'quoted' \\ text?")
    for stream in (True, False):
        browser.run(f"document.querySelector('#prompt [name=stream]').checked = {json.dumps(stream)}")
        browser.click("#prompt button.yes")
        browser.see("#prompt .said >> text=/answered, in/")
        assert browser.text("#answer")
        browser.see("#tried .waterfall li >> text=ok")
    assert len(llm.fakes["openai"].received) + len(llm.fakes["aws_bedrock"].received) > before
    browser.fill("#prompt [name=tools]", "{not json")
    browser.see("#wrong >> text=/tools: /")
    browser.click("#prompt button.yes")
    assert "tools" in browser.text("#prompt .said")
    assert browser.complaints() == []


def test_a_stream_that_breaks_off_is_never_shown_as_whole(browser: Browser, llm: Cluster) -> None:
    look(browser, llm, "try")
    browser.fill("#prompt [name=model]", "gpt-4")
    for fake in llm.fakes.values():
        fake.behave = Behaviour("cut", after=2)
    browser.click("#prompt button.yes")
    browser.see("#prompt .said >> text=/The stream broke off/", 20)
    assert browser.complaints() == []


def test_thresholds_are_changed_by_hand_and_the_page_says_who_did(browser: Browser, llm: Cluster) -> None:
    look(browser, llm, "providers")
    browser.see("#setup article >> text=/credential: .*OPENAI_API_KEY/")
    browser.see("#setup article >> text=/in, .* out for a million tokens/")
    browser.see("text=Use the admin key")
    browser.click("#operate")
    browser.fill("input[type=password]", "admin")
    browser.click("#yes")
    browser.see("#thresholds button.yes")
    browser.fill("#thresholds [name=failure_threshold]", "7")
    browser.click("#thresholds button.yes")
    browser.see("dialog >> text=failure_threshold: 7")
    browser.click("#yes")
    browser.see("#thresholds >> text=set by hand; the config says 3")
    browser.see("#changed li >> text=/thresholds .*failure_threshold.*the admin key/")
    browser.click("text=Take all changes back")
    browser.click("#yes")
    browser.miss("#thresholds >> text=set by hand")
    assert llm.thresholds()["overrides"] == {}
    assert browser.complaints() == []


def test_what_a_client_and_a_provider_say_stays_text(browser: Browser, llm: Cluster) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    llm.fakes["aws_bedrock"].behave = Behaviour("status", status=500, message=hostile)
    moved = llm.post(headers={"x-tenant-id": hostile, "x-request-id": hostile})
    llm.fakes["aws_bedrock"].reset()
    name = moved.headers["x-breakwater-request-id"]
    eventually(lambda: name in str(llm.get("/v1/requests")), 20)
    browser.open(f"{llm.url}/#/requests/{name}")
    browser.see("#explained .error")
    assert hostile in browser.text("#explained")
    for page in ("usage", "requests", "providers"):
        browser.run(f"location.hash = '{PAGES[page][0]}'")
        browser.see(PAGES[page][1])
    assert browser.run("document.images.length") == 0
    assert browser.complaints() == []


def test_what_is_being_typed_and_the_focus_stay_while_the_list_moves_on(
    browser: Browser, llm: Cluster, asked: dict[str, str]
) -> None:
    look(browser, llm, "requests")
    browser.run("document.querySelector('#requests [name=tenant]').value = 'acm'")
    browser.run(f"document.querySelector('#list a[href$=\"{asked['ok']}\"]').focus()")
    new = llm.post().headers["x-breakwater-request-id"]
    browser.see(f'#list tbody tr:first-child a:text-is("{new}")', 10)
    assert browser.run("document.querySelector('#requests [name=tenant]').value") == "acm"
    assert browser.run("document.activeElement.textContent") == asked["ok"]


def test_older_ones_are_a_page_further_and_then_the_list_stands_still(browser: Browser, llm: Cluster) -> None:
    for _ in range(60):
        llm.post()
    newest = llm.post().headers["x-breakwater-request-id"]
    eventually(lambda: newest in str(llm.get("/v1/requests?limit=1")), 20)
    look(browser, llm, "requests")
    browser.click("#older")
    rows = "document.querySelectorAll('#list tbody tr').length"
    eventually(lambda: browser.run(rows) > 60, 10)
    ids = browser.run("[...document.querySelectorAll('#list tbody a')].map(a => a.textContent)")
    assert len(set(ids)) == len(ids)
    new = llm.post().headers["x-breakwater-request-id"]
    browser.see("text=The list stands still")
    browser.click("#newest")
    browser.see(f'#list tbody tr:first-child a:text-is("{new}")', 10)
    assert browser.run(rows) == 50
    assert browser.complaints() == []
