"""The error of a request that nobody answered: what it says, and whose fault it was. Pure."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import provider_of
from deployments.errors import NoAnswer
from deployments.failover.tried import Tried

# What one tier can't do another may: it is the client's fault only if nobody in the row can.
_OF_ONE_TIER = frozenset({"unsupported", "too_long"})


@dataclass(frozen=True, slots=True)
class Row:
    """What of the configuration matters here: the targets of all rows, and the known context windows, in tokens."""

    targets: Collection[str]
    windows: Mapping[str, int]


def no_answer(tried: Tried, row: Row, retry_in: float | None) -> NoAnswer:
    """Return the error. `retry_in`: seconds until the first of those that are out may be asked again."""
    entries, last = tried.record.entries, tried.last
    if last is None:
        return NoAnswer("No provider can be asked now.", entries, None, retry_in or 1.0)
    if last.kind == "model_missing" and tried.target not in row.targets:
        # The client named this target itself.
        return NoAnswer("The provider does not know this model.", entries, replace(last, kind="bad_request"))
    if last.ending.guilt is Guilt.CALLER and _of_the_request(last, tried, row):
        return NoAnswer(last.message or last.ending.why, entries, last)
    first = tried.first or last
    target = next(target for target, outcome in tried.asked if outcome is first)
    why = (first.message or first.ending.why).rstrip(".")
    message = f"All providers failed. First error ({provider_of(target)}): {why}."
    return NoAnswer(message, entries, None, retry_in or first.retry_after or 1.0)


def _of_the_request(last: Outcome, tried: Tried, row: Row) -> bool:
    """Is the refusal the request's own fault, rather than the limits of a tier that stood in?"""
    if last.kind == "too_long":
        return tried.first is None and not _larger_is_out(tried, row)
    if last.kind in _OF_ONE_TIER:
        return tried.only(_OF_ONE_TIER)
    # Where an earlier one broke, a 400 of the next must not hide that: with the first it may be fine.
    return last.kind != "bad_request" or tried.first is None


def _larger_is_out(tried: Tried, row: Row) -> bool:
    """Was a target left out that may hold the prompt, which a tier of known size could not?"""
    window = row.windows.get(tried.target)
    return window is not None and any(row.windows.get(t, math.inf) > window for t in tried.left_out)
