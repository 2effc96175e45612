"""The connection of a request that was answered before its body was read: closed, unless the body is small."""

import asyncio
from typing import Any

import pytest

from deployments.ingress.body.unread_bodies import SMALL
from deployments.ingress.http import build_http_api
from tests.clock import run_virtually
from tests.unit.world import ARGS, world

LARGE = (b"content-length", str(SMALL + 1).encode())
CHUNKED = (b"transfer-encoding", b"chunked")
JSON = (b"content-type", b"application/json")
CHAT = "/v1/chat/completions"


def ask(method: str, path: str, *headers: tuple[bytes, bytes], parts: tuple[bytes, ...] = ()) -> tuple[int, bool, int]:
    """Return the status, whether the connection is closed, and how many parts of the body were read."""
    sent: list[Any] = []
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

    async def receive() -> Any:
        if left:
            return left.pop(0)
        if parts:
            return {"type": "http.request", "body": b"", "more_body": False}
        return await asyncio.Event().wait()  # a client that sends nothing more

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        whole = {**scope, "headers": [(b"host", b"localhost"), *headers], "client": ("127.0.0.1", 1)}
        async with world(ARGS) as w:
            await build_http_api(w.service)(whole, receive, send)

    run_virtually(main())
    closes = (b"connection", b"close") in sent[0]["headers"]
    return sent[0]["status"], closes, len(parts) - len(left)


@pytest.mark.parametrize("body", [LARGE, CHUNKED], ids=["large", "chunked"])
@pytest.mark.parametrize(
    ("status", "method", "path", "header"),
    [
        (415, "POST", CHAT, (b"content-type", b"text/plain")),
        (415, "POST", "/v1/embeddings", (b"content-type", b"text/plain")),
        (415, "POST", CHAT, (b"content-encoding", b"br")),
        (403, "POST", CHAT, (b"origin", b"https://evil.example")),
        (400, "POST", CHAT, (b"x-request-timeout-seconds", b"soon")),
        (403, "PATCH", "/v1/breaker", JSON),
        (404, "POST", "/v1/nowhere", JSON),
        (405, "PUT", CHAT, JSON),
        (200, "GET", "/livez", JSON),
    ],
)
def test_an_answer_before_the_body_was_read_closes_the_connection(
    status: int, method: str, path: str, header: tuple[bytes, bytes], body: tuple[bytes, bytes]
) -> None:
    headers = [header] if header[0] == b"content-type" else [JSON, header]
    assert ask(method, path, *headers, body) == (status, True, 0)


def test_the_connection_of_a_small_body_is_kept() -> None:
    small = (b"content-length", str(SMALL).encode())
    assert ask("POST", CHAT, (b"content-type", b"text/plain"), small) == (415, False, 0)
    assert ask("GET", "/livez") == (200, False, 0)


@pytest.mark.parametrize("body", [LARGE, CHUNKED], ids=["large", "chunked"])
def test_the_connection_of_a_body_that_was_read_is_kept(body: tuple[bytes, bytes]) -> None:
    parts = (b'{"model": "default", "messages": [', b'{"role": "user", "content": "Hi"}]}')
    assert ask("POST", CHAT, JSON, body, parts=parts) == (200, False, 2)
    assert ask("POST", CHAT, JSON, body, parts=(b"{",)) == (400, False, 1)
