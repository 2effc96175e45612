"""The error of a request that nobody answered: by itself, from what was tried."""

import pytest

from actors.breaker.outcomes import Outcome
from deployments.failover.no_answer import no_answer
from deployments.failover.tried import Tried
from deployments.routing.model_rows import ModelRows
from deployments.telemetry.request_record import RequestRecord

TOO_LONG, BROKEN = Outcome("too_long", status=400), Outcome("server_error", status=500, message="Oops.")


def tried(*failures: tuple[str, Outcome]) -> Tried:
    made = Tried(RequestRecord())
    for target, outcome in failures:
        made.fail(target, outcome)
    return made


@pytest.mark.parametrize(
    "failures",
    [
        [("a/m", TOO_LONG), ("b/m", BROKEN)],
        [("b/m", BROKEN), ("a/m", TOO_LONG)],
        [("a/m", TOO_LONG), ("b/m", BROKEN), ("c/m", Outcome("connect"))],
    ],
)
def test_the_first_error_is_that_of_the_first_provider_that_failed_by_its_own_fault(
    failures: list[tuple[str, Outcome]],
) -> None:
    rows = ModelRows({"default": ["a/m", "b/m", "c/m"]}, dict.fromkeys("abc", "openai"))
    error = no_answer(tried(*failures), rows, None)
    assert str(error) == "All providers failed. First error (b): Oops."
    assert error.status == 503
