"""One call of a target as it crosses the process. No Ray."""

from typing import TYPE_CHECKING

from actors.breaker.plan import model_of, place_of, provider_of
from deployments.openai_api.chat import Request
from deployments.providers.base import LONG_CALL, CallMessage, call_dict
from deployments.providers.time_limits import TimeLimits

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt
    from deployments.failover.streams.rest import Rest
    from deployments.routing.model_rows import ModelRows


def message_of(
    attempt: "Attempt", request: Request, rows: "ModelRows", limits: TimeLimits, rest: "Rest | None", now: float
) -> CallMessage:
    """Return the call of an attempt, on the loop's clock. `rest` is that of the text which it is to go on with."""
    assert attempt.body is not None
    record, model, native = attempt.record, model_of(attempt.target), request.native
    if native is None or attempt.extras is None:
        call = call_dict(attempt.body, model, request.model, limits)
    else:
        call = call_dict(native.body(attempt.body, attempt.extras), model, request.model, limits)
        call["api"] = native.api
    call["again"] = max(0, attempt.extra_calls)
    call["hears_usage"] = True
    call["within"] = attempt.until - now
    if request.size > LONG_CALL or attempt.has_images:
        call["is_long"] = True
    if place := place_of(attempt.target):
        call["place"] = place
    if record.session is not None:
        call["cache_key"] = record.session.hex()
    if attempt.row is not None:
        call["row"] = attempt.row
    if rows.tells and (told := rows.tells.get(provider_of(attempt.target))) is not None:
        call["caller"] = record.words_of(told)
    if rest is not None and (must := rest.must(attempt.target)) is not None:
        call["must"] = must
    if record.trace is not None:
        call["trace"] = record.trace.context.child(attempt.number).headers()
    return call
