"""Pages of others in a real browser, while Breakwater serves this machine without keys: none can ask or read anything.

The browser takes `evil.example` for 127.0.0.1 (with_playwright.py). So a page under that name is of another site, and
under the port of Breakwater it is what DNS rebinding makes of it: a page of the server's own origin.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.browser import Browser
from tests.browser.other_page import OtherPage
from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.browser

BODY = json.dumps({"model": "default", "messages": [{"role": "user", "content": "spend"}]})
CHAT = "/v1/chat/completions"


@pytest.fixture
def page() -> Iterator[OtherPage]:
    page = OtherPage()
    yield page
    page.close()


def fetched(browser: Browser, url: str, **how: Any) -> str:
    """Return the status and the text of an answer as a page reads it, or that it can't."""
    script = (
        f"fetch({json.dumps(url)}, {json.dumps(how)}).then(async r => r.type + ' ' + r.status + ' ' + await r.text())"
    )
    return str(browser.run(f"{script}.catch(e => 'blocked')"))


def asked(llm: Cluster) -> int:
    return sum(len(fake.received) for fake in llm.fakes.values())


def port_of(llm: Cluster) -> str:
    return llm.url.rpartition(":")[2]


@pytest.mark.parametrize("host", ["evil.example", "localhost"])
def test_a_page_of_another_origin_asks_no_provider_and_reads_nothing(
    browser: Browser, llm: Cluster, page: OtherPage, host: str
) -> None:
    browser.open(f"http://{host}:{page.port}/")
    before = asked(llm)
    for how in ("no-cors", "cors"):
        for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
            answer = fetched(
                browser, f"{llm.url}{CHAT}", method="POST", mode=how, body=BODY, headers={"content-type": kind}
            )
            assert answer in ("blocked", "opaque 0 ")
        for path in ("/v1/usage", "/v1/models", "/v1/status", "/v1/events", "/"):
            assert fetched(browser, f"{llm.url}{path}", mode=how) in ("blocked", "opaque 0 ")
    untyped = f"fetch('{llm.url}{CHAT}', {{method: 'POST', mode: 'no-cors', body: new Blob([{json.dumps(BODY)}])}})"
    browser.run(f"{untyped}.then(() => 0, () => 0)")
    assert asked(llm) == before


def test_a_form_of_another_page_asks_no_provider(browser: Browser, llm: Cluster, page: OtherPage) -> None:
    browser.open(f"http://evil.example:{page.port}/")
    before = asked(llm)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        # The body of a text/plain form is NAME=VALUE, which a little care makes JSON.
        name, value = BODY[:-1] + ', "user": "', '"}'
        browser.run(
            f"""(() => {{ const frame = document.createElement('iframe'); frame.name = '{kind}';
            document.body.append(frame);
            const form = Object.assign(document.createElement('form'),
                {{method: 'POST', action: '{llm.url}{CHAT}', enctype: '{kind}', target: '{kind}'}});
            form.append(Object.assign(document.createElement('input'),
                {{name: {json.dumps(name)}, value: {json.dumps(value)}}}));
            document.body.append(form);
            return new Promise(done => {{ frame.onload = () => done(0); form.submit(); }}); }})()"""
        )
    assert asked(llm) == before


def test_under_a_rebound_name_a_page_of_our_own_origin_reads_and_asks_nothing(browser: Browser, llm: Cluster) -> None:
    browser.open(f"http://evil.example:{port_of(llm)}/livez")
    assert browser.run("location.host") == f"evil.example:{port_of(llm)}"
    before = asked(llm)
    for path in ("/v1/usage", "/v1/models", "/v1/status", "/v1/requests/x", "/v1/health"):
        answer = fetched(browser, path)
        assert answer.startswith("basic 403 "), answer
        assert "evil.example" in json.loads(answer.removeprefix("basic 403 "))["error"]["message"]
    headers = {"content-type": "application/json"}
    assert fetched(browser, CHAT, method="POST", body=BODY, headers=headers).startswith("basic 403 ")
    assert asked(llm) == before


def test_under_its_own_names_our_page_may_ask(browser: Browser, llm: Cluster) -> None:
    for host in ("127.0.0.1", "localhost"):
        browser.open(f"http://{host}:{port_of(llm)}/livez")
        headers = {"content-type": "application/json"}
        assert fetched(browser, CHAT, method="POST", body=BODY, headers=headers).startswith("basic 200 ")


def test_no_other_page_can_frame_the_console_or_load_it_as_its_own(
    browser: Browser, llm: Cluster, page: OtherPage
) -> None:
    browser.open(f"http://evil.example:{page.port}/")
    browser.run(
        f"""new Promise(done => {{ const frame = document.createElement('iframe'); frame.onload = done;
        frame.src = '{llm.url}/'; document.body.append(frame); }}).then(() => 0)"""
    )
    assert any("frame" in text.lower() for text in browser.complaints())
    opened = f"(() => {{ window.w = window.open('{llm.url}/'); return 0; }})()"
    browser.run(opened)
    browser.run("new Promise(done => setInterval(() => window.w.closed && done(0), 50))")


def test_a_link_on_another_page_opens_the_console(browser: Browser, llm: Cluster, page: OtherPage) -> None:
    browser.open(f"http://evil.example:{page.port}/")
    browser.run(
        f"""(() => {{ document.body.append(Object.assign(document.createElement('a'),
        {{href: '{llm.url}/', textContent: 'status'}})); return 0; }})()"""
    )
    browser.click("text=status")
    browser.see('#line:text-is("live")')
