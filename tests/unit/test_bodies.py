"""Bodies and paths as clients send them: compressed, as bombs, broken, and with slashes too many."""

import asyncio
import gzip
import json
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import httpx2
import pytest

from deployments.aio import turns
from deployments.ingress.body.bodies import MAX_BODY
from deployments.ingress.body.encodings import ENCODINGS
from tests.clock import run_virtually
from tests.unit.test_http_api import client
from tests.unit.world import ARGS, REQUEST

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHAT = "/v1/chat/completions"
BODY = json.dumps(REQUEST).encode()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def post(body: bytes, encoding: str | None, path: str = CHAT) -> httpx2.Response:
    async def main() -> httpx2.Response:
        async with client() as (http, _):
            headers = {"content-encoding": encoding} if encoding is not None else {}
            return await http.post(path, content=body, headers=headers)

    return run_virtually(main())


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstd.compress),
    ("identity", bytes),
    ("identity, gzip, ", gzip.compress),
    ("gzip, zstd", lambda data: zstd.compress(gzip.compress(data))),
    ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    ("zstd", lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:])),
]


@pytest.mark.parametrize(("encoding", "pack"), PACKED, ids=[f"{at}-{name}" for at, (name, _) in enumerate(PACKED)])
def test_a_compressed_body_is_read(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    for body in (BODY, b" " * 3_000_000 + BODY):  # more than one slice of output
        response = post(pack(body), encoding)
        assert (response.status_code, response.json().get("error")) == (200, None)


def test_what_hardly_shrinks_is_read_too() -> None:
    content = "".join(chr(0x4E00 + (n * n) % 20_000) for n in range(300_000))  # more than one slice of input
    body = json.dumps({**REQUEST, "messages": [{"role": "user", "content": content}]}).encode()
    assert len(gzip.compress(body)) > 200_000
    assert post(gzip.compress(body), "gzip").status_code == 200


@pytest.mark.parametrize(
    ("encoding", "name"), [("br", "br"), ("gzip, br", "br"), ("compress", "compress"), ("x" * 999, "xxx")]
)
def test_another_encoding_is_refused_by_its_name(encoding: str, name: str) -> None:
    response = post(BODY, encoding)
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == ENCODINGS
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("unsupported_content_encoding", "invalid_request_error")
    assert f"'{name}" in error["message"]
    assert len(error["message"]) < 200


def test_encodings_without_end_are_refused() -> None:
    assert post(BODY, ", ".join(["gzip"] * 5)).status_code == 415


@pytest.mark.parametrize(
    ("encoding", "broken"),
    [
        ("gzip", BODY),
        # These bytes are in the names of the tests, which must be the same for all workers: no time of day in them.
        ("gzip", gzip.compress(BODY, mtime=0)[:-9]),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more"),
        ("gzip", b""),
        ("deflate", zlib.compress(BODY)[:-3]),
        ("zstd", BODY),
        ("zstd", zstd.compress(BODY)[:-3]),
        ("zstd", zstd.compress(BODY, options={zstd.CompressionParameter.checksum_flag: 1})[:-1] + b"?"),
        ("gzip, zstd", gzip.compress(BODY, mtime=0)),
    ],
)
def test_a_broken_body_is_called_broken_and_not_bad_json(encoding: str, broken: bytes) -> None:
    response = post(broken, encoding)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_encoding"
    assert encoding.rpartition(", ")[2] in response.json()["error"]["message"]


def zeros(size: int, encoding: str) -> bytes:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}[encoding]
    return pack(bytes(size))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_refused_at_the_limit_and_never_inflated_as_a_whole(encoding: str) -> None:
    bomb = zeros(400 * 1024 * 1024, encoding)
    assert len(bomb) < 1024 * 1024
    tracemalloc.start()
    response = post(bomb, encoding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert peak < 2.5 * MAX_BODY


def test_a_bomb_inside_a_bomb_is_refused_too() -> None:
    assert post(gzip.compress(zeros(400 * 1024 * 1024, "gzip")), "gzip, gzip").status_code == 413


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    packer = zstd.ZstdCompressor(options=options)  # of unknown size, so the frame asks for its whole window
    response = post(packer.compress(BODY) + packer.flush(), "zstd")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_encoding")


def test_other_requests_get_their_turn_while_a_large_body_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(b" " * (MAX_BODY - len(BODY)) + BODY)

    async def main() -> int:
        async with client() as (http, _):
            asked = asyncio.create_task(http.post(CHAT, content=packed, headers={"content-encoding": "gzip"}))
            turns = 0
            while not asked.done():
                turns += 1
                await asyncio.sleep(0)
            assert asked.result().status_code == 200
            return turns

    monkeypatch.setattr(turns, "AT_FULL_SPEED", 10**9)
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)  # each slice is a turn: how many they are is no matter of speed
    assert run_virtually(main()) > MAX_BODY / (256 * 1024)


# Paths.


@pytest.mark.parametrize("path", [f"/{CHAT}", "/v1//chat/completions", f"{CHAT}/", "//v1///chat//completions//"])
def test_a_slash_too_many_changes_nothing(path: str) -> None:
    assert post(BODY, None, f"http://localhost{path}").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["//v1/models", "/v1/models/", "/v1/models/default/", "//v1//health/", "/livez/", "//", "/v1/providers/aws/"],
)
def test_every_route_may_be_called_so(path: str) -> None:
    async def main() -> None:
        async with client() as (http, _):
            response = await http.get(f"http://localhost{path}")
            assert response.status_code == 200

    run_virtually(main())


def test_a_path_that_is_none_stays_none() -> None:
    assert post(BODY, None, "http://localhost/v1//chat/complete/").status_code == 404


# Browsers.

PAGE = "https://chat.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os,x-tenant-id",
}


def with_origins(*origins: str) -> dict[str, object]:
    return {**ARGS, "cors": {"origins": [*origins]}}


@pytest.mark.parametrize(("origin", "allowed"), [(PAGE, PAGE), ("*", "*")])
def test_a_page_of_a_named_origin_may_ask_and_read(origin: str, allowed: str) -> None:
    async def main() -> None:
        async with client(with_origins(origin)) as (http, _):
            preflight = await http.options(CHAT, headers=PREFLIGHT)
            assert preflight.status_code in (200, 204)
            assert preflight.headers["access-control-allow-origin"] == allowed
            assert "POST" in preflight.headers["access-control-allow-methods"]
            assert preflight.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
            assert int(preflight.headers["access-control-max-age"]) > 0
            for body in (REQUEST, {**REQUEST, "stream": True}, {"model": "default"}):
                answer = await http.post(CHAT, json=body, headers={"origin": PAGE})
                assert answer.headers["access-control-allow-origin"] == allowed
                assert "x-breakwater-provider" in answer.headers["access-control-expose-headers"]
                assert "access-control-allow-credentials" not in answer.headers
                if allowed != "*":
                    assert "Origin" in answer.headers["vary"]
            assert (await http.get("/v1/nowhere", headers={"origin": PAGE})).headers["access-control-allow-origin"]

    run_virtually(main())


def test_a_page_of_another_origin_may_not() -> None:
    async def main() -> None:
        async with client(with_origins("https://other.example")) as (http, _):
            preflight = await http.options(CHAT, headers=PREFLIGHT)
            assert "access-control-allow-origin" not in preflight.headers
            answer = await http.post(CHAT, json=REQUEST, headers={"origin": PAGE})
            assert "access-control-allow-origin" not in answer.headers

    run_virtually(main())


def test_without_the_setting_there_is_no_header_for_browsers() -> None:
    async def main() -> None:
        async with client() as (http, _):
            for answer in (
                await http.options(CHAT, headers=PREFLIGHT),
                await http.post(CHAT, json=REQUEST, headers={"origin": PAGE}),
            ):
                assert not [name for name in answer.headers if name.startswith("access-control")]

    run_virtually(main())
