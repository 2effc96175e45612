"""ImageFetcher by URL: fetched from public hosts alone, within bytes and seconds. Real sockets."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.config.settings import ImageLimits
from deployments.errors import AttemptFailed
from deployments.routing.image_fetch import ImageFetcher
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def host() -> Iterator[FakeServer]:
    fake = FakeServer(OpenAIWire())
    fake.behave = Behaviour("raw", raw=PNG, content_type="text/plain")
    yield fake
    fake.stop()


def here(host: FakeServer) -> frozenset[str]:
    return frozenset({f"127.0.0.1:{host.port}"})


def message(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]}


def inlined(body: dict[str, Any], limits: ImageLimits) -> Any:
    async def main() -> Any:
        images = ImageFetcher(limits)
        try:
            return await images.inline(body)
        finally:
            await images.close()

    return asyncio.run(main())


def why(body: dict[str, Any], limits: ImageLimits) -> str:
    with pytest.raises(AttemptFailed) as caught:
        inlined(body, limits)
    outcome = caught.value.outcome
    assert (outcome.kind, outcome.param) == ("unsupported", "messages.0.content.1.image_url")
    return outcome.message


def test_an_image_becomes_a_data_url_of_its_true_kind_and_nothing_else_changes(host: FakeServer) -> None:
    body = message(f"{host.url}/a.png", "data:image/gif;base64,R0lGODlh", f"{host.url}/a.png")
    made = inlined(body, ImageLimits(hosts=here(host)))
    parts = made["messages"][0]["content"]
    assert parts[1]["image_url"] == {
        "url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        "detail": "low",
    }
    assert parts[2] == body["messages"][0]["content"][2]
    assert parts[3] == parts[1]
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("http"), "the request is not ours to change"
    assert len(host.received) == 1
    assert host.received[0].headers["host"] == f"127.0.0.1:{host.port}"


def test_a_request_without_remote_images_is_handed_on_as_it_is() -> None:
    body = message("data:image/gif;base64,R0lGODlh")
    assert inlined(body, ImageLimits()) is body


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "localhost.", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"])
def test_a_host_that_is_not_public_is_never_connected_to(host: FakeServer, name: str) -> None:
    port_alone = frozenset({f"elsewhere:{host.port}"})
    assert "port is neither" in why(message(f"http://{name}:{host.port}/a.png"), ImageLimits(hosts=port_alone))
    assert "host is not public" in why(message(f"http://{name}/a.png"), ImageLimits())
    assert host.connections == 0


def test_a_redirect_is_looked_at_like_any_other_url(host: FakeServer) -> None:
    location = {"location": "http://localhost/inner"}
    host.behave = Behaviour("raw", status=302, headers=location)
    assert "host is not public" in why(message(f"{host.url}/a.png"), ImageLimits(hosts=here(host)))
    assert [r.path for r in host.received] == ["/a.png"]


@pytest.mark.parametrize(
    ("behaviour", "reason", "seconds"),
    [
        (Behaviour("raw", raw=b"<html>", content_type="image/png"), "not a PNG", 30),
        (Behaviour("raw", raw=PNG + b"x" * 2000), "larger than 1000 bytes", 30),
        (Behaviour("raw", status=404), "answered 404", 30),
        (Behaviour("hang"), "more than 0.3 s", 0.3),
        (Behaviour("reset"), "Error", 30),
    ],
    ids=["no image", "too large", "absent", "silent", "reset"],
)
def test_what_can_not_be_had_is_one_typed_error(
    host: FakeServer, behaviour: Behaviour, reason: str, seconds: float
) -> None:
    host.behave = behaviour
    assert reason in why(message(f"{host.url}/a.png"), ImageLimits(max_bytes=1000, seconds=seconds, hosts=here(host)))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/a", "gopher://x/", "http://", "//x/y", "x"])
def test_only_http_is_fetched(url: str) -> None:
    assert why(message(url), ImageLimits()) == (
        "The image of 'messages.0.content.1.image_url' can't be fetched: its URL is not a http or https URL."
    )
