"""Each source of a credential: the check names it, a call goes with it, and the vendor's own SDK sends the same."""

import asyncio
import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.config.application import Config, parse
from deployments.config.check import report_on
from deployments.config.resolved import resolve
from deployments.providers.base import Call, Completed, complete_within
from deployments.replica import build_provider
from tests.credentials.cases import CASES, REGION, Around, Case, table
from tests.credentials.oracles import ORACLES
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.identity.server import IdentityServer, identity_server
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer, Received
from tests.fakes.tls import trusted
from tests.fakes.vendors import Refusal
from tests.providers.conftest import LIMITS

ROOT = pathlib.Path(__file__).parents[2]
WIRES: dict[str, Any] = {"bedrock": BedrockWire, "openai": OpenAIWire, "google": GeminiWire, "anthropic": AnthropicWire}


@pytest.fixture(autouse=True)
def environment(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)


class Stage:
    """The servers around a case, and the case's configuration."""

    def __init__(self, case: Case, identity: IdentityServer | None, api: FakeServer, around: Around):
        self.case, self.identity, self.api, self.around = case, identity, api, around
        # As the vendors' SDKs are asked beside it: for a whole answer.
        self.settings = {"kind": case.kind, "whole_as_stream": "never", **(case.around(around) or {})}
        if case.kind == "bedrock":
            self.settings["endpoint_url"] = api.url
        self.args = {"providers": {"p": self.settings}, "models": {"default": {"p": case.model}}}

    @property
    def config(self) -> Config:
        return parse(self.args)

    def ask(self, times: int = 1) -> Completed:
        async def main() -> Completed:
            provider: Any = build_provider(self.config, "p")
            call = Call({"messages": [{"role": "user", "content": "Hi"}]}, self.case.model, "row", LIMITS)
            try:
                for _ in range(times):
                    done = await complete_within(provider, call)
                return done
            finally:
                await provider.close()

        return asyncio.run(main())


@contextlib.contextmanager
def staged(case: Case, folder: pathlib.Path, patch: pytest.MonkeyPatch, life: float = 3600) -> Iterator[Stage]:
    authority = folder / "authority.pem"
    tls = trusted(authority)
    patch.setenv("SSL_CERT_FILE", str(authority))
    with contextlib.ExitStack() as stack:
        identity = None
        if case.vendor is not None:
            options = {"tls": tls} if "identity" in case.tls else {}
            identity = stack.enter_context(identity_server(case.vendor, life=life, **options))
        api = FakeServer(WIRES[case.kind](), tls=tls if "api" in case.tls else None)
        stack.callback(api.stop)
        api.rules = (case.door,)
        around = Around("" if identity is None else identity.url, api.url, folder, authority, patch.setenv)
        yield Stage(case, identity, api, around)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def stage(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(request.param, tmp_path, monkeypatch) as made:
        yield made


NAMES = (
    "authorization",
    "api-key",
    "x-api-key",
    "anthropic-version",
    "x-goog-api-key",
    "x-amz-security-token",
    "x-goog-user-project",
)


def sent(received: Received) -> tuple[str, dict[str, str]]:
    """Where a request went and by which headers it was allowed, without what differs from one to the next."""
    headers = {name: received.headers[name] for name in NAMES if name in received.headers}
    masked = {name: re.sub(r"(Signature=|-)\w+$|(?<=KEY-)\d+", r"\1", value) for name, value in headers.items()}
    # We say before the signature, and boto3 after it, that the answer must not be compressed.
    masked = {name: value.replace("accept-encoding;", "") for name, value in masked.items()}
    return received.path, masked


def test_a_call_goes_with_the_credential_and_the_check_names_it(stage: Stage) -> None:
    assert resolve(stage.config).left_out() == {}
    report = report_on("c.yaml", {"applications": [application(stage.args)], "http_options": {"host": "127.0.0.1"}})
    assert f"1. p ({stage.case.kind}): ready, by {stage.case.words}\n" in report
    done = stage.ask(times=10)
    assert b"Paris" in done.body
    assert stage.api.refused == []
    if stage.identity is not None:
        assert stage.identity.refused == []
        assert stage.identity.told <= 4, "each call has asked for a credential of its own"


def application(args: Any) -> dict[str, Any]:
    return {"name": "llm", "import_path": "deployments.app:build_app", "args": args}


def test_the_vendors_own_sdk_sends_the_same(stage: Stage) -> None:
    if stage.case.oracle is None:
        pytest.skip("no SDK is asked for this case")
    stage.ask()
    ORACLES[stage.case.oracle](stage.settings, stage.around, stage.case.model)
    assert stage.api.refused == []
    ours, theirs = stage.api.received
    assert sent(ours) == sent(theirs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_door_refuses_who_has_no_credential(case: Case, tmp_path: pathlib.Path) -> None:
    nobody = Received("POST", "/", {"host": "127.0.0.1"}, {})
    assert isinstance(case.door(nobody), Refusal)


def test_the_table_of_the_page_is_the_one_that_the_tests_print() -> None:
    assert table() in (ROOT / "docs" / "credentials.md").read_text()
