"""The error of a request that nobody answered: what it says, and whose fault it was. Pure."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import Target, site_of
from deployments.errors import OF_ONE_TIER, NoAnswer
from deployments.failover.tried import REFUSALS, Tried

if TYPE_CHECKING:
    from deployments.routing.model_rows import ModelRows


def no_answer(tried: Tried, rows: "ModelRows", retry_in: float | None) -> NoAnswer:
    """Return the error. `retry_in`: seconds until the first of those that are out may be asked again."""
    entries = tried.record.entries
    if not tried.failures:
        return NoAnswer("No provider can be asked now.", entries, None, retry_in or 1.0)
    target, last = tried.failures[-1]
    if last.kind == "model_missing" and target not in rows.targets:
        # The client named this target itself.
        return NoAnswer("The provider does not know this model.", entries, replace(last, kind="bad_request"))
    if last.ending.guilt is Guilt.CALLER and _of_the_request(target, last, tried, rows):
        refusal = (last.kind in REFUSALS and tried.refusal) or last
        return NoAnswer(refusal.message or refusal.ending.why, entries, refusal)
    blamed, first = tried.first or (target, last)
    why = (first.message or first.ending.why).rstrip(".")
    if first.kind == "internal_error" and tried.only(REFUSALS | {"internal_error"}):
        # To ask again would not help, and no provider has failed.
        return NoAnswer(f"No provider could be asked. First error ({site_of(blamed)}): {why}.", entries, first)
    message = f"All providers failed. First error ({site_of(blamed)}): {why}."
    return NoAnswer(message, entries, None, retry_in or first.retry_after or 1.0)


def _of_the_request(target: Target, last: Outcome, tried: Tried, rows: "ModelRows") -> bool:
    """Is the refusal the request's own fault, rather than the limits of a tier that stood in?"""
    if last.kind == "too_long":
        return tried.first is None and not _larger_is_out(target, tried, rows)
    if last.kind in OF_ONE_TIER:  # it is the client's fault only if nobody in the row can
        return tried.only(OF_ONE_TIER)
    # Where an earlier one broke, a 400 of the next must not hide that: with the first it may be fine.
    return last.kind != "bad_request" or tried.first is None


def _larger_is_out(target: Target, tried: Tried, rows: "ModelRows") -> bool:
    """Was a target left out that may hold the prompt, which a tier of known size could not?"""
    window = rows.windows.get(target)
    return window is not None and any(rows.windows.get(t, math.inf) > window for t in tried.left_out)
