"""Which trace a request belongs to: W3C's headers, and who decides whether it is recorded."""

from typing import Any

import pytest

from deployments.telemetry.trace_context import LONGEST_STATE, Sampler, SpanContext, context_of, going_on, sampler_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
ALWAYS = Sampler()


def test_a_callers_trace_goes_on_under_its_own_span() -> None:
    place = context_of({"traceparent": PARENT, "tracestate": "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}, ALWAYS)
    assert (f"{place.trace_id:032x}", f"{place.parent_id:016x}", place.remote) == (TRACE, SPAN, True)
    assert place.sampled
    assert place.span_id not in (0, place.parent_id)
    told = place.headers()
    assert told == {"traceparent": f"00-{TRACE}-{place.span_id:016x}-01", "tracestate": place.state}
    assert going_on(told) == SpanContext(place.trace_id, place.span_id, state="congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")


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
    place = context_of({"traceparent": parent, "tracestate": "a=b"}, ALWAYS)
    assert place.parent_id is None
    assert not place.remote
    assert place.trace_id
    assert "tracestate" not in place.headers()


@pytest.mark.parametrize("headers", [None, [], "x", 7, {}, {"traceparent": {}}])
def test_what_is_no_headers_at_all_fails_nobody(headers: Any) -> None:
    assert context_of(headers, ALWAYS).parent_id is None


def test_a_later_version_may_say_more() -> None:
    assert going_on({"traceparent": f"01-{TRACE}-{SPAN}-03-what-comes-later"}) == going_on({"traceparent": PARENT})


@pytest.mark.parametrize("state", ["x" * (LONGEST_STATE + 1), "a=b\r\nevil: yes", "a=é", 5, None])
def test_a_state_that_can_not_go_on_is_left_behind(state: Any) -> None:
    place = context_of({"traceparent": PARENT, "tracestate": state}, ALWAYS)
    assert place.parent_id is not None
    assert "tracestate" not in place.headers()


def test_the_spans_of_attempts_are_numbered_from_their_requests() -> None:
    place = context_of({}, ALWAYS)
    first, second = place.below(1), place.below(2)
    assert first.parent_id == second.parent_id == place.span_id
    assert len({place.span_id, first.span_id, second.span_id}) == 3
    assert {p.trace_id for p in (place, first, second)} == {place.trace_id}
    assert max(context_of({}, ALWAYS).below(1000).span_id for _ in range(1000)) < 2**64


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "", Sampler(1, heeds_parent=True)),
        ("parentbased_always_on", "", Sampler(1, heeds_parent=True)),
        ("always_on", "", Sampler(1, heeds_parent=False)),
        ("always_off", "", Sampler(0, heeds_parent=False)),
        ("parentbased_always_off", "", Sampler(0, heeds_parent=True)),
        ("traceidratio", "0.25", Sampler(0.25, heeds_parent=False)),
        ("ParentBased_TraceIdRatio", "0.25", Sampler(0.25, heeds_parent=True)),
        ("traceidratio", "2", Sampler(1, heeds_parent=False)),
        ("traceidratio", "nan", Sampler(1, heeds_parent=False)),
        ("traceidratio", "", Sampler(1, heeds_parent=False)),
        ("jaeger_remote", "", Sampler(1, heeds_parent=True)),
    ],
)
def test_the_sampler_is_what_opentelemetrys_variables_say(name: str, argument: str, expected: Sampler) -> None:
    assert sampler_of({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}) == expected
    assert sampler_of({}) == ALWAYS


def test_a_ratio_chooses_the_traces_that_every_other_sdk_would_choose() -> None:
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    theirs, ours = TraceIdRatioBased(0.1), Sampler(0.1)
    ids = [context_of({}, ALWAYS).trace_id for _ in range(2000)]
    chosen = [ours(trace_id, None) for trace_id in ids]
    assert chosen == [theirs.should_sample(None, i, "x").decision is Decision.RECORD_AND_SAMPLE for i in ids]
    assert 100 < sum(chosen) < 320


def test_whoever_began_the_trace_has_decided_for_all_who_follow() -> None:
    unsampled = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    assert not context_of(unsampled, Sampler(1, heeds_parent=True)).sampled
    assert context_of({"traceparent": PARENT}, Sampler(0, heeds_parent=True)).sampled
    assert context_of(unsampled, Sampler(1, heeds_parent=False)).sampled
    assert not context_of({"traceparent": PARENT}, Sampler(0, heeds_parent=False)).sampled
    assert context_of(unsampled, ALWAYS).below(1).headers()["traceparent"].endswith("-00")
