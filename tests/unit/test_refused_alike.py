"""Which refusals of two tiers are one fault of the request, so that no third tier is asked."""

import pytest

from actors.breaker.outcomes import Outcome
from deployments.failover.tried import Tried
from deployments.telemetry.request_record import RequestRecord


def refused_alike(param: str | None, first: str, second: str, code: str | None = None) -> bool:
    tried = Tried(RequestRecord())
    for target, message in (("a/m", first), ("b/n", second)):
        tried.fail(target, Outcome("rejected", status=400, message=message, param=param, code=code))
    return tried.refused_alike


def test_one_fault_that_two_vendors_name_is_the_requests() -> None:
    wrong = "Tool 'x' was not found in 'tools'."
    assert refused_alike("tool_choice", wrong, wrong)


@pytest.mark.parametrize(
    "own",
    [
        "Invalid 'stop': array too long. Expected an array with maximum length 4.",
        "'temperature' must be between 0 and 1",
        "Expected a value <= 2147483647",
        "max size is 8000",
        "Unsupported value: 'x' with this model",
        "seed is not enabled for this tier",
        "Extra inputs are not permitted",
        "this exceeds the window",
    ],
)
def test_what_is_a_tiers_own_limit_or_lack_is_not_the_requests(own: str) -> None:
    assert not refused_alike("stop", own, own)
    assert not refused_alike("stop", "Invalid 'stop'.", own)
    assert not refused_alike("stop", own, "Invalid 'stop'.")


@pytest.mark.parametrize("code", ["array_above_max_length", "unsupported_value", "integer_below_min_value"])
def test_a_code_of_a_limit_is_enough(code: str) -> None:
    assert not refused_alike("seed", "Invalid 'seed'.", "Invalid 'seed'.", code)


@pytest.mark.parametrize("param", [None, "messages", "body", "tools", "max_tokens", "max_completion_tokens"])
def test_a_field_that_holds_nearly_everything_is_no_one_fault(param: str | None) -> None:
    assert not refused_alike(param, "Invalid.", "Invalid.")
