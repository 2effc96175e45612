"""Requests to Bedrock are boto3's: its path, its signature, its credentials and their renewal. Real sockets."""

import asyncio
import contextlib
import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from msgspec import structs

from deployments.providers.base import Provider, complete_within
from deployments.providers.bedrock.endpoint import MOST_KEPT
from deployments.providers.http.request_body import SLICE
from tests.fakes.bedrock_wire import BedrockWire, event
from tests.fakes.server import FakeServer, Received
from tests.providers.conftest import LIMITS, Bench, cloud

ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3:0"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = cloud("bedrock")
    yield made
    assert made.fake is not None
    made.fake.stop()


def asked(bench: Bench) -> list[Received]:
    assert bench.fake is not None
    return bench.fake.received


def signature_of(bench: Bench, received: Received) -> str:
    """The signature that AWS would compute for what arrived."""
    assert bench.fake is not None
    return signature_at(bench.fake, received)


def signature_at(fake: FakeServer, received: Received) -> str:
    named = received.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = {name: received.headers[name] for name in named if name != "host"}
    assert received.headers["host"] == fake.url.removeprefix("http://")
    request = AWSRequest("POST", f"{fake.url}{received.path}", headers, received.raw)
    request.context["timestamp"] = received.headers["x-amz-date"]
    auth = SigV4Auth(Credentials("AKIAFAKE", "secret"), "bedrock", "us-east-1")
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


@pytest.mark.parametrize("model", ["anthropic.claude-3:0", ARN])
def test_every_request_goes_to_its_models_path_with_a_signature_of_its_own(bench: Bench, model: str) -> None:
    async def work(provider: Provider) -> None:
        for text in ("One", "Zwei «ö»"):
            call = bench.call(messages=[{"role": "user", "content": text}])
            await complete_within(provider, call.__class__(call.body, model, "row", LIMITS))

    bench.run(work)
    for received in asked(bench):
        assert received.path == f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse"
        assert received.headers["authorization"].endswith(f"Signature={signature_of(bench, received)}")
        assert received.headers["user-agent"].startswith("Boto3/")
    assert len({received.headers["authorization"] for received in asked(bench)}) == 2


def test_a_long_request_is_signed_as_any_other(bench: Bench) -> None:
    async def work(provider: Provider) -> None:
        call = bench.call(messages=[{"role": "user", "content": "a line\n" * 100_000}])
        await complete_within(provider, structs.replace(call, is_long=True))

    bench.run(work)
    [received] = asked(bench)
    assert len(received.raw) > 10 * SLICE
    assert received.headers["authorization"].endswith(f"Signature={signature_of(bench, received)}")


def test_a_bearer_token_of_the_environment_is_who_asks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.providers.bedrock import endpoint as bedrock_endpoint

    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "a-token")
    requests = bedrock_endpoint.SignedRequests(region="us-east-1", endpoint_url="https://127.0.0.1:1")
    _, headers = asyncio.run(requests.signed("converse", "m", b"{}"))
    asyncio.run(requests.close())
    assert headers["Authorization"] == "Bearer a-token"


def test_without_credentials_a_call_is_our_own_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert bench.failure().kind == "credential"
    assert asked(bench) == []


def test_so_many_models_are_remembered_and_no_more(bench: Bench) -> None:
    async def work(provider: Any) -> None:
        place = provider._requests._find_endpoint("converse", "m")
        known = provider._requests._known
        for n in range(MOST_KEPT):
            known["converse", str(n)] = place
        await complete_within(provider, bench.call())
        assert len(known) == MOST_KEPT
        assert ("converse", "0") not in known

    bench.run(work)


@contextlib.contextmanager
def vault(*, valid: float) -> Iterator[tuple[str, list[str]]]:
    """A server of credentials for so many seconds, each time new; the URL, and the keys that it gave."""
    given: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.append(f"KEY{len(given)}")
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=valid)
            said = {"AccessKeyId": given[-1], "SecretAccessKey": "s", "Token": "t", "Expiration": until.isoformat()}
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/credentials", given
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def of_a_container(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return lambda url: monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)


def keys(bench: Bench) -> list[str]:
    return [r.headers["authorization"].split("Credential=")[1].split("/")[0] for r in asked(bench)]


def two_calls(bench: Bench) -> None:
    async def work(provider: Provider) -> None:
        for _ in range(2):
            await complete_within(provider, bench.call())

    bench.run(work)


def test_credentials_that_last_are_asked_for_once(bench: Bench, of_a_container: Any) -> None:
    with vault(valid=3600) as (url, given):
        of_a_container(url)
        two_calls(bench)
    assert keys(bench) == ["KEY0", "KEY0"]
    assert given == ["KEY0"]


@pytest.mark.parametrize("minutes", [10, 14])
def test_credentials_that_live_shortly_are_not_renewed_by_each_call(
    bench: Bench, of_a_container: Any, minutes: int
) -> None:
    """botocore would: they are always within the last 15 minutes, which it calls advisory."""
    with vault(valid=minutes * 60) as (url, given):
        of_a_container(url)
        two_calls(bench)
    assert keys(bench) == ["KEY0", "KEY0"]
    assert given == ["KEY0"]


def test_the_key_of_the_environment_is_read_anew_by_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.providers.bedrock import endpoint as bedrock_endpoint

    requests = bedrock_endpoint.SignedRequests(region="us-east-1", endpoint_url="https://127.0.0.1:1")

    async def authorizations() -> list[str]:
        found = []
        for key in ("first", "second", ""):
            monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
            _, headers = await requests.signed("converse", "m", b"{}")
            found.append(headers["Authorization"])
        await requests.close()
        return found

    first, second, signed = asyncio.run(authorizations())
    assert (first, second) == ("Bearer first", "Bearer second")
    assert signed.startswith("AWS4-HMAC-SHA256 Credential=AKIAFAKE/")


def test_an_event_of_tomorrow_is_passed_over(bench: Bench) -> None:
    class Tomorrow(BedrockWire):
        def frames(self, words: Any) -> list[bytes]:
            first, *rest = super().frames(words)
            return [first, event("somethingNew", {"x": 1}), *rest]

    assert bench.fake is not None
    bench.fake.vendor = Tomorrow()
    bench.stream()
    assert b"Paris" in b"".join(bench.frames)


@pytest.mark.parametrize(
    "spoiled",
    [
        event("contentBlockDelta", {}),
        event("contentBlockDelta", {"delta": 5}),
        event("messageStop", {}),
        event("metadata", {"usage": "much"}),
    ],
)
def test_an_event_that_converse_never_sends_is_malformed(bench: Bench, spoiled: bytes) -> None:
    class Spoiled(BedrockWire):
        def frames(self, words: Any) -> list[bytes]:
            return [*super().frames(words)[:3], spoiled]

    assert bench.fake is not None
    bench.fake.vendor = Spoiled()
    outcome = bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("malformed", True)
