"""Which targets can give the rest of a text, and how each of them is asked for it. No Ray."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from actors.breaker.outcomes import Outcome
from deployments.continuation.methods import INSTRUCT, Method, refuses_prefill
from deployments.continuation.rest import body_for_rest, may_straddle, tokens_left
from deployments.continuation.stitch import Cut, Stitch, anchor_of, cut_for
from deployments.failover.streams.opening import Opening
from deployments.newest import Newest
from deployments.routing.request_fit import RequestFit

if TYPE_CHECKING:
    from deployments.routing.model_rows import ModelRows

REMEMBERED_SECONDS = 3600.0


class NoPrefill:
    """Targets that have refused a last turn of the assistant's, for an hour."""

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._until = Newest[str, float](1024)

    def learn(self, target: str, refusal: Outcome) -> None:
        """Remember a target whose refusal says so."""
        if refusal.kind in ("rejected", "bad_request") and refuses_prefill(refusal.message):
            self._until[target] = self._now() + REMEMBERED_SECONDS

    def __contains__(self, target: str) -> bool:
        return self._until.get(target, 0.0) > self._now()


@dataclass(frozen=True, slots=True)
class _Asking:
    """How one target is asked. `must`: what its server is held to say first, where it can be."""

    method: Method
    cut: Cut
    anchor: str

    @property
    def must(self) -> str | None:
        return self.cut.must if self.method.forced and self.cut.begun else None


class Rest:
    """The rest of one text. `used` are the tokens that it took."""

    def __init__(self, rows: "ModelRows", no_prefill: NoPrefill, text: str, used: int):
        self._rows, self._no_prefill = rows, no_prefill
        self._text, self._used = text, used
        self._asking: dict[str, _Asking] = {}

    def fits(self, fits: Mapping[str, RequestFit]) -> dict[str, RequestFit]:
        """Return the request for the rest for each target that can be asked for it."""
        made = ((target, self._fit(target, fit)) for target, fit in fits.items())
        return {target: fit for target, fit in made if fit is not None}

    def _fit(self, target: str, fit: RequestFit) -> RequestFit | None:
        method = self._rows.continuation_of(target)
        if method is not None and method is not INSTRUCT and target in self._no_prefill:
            method = INSTRUCT
        left = tokens_left(fit.body, self._used)
        if method is None or (left is not None and left <= 0) or may_straddle(fit.body, self._text):
            return None
        anchor = anchor_of(self._text) if method is INSTRUCT else ""
        cut = cut_for(self._text, trusted=method.trusted)
        if method is INSTRUCT and not anchor:
            cut = Cut("", self._text.rstrip(), cut.space)  # so short that all of it is asked for anew
        self._asking[target] = _Asking(method, cut, anchor)
        body, dropped = body_for_rest(fit.body, cut, anchor, method, self._used)
        return structs.replace(fit, body=body, dropped=(*fit.dropped, *dropped))

    def as_it_counts(self, target: str, outcome: Outcome) -> Outcome:
        """Return what a failed attempt to go on says of its target. What it refused is remembered."""
        self._no_prefill.learn(target, outcome)
        # Nothing to add is no fault.
        return Outcome("unverified", message=outcome.message) if outcome.kind == "empty" else outcome

    def word(self, target: str) -> str:
        """Return the name of the method by which a target is asked."""
        return self._asking[target].method.word

    def must(self, target: str) -> str | None:
        """Return what a target's server is held to say first; None if it can't be held to it."""
        return self._asking[target].must

    def opening(self, target: str) -> Opening:
        """Return what proves that a target's answer goes on with the text."""
        asking = self._asking[target]
        method = asking.method
        return Opening(
            Stitch(self._text, asking.cut, anchor=asking.anchor, trusted=method.trusted, repeats=method.repeats)
        )
