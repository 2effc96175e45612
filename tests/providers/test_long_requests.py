"""A long request is written and sent in pieces. It arrives whole, says its length, and goes again after a redirect."""

import asyncio
import json
from collections import deque
from typing import Any

import pytest
from msgspec import structs

from deployments.providers.base import complete_within
from deployments.providers.http import transport
from deployments.providers.http.request_body import Pieces
from tests.providers.conftest import CLOUDS, LIMITS, WIRES, Bench, provider_at

TEXT = "a line\n" * 1_000_000
PIXELS = "iVBORw0KGgo" + "A" * 3_000_001
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}}
CONTENT = [{"type": "text", "text": TEXT}, IMAGE]


class Server:
    """Answers each request with the next of the answers, and keeps what was sent."""

    def __init__(self, *answers: bytes):
        self.answers, self.heads, self.bodies = deque(answers), list[str](), list[bytes]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.answers:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            self.heads.append(head)
            self.bodies.append(await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0])))
            writer.write(self.answers.popleft())
        writer.close()
        await writer.wait_closed()

    async def asked(self, kind: str, **body: Any) -> None:
        serving = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
        provider = provider_at(kind, url, LIMITS.connect)
        try:
            call = structs.replace(Bench(kind, lambda: provider).call(**body), is_long=True)
            await complete_within(provider, call)
        finally:
            await provider.close()
            serving.close()


def answer(kind: str) -> bytes:
    body = WIRES[kind]().whole(["Paris"])
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("kind", CLOUDS)
def test_it_arrives_whole_and_no_step_of_ours_holds_all_of_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    posted, post = list[Any](), transport.Transport.post

    async def watched(self: Any, url: Any, headers: Any, body: Any, **more: Any) -> Any:
        posted.append(body)
        return await post(self, url, headers, body, **more)

    monkeypatch.setattr(transport.Transport, "post", watched)
    server = Server(answer(kind))
    asyncio.run(server.asked(kind, messages=[{"role": "user", "content": CONTENT}]))
    assert [type(body) for body in posted] == [Pieces]
    assert "transfer-encoding" not in server.heads[0]
    sent = json.dumps(json.loads(server.bodies[0]))
    assert (json.dumps(TEXT)[1:-1] in sent, PIXELS in sent) == (True, True)


def test_it_is_sent_again_where_the_server_redirects() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    server = Server(moved, answer("openai"))
    asyncio.run(server.asked("openai", messages=[{"role": "user", "content": TEXT}]))
    assert [head.split(" ")[1] for head in server.heads] == ["/v1/chat/completions", "/elsewhere"]
    first, second = server.bodies
    assert first == second
    assert json.loads(first)["messages"][0]["content"] == TEXT
