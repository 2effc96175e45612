"""Which trace a request belongs to: W3C's headers, and who decides whether it is recorded."""

from typing import Any

import pytest

from deployments.telemetry.trace_context import (
    LONGEST_STATE,
    Sampler,
    SpanContext,
    new_context,
    parse_context,
    sampler_of,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
ALWAYS = Sampler()


def test_a_callers_trace_goes_on_under_its_own_span() -> None:
    context = new_context({"traceparent": PARENT, "tracestate": "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}, ALWAYS)
    assert (f"{context.trace_id:032x}", f"{context.parent_id:016x}", context.remote) == (TRACE, SPAN, True)
    assert context.sampled
    assert context.span_id not in (0, context.parent_id)
    told = context.headers()
    assert told == {"traceparent": f"00-{TRACE}-{context.span_id:016x}-01", "tracestate": context.state}
    assert parse_context(told) == SpanContext(
        context.trace_id, context.span_id, state="congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    )


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        5,
        "garbage",
        PARENT.upper(),
        f" {PARENT}",
        f"{PARENT}-more",
        f"{PARENT}\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN[:-1]}\u0663-01",
        "00-" + "a" * 100_000,
    ],
)
def test_headers_that_tell_of_no_trace_begin_one(parent: Any) -> None:
    context = new_context({"traceparent": parent, "tracestate": "a=b"}, ALWAYS)
    assert context.parent_id is None
    assert not context.remote
    assert context.trace_id
    assert "tracestate" not in context.headers()


@pytest.mark.parametrize("headers", [None, [], "x", 7, {}, {"traceparent": {}}])
def test_what_is_no_headers_at_all_fails_nobody(headers: Any) -> None:
    assert new_context(headers, ALWAYS).parent_id is None


def test_a_later_version_may_say_more() -> None:
    assert parse_context({"traceparent": f"01-{TRACE}-{SPAN}-03-what-comes-later"}) == parse_context(
        {"traceparent": PARENT}
    )


@pytest.mark.parametrize("state", ["x" * (LONGEST_STATE + 1), "a=b\r\nevil: yes", "a=é", 5, None])
def test_a_state_that_can_not_go_on_is_left_behind(state: Any) -> None:
    context = new_context({"traceparent": PARENT, "tracestate": state}, ALWAYS)
    assert context.parent_id is not None
    assert "tracestate" not in context.headers()


def test_the_spans_of_attempts_are_numbered_from_their_requests() -> None:
    context = new_context({}, ALWAYS)
    first, second = context.child(1), context.child(2)
    assert first.parent_id == second.parent_id == context.span_id
    assert len({context.span_id, first.span_id, second.span_id}) == 3
    assert {p.trace_id for p in (context, first, second)} == {context.trace_id}
    assert max(new_context({}, ALWAYS).child(1000).span_id for _ in range(1000)) < 2**64


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "", Sampler(1, parent_based=True)),
        ("parentbased_always_on", "", Sampler(1, parent_based=True)),
        ("always_on", "", Sampler(1, parent_based=False)),
        ("always_off", "", Sampler(0, parent_based=False)),
        ("parentbased_always_off", "", Sampler(0, parent_based=True)),
        ("traceidratio", "0.25", Sampler(0.25, parent_based=False)),
        ("ParentBased_TraceIdRatio", "0.25", Sampler(0.25, parent_based=True)),
        ("traceidratio", "2", Sampler(1, parent_based=False)),
        ("traceidratio", "nan", Sampler(1, parent_based=False)),
        ("traceidratio", "", Sampler(1, parent_based=False)),
        ("jaeger_remote", "", Sampler(1, parent_based=True)),
    ],
)
def test_the_sampler_is_what_opentelemetrys_variables_say(name: str, argument: str, expected: Sampler) -> None:
    assert sampler_of({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}) == expected
    assert sampler_of({}) == ALWAYS


def test_a_ratio_chooses_the_traces_that_every_other_sdk_would_choose() -> None:
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    theirs, ours = TraceIdRatioBased(0.1), Sampler(0.1)
    ids = [new_context({}, ALWAYS).trace_id for _ in range(2000)]
    chosen = [ours(trace_id, None) for trace_id in ids]
    assert chosen == [theirs.should_sample(None, i, "x").decision is Decision.RECORD_AND_SAMPLE for i in ids]
    assert 100 < sum(chosen) < 320


def test_whoever_began_the_trace_has_decided_for_all_who_follow() -> None:
    unsampled = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    assert not new_context(unsampled, Sampler(1, parent_based=True)).sampled
    assert new_context({"traceparent": PARENT}, Sampler(0, parent_based=True)).sampled
    assert new_context(unsampled, Sampler(1, parent_based=False)).sampled
    assert not new_context({"traceparent": PARENT}, Sampler(0, parent_based=False)).sampled
    assert new_context(unsampled, ALWAYS).child(1).headers()["traceparent"].endswith("-00")
