"""An image's server that plays tricks with names, redirects and proxies. Real sockets; only the names are the test's.

An address of the internet leads to the test's own server, and the test sees which address was connected to.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx2
import pytest

from deployments.config.settings import ImageLimits
from deployments.errors import AttemptFailed
from deployments.routing.image_fetch import REDIRECTS, ImageFetcher
from tests.fakes.server import Behaviour, FakeServer
from tests.providers.test_images import PNG, here, host, inlined, message

__all__ = ["host"]
PUBLIC = "93.184.216.34"


@dataclass
class Names:
    """A resolver. Each name has its answers in turn, the last one for good."""

    answers: Mapping[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int, _: str | None) -> list[str]:
        self.asked.append(host)
        answers = self.answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Internet(httpx2.AsyncHTTPTransport):
    """Sockets, but the internet's addresses are those of the test's server."""

    def __init__(self, server: FakeServer):
        super().__init__(trust_env=False)
        self._server = server
        self.connected: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.connected.append(request.url.host)
        if request.url.host == PUBLIC:
            request.url = request.url.copy_with(host="127.0.0.1", port=self._server.port)
        return await super().handle_async_request(request)


@dataclass
class Fetched:
    image: str | None
    reason: str
    connected: list[str]


def fetch(server: FakeServer, names: Names, url: str = "http://images.example/a.png") -> Fetched:
    async def main() -> Fetched:
        internet = Internet(server)
        fetcher = ImageFetcher(ImageLimits(), names, internet)
        try:
            body = await fetcher.inline(message(url))
            return Fetched(body["messages"][0]["content"][1]["image_url"]["url"], "", internet.connected)
        except AttemptFailed as error:
            return Fetched(None, error.outcome.message, internet.connected)
        finally:
            await fetcher.close()

    return asyncio.run(main())


def redirecting(server: FakeServer, location: str) -> None:
    server.behave = Behaviour("raw", status=302, headers={"location": location})


def test_a_name_that_is_rebound_after_the_check_is_asked_for_once_and_leads_to_the_checked_address(
    host: FakeServer,
) -> None:
    names = Names({"images.example": [[PUBLIC], ["127.0.0.1"]]})
    fetched = fetch(host, names)
    assert (fetched.connected, names.asked) == ([PUBLIC], ["images.example"])
    assert fetched.image is not None
    assert host.received[0].headers["host"] == "images.example"


def test_a_redirect_to_a_name_that_is_rebound_meanwhile_is_refused(host: FakeServer) -> None:
    redirecting(host, "http://images.example/b.png")
    names = Names({"images.example": [[PUBLIC], ["127.0.0.1"]]})
    fetched = fetch(host, names)
    assert "host is not public" in fetched.reason
    assert (fetched.connected, [r.path for r in host.received]) == ([PUBLIC], ["/a.png"])


@pytest.mark.parametrize("others", [["127.0.0.1"], ["::1"], ["10.0.0.1", PUBLIC], ["fe80::1%lo"], ["192.0.0.192"]])
def test_one_address_that_is_not_public_spoils_all_of_a_host(host: FakeServer, others: list[str]) -> None:
    fetched = fetch(host, Names({"images.example": [[PUBLIC, *others]]}))
    assert "host is not public" in fetched.reason
    assert (fetched.connected, host.connections) == ([], 0)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1/", "host is not public"),
        ("http://[::ffff:169.254.169.254]/latest/meta-data", "host is not public"),
        ("http://inner.example/", "host is not public"),
        ("http://images.example:22/", "port is neither 80 nor 443"),
        ("http://2130706433/", "usual form"),
        ("http://me:secret@images.example/", "user name or a password"),
        ("file:///etc/passwd", "not a http or https URL"),
    ],
)
def test_a_public_server_can_not_redirect_us_to_what_its_client_may_not_name(
    host: FakeServer, location: str, reason: str
) -> None:
    redirecting(host, location)
    answers = {"images.example": [[PUBLIC]], "inner.example": [["10.0.0.1"]]}
    addresses = {"127.0.0.1": [["127.0.0.1"]], "::ffff:169.254.169.254": [["::ffff:169.254.169.254"]]}
    fetched = fetch(host, Names({**answers, **addresses}))
    assert reason in fetched.reason
    assert "secret" not in fetched.reason
    assert (fetched.connected, len(host.received)) == ([PUBLIC], 1)


def test_redirects_come_to_an_end(host: FakeServer) -> None:
    redirecting(host, "http://images.example/a.png")
    names = Names({"images.example": [[PUBLIC]]})
    fetched = fetch(host, names)
    assert f"redirects more than {REDIRECTS} times" in fetched.reason
    assert len(names.asked) == len(host.received) == REDIRECTS + 1


@pytest.fixture
def proxy() -> Iterator[FakeServer]:
    from tests.fakes.openai_wire import OpenAIWire

    fake = FakeServer(OpenAIWire())
    fake.behave = Behaviour("raw", raw=PNG)
    yield fake
    fake.stop()


def test_a_proxy_of_the_environment_is_not_asked(
    host: FakeServer, proxy: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    inlined(message(f"{host.url}/a.png"), ImageLimits(hosts=here(host)))
    assert (len(host.received), proxy.connections) == (1, 0)


def test_each_image_has_a_connection_of_its_own_since_tls_has_checked_one_name_alone(host: FakeServer) -> None:
    urls = [f"{host.url}/{n}.png" for n in range(3)]
    inlined(message(*urls), ImageLimits(hosts=here(host)))
    assert host.connections == 3


def test_a_header_without_end_is_a_typed_error_in_little_memory(host: FakeServer) -> None:
    host.behave = Behaviour("raw", raw=PNG, headers={"x-long": "x" * 10_000_000})
    with pytest.raises(AttemptFailed) as caught:
        inlined(message(f"{host.url}/a.png"), ImageLimits(hosts=here(host)))
    assert "the answer failed" in caught.value.outcome.message
