"""A provider behind the hop: failures as data, and what a vendor says of our own account stays here."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from deployments.config.application import parse
from deployments.errors import failed
from deployments.providers.base import Call, Completed, End, Frames, call_dict
from deployments.providers.caching.automatic import WithMarks
from deployments.providers.http.timing import note_sent
from deployments.providers.kinds import KINDS
from deployments.providers.renaming.tool_names import WithToolNames
from deployments.providers.time_limits import TimeLimits
from deployments.replica import ProviderReplica, build_provider
from deployments.rpc.admission import Capacity
from deployments.rpc.port import usage_in

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
SECRET = "Consumer 'api_key:AIza-secret' of account 123456789012 is suspended"


class Failing:
    def __init__(self, error: Exception, *, sent: bool = False):
        self.error, self.sent = error, sent

    async def complete(self, call: Call) -> Completed:
        if self.sent:
            note_sent()
        raise self.error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        await self.complete(call)
        yield

    async def close(self) -> None:
        pass


def outcomes(error: Exception, *, sent: bool = False) -> list[dict]:
    replica = ProviderReplica("x", {}, left_out="test")
    replica._provider = Failing(error, sent=sent)
    call = call_dict({"messages": []}, "m", "row", TimeLimits())

    async def main() -> list[dict]:
        return [await replica.complete(call), *[item async for item in replica.stream(call)]]

    return [item["outcome"] for item in asyncio.run(main())]


@pytest.mark.parametrize("kind", ["credential", "quota", "model_missing"])
def test_a_vendors_words_about_our_account_go_no_further(kind: str) -> None:
    for outcome in outcomes(failed(kind, SECRET, status=403, code="SUSPENDED")):
        assert "AIza" not in str(outcome)
        assert (outcome["kind"], outcome["status"], outcome["code"]) == (kind, 403, "SUSPENDED")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "Quota exceeded for quota metric 'Requests' of service 'x.googleapis.com' for consumer "
            "'project_number:9876543210'.",
            "Quota exceeded for quota metric 'Requests' of service 'x.googleapis.com' for consumer "
            "'project_number:(hidden)'.",
        ),
        (
            "Publisher Model `projects/acme-prod/locations/us-central1/publishers/google/models/gemini-x` is busy",
            "Publisher Model `projects/(hidden)/locations/us-central1/publishers/google/models/gemini-x` is busy",
        ),
        (
            "Rate limit reached for gpt-4.1 in organization org-Ab12Cd34Ef56 on tokens per min (TPM): Limit 30000",
            "Rate limit reached for gpt-4.1 in organization (hidden) on tokens per min (TPM): Limit 30000",
        ),
        ("see https://x.example/overview?project=123456789012", "see https://x.example/overview?project=(hidden)"),
        ("messages: the project has 12 files under projects/", "messages: the project has 12 files under projects/"),
    ],
)
def test_no_words_of_a_vendor_name_our_project_or_organization(message: str, shown: str) -> None:
    for kind, status in (("throttled", 429), ("rejected", 400)):
        assert [outcome["message"] for outcome in outcomes(failed(kind, message, status=status))] == [shown, shown]


def test_an_error_that_no_row_knows_is_unclassified_and_no_exception() -> None:
    for outcome in outcomes(ZeroDivisionError("x"), sent=True):
        assert outcome["kind"] == "unclassified"


def unclassified_by(cause: Exception) -> Exception:
    """What an adapter makes of an error that its table does not know."""
    error = failed("unclassified")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("made", [lambda cause: cause, unclassified_by])
@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("invalid"), KeyError("role"), UnicodeEncodeError("x", "", 0, 1, ""), AttributeError("get")),
        *(
            ZeroDivisionError("x"),
            AssertionError(),
            UnboundLocalError("y"),
            RuntimeError("changed size"),
            RecursionError(),
        ),
    ],
)
def test_what_our_code_raises_before_anything_was_sent_is_our_bug_and_its_text_stays_in_the_log(
    made: Callable[[Exception], Exception], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    for outcome in outcomes(made(error)):
        assert (outcome["kind"], outcome["status"]) == ("internal_error", None)
        assert outcome["message"].endswith(f"({type(error).__name__})")
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    for outcome in outcomes(made(error), sent=True):
        assert outcome["kind"] == "unclassified"


@pytest.mark.parametrize("error", [OSError("no file"), MemoryError(), failed("connect"), failed("timeout")])
def test_what_no_code_of_ours_raises_is_no_bug_and_no_requests_fault(error: Exception) -> None:
    assert not {outcome["kind"] for outcome in outcomes(error)} & {"unsupported", "bad_request", "internal_error"}


def test_a_handle_call_waits_or_is_refused_where_calls_over_lanes_fill_the_replica() -> None:
    replica = ProviderReplica("x", {}, left_out="test", capacity=lambda: Capacity("replica", calls=1, queue=1))
    replica._provider = Failing(OSError("its turn came"))
    call = call_dict({"messages": []}, "m", "row", TimeLimits())

    async def main() -> None:
        admission = replica._connections.admission
        await admission.acquire()
        waiting = asyncio.create_task(replica.complete(call))
        await asyncio.sleep(0)
        assert (admission.running, admission.waiting, admission.handle_calls) == (1, 1, 1)
        refused = [await replica.complete(call), *[item async for item in replica.stream(call)]]
        assert [item["outcome"]["kind"] for item in refused] == ["busy", "busy"]
        admission.release()
        assert "its turn came" in (await waiting)["outcome"]["message"]
        assert (admission.running, admission.waiting, admission.handle_calls) == (0, 0, 0)

    asyncio.run(main())


TOLD = {"prompt_tokens": 7, "completion_tokens": 1}


class Tells(Failing):
    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        for tokens in (1, 1, 2):
            yield Frames(b"data: {}\n\n", content=True, told={**TOLD, "completion_tokens": tokens})
        yield End({**TOLD, "completion_tokens": 3})


@pytest.mark.parametrize(("every", "told"), [(0.0, [1, 2]), (60.0, [1])])
def test_what_a_provider_tells_of_its_usage_goes_before_its_frames_and_seldom(
    monkeypatch: pytest.MonkeyPatch, every: float, told: list[int]
) -> None:
    monkeypatch.setattr("deployments.rpc.telling.USAGE_SECONDS", every)
    replica = ProviderReplica("x", {}, left_out="test")
    replica._provider = Tells(failed("broken", "x"))

    async def main(**more: Any) -> list[Any]:
        call = call_dict({"messages": []}, "m", "row", TimeLimits()) | more
        return [item async for item in replica.stream(call)]

    *items, last = asyncio.run(main(hears_usage=True))
    assert items[0] == {"told": TOLD}
    assert [usage_in(item)["completion_tokens"] for item in items if not isinstance(item, bytes)] == told
    assert usage_in(last) is None
    *items, last = asyncio.run(main())
    assert all(isinstance(item, bytes) for item in items), "an older ingress takes it for the end"


def test_the_usage_that_a_provider_had_told_is_said_with_the_failure_of_its_stream() -> None:
    class Breaks(Failing):
        async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
            yield Frames(b"data: {}\n\n", content=True, told={"prompt_tokens": 7})
            yield Frames(b"data: {}\n\n", content=True)
            raise self.error

    replica = ProviderReplica("x", {}, left_out="test")
    replica._provider = Breaks(failed("broken", "x"))

    async def main() -> dict:
        call = call_dict({"messages": []}, "m", "row", TimeLimits())
        return [item async for item in replica.stream(call)][-1]

    last = asyncio.run(main())
    assert (last["outcome"]["kind"], last["told"]) == ("broken", {"prompt_tokens": 7})


def test_marks_are_set_only_where_the_configuration_says_so() -> None:
    async def of(**more: str) -> bool:
        settings = {"kind": "anthropic", **more}
        provider = build_provider(parse({"providers": {"p": settings}, "models": {"default": {"p": "m"}}}), "p")
        await provider.close()
        assert isinstance(provider, WithToolNames)
        return isinstance(provider._inner, WithMarks)

    assert not asyncio.run(of())
    assert asyncio.run(of(cache="auto"))
    arns = {"ours": {"arn": ARN, "model": "anthropic.claude-haiku-4-5-20251001-v1:0"}, "theirs": {"arn": ARN}}
    bedrock = {"kind": "bedrock", "cache": "auto", "arns": arns}
    named = parse({"providers": {"p": bedrock}, "models": {"default": {"p": "ours"}}}).providers["p"]
    assert [KINDS["bedrock"].marks(named.base_model(name)) for name in ("ours", "theirs")] == [2, 0]
    for kind in ("bedrock", "openai"):
        made = parse({"providers": {"p": {"kind": kind, "cache": "auto"}}, "models": {"default": {"p": "m"}}})
        assert getattr(made.providers["p"], "cache", None) == "auto"
