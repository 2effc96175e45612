"""Headers that Serve decodes itself: what it can't decode is a 400 in OpenAI's form, and never gets to it."""

import inspect
import json
from typing import Any

import pytest
from ray.serve._private import http_util, replica

from deployments.ingress.server.utf8_headers import HIDDEN, READ_BY_SERVE, Utf8Headers, middlewares
from tests.clock import run_virtually

NAMES = sorted(name.replace(b"_", b"-") for name in READ_BY_SERVE)


def ask(*headers: tuple[bytes, bytes]) -> tuple[bool, list[Any]]:
    """Return whether a request got to Serve, and what was sent back."""
    reached: list[Any] = []
    sent: list[Any] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await Utf8Headers(serve)({"type": "http", "headers": list(headers)}, None, send)  # type: ignore[arg-type]

    run_virtually(main())
    return bool(reached), sent


@pytest.mark.parametrize("name", [*NAMES, b"x_session_id"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xff", b"a\xc3", b"\xed\xa0\x80"])
def test_what_serve_could_not_decode_is_a_typed_400(name: bytes, value: bytes) -> None:
    reached, (start, body) = ask((b"host", b"localhost"), (name, value))
    assert not reached
    assert start["status"] == 400
    assert (b"content-type", b"application/json") in start["headers"]
    error = json.loads(body["body"])["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_value", name.decode())


@pytest.mark.parametrize(
    "header",
    [
        (b"x-request-id", b"mine"),
        (b"x-request-id", "m\u00fcller".encode()),
        (b"x-agent-id", b"m\xfcller"),  # nobody but us reads it, as Latin-1
        (b"authorization", b"Bearer \xff"),
    ],
)
def test_what_serve_can_decode_or_does_not_read_passes(header: tuple[bytes, bytes]) -> None:
    assert ask(header) == (True, [])


def test_serve_does_not_see_the_callers_deadline_and_we_do() -> None:
    """It would answer with a text of its own where the deadline is over before our answer is there."""
    reached: list[Any] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def main() -> None:
        headers = [(b"x-request-timeout-seconds", b"5e-324"), (b"host", b"a"), (b"x-request-timeout-seconds", b"9")]
        await Utf8Headers(serve)({"type": "http", "headers": headers}, None, None)  # type: ignore[arg-type]

    run_virtually(main())
    [scope] = reached
    assert (scope["headers"], scope[HIDDEN]) == ([(b"host", b"a")], "5e-324")


def test_serve_still_reads_these_and_no_other_and_takes_what_we_put_around_it() -> None:
    """What a new version of Ray decodes belongs into the list."""
    source = inspect.getsource(replica) + inspect.getsource(http_util)
    direct = inspect.getsource(replica).partition("async def _direct_ingress_asgi")[2].partition("_can_accept")[0]
    assert direct.count("decode(") == 3, "x-request-id, and the name and value of the multiplexed model"
    readers = ("def get_asgi_tracing_context", "def parse_request_timeout_header", "def parse_disconnect_disabled")
    assert all(reader in source for reader in (*readers, "def parse_session_id_header"))
    [around] = http_util.validate_http_proxy_callback_return(middlewares())
    assert around.cls is Utf8Headers
