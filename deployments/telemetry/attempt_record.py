"""The record of one target of a request: skipped, or asked. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from msgspec import Struct

from actors.breaker.plan import model_of, parts_of, place_of
from actors.ledger.rows import encode_json
from deployments.openai_api.json_types import JsonDict, JsonObject

LONGEST_MESSAGE = 200  # characters of an error message in an explanation
SKIPPED = "skipped: "
_NOTHING: JsonObject = MappingProxyType({})


class AttemptRecord(Struct, frozen=True):
    """One target of a request: skipped, or asked.

    Attributes:
        outcome: a kind of `actors/breaker/outcomes.py`, or "skipped: reason".
        at: milliseconds from the begin of the request to the begin of the attempt.
        ms: milliseconds that the attempt took.
        first_ms: milliseconds from the begin of the attempt to its first content.
        upstream: what the provider's replica knows: milliseconds as `{connect_ms?, first_ms?, ms}`, and `model`, the
            name that the provider gave its model. There is no `connect_ms` where a connection was reused.
        status: the HTTP status of the provider's error.
        state: of its circuit, if the target was skipped for that.
        since: seconds that the circuit has been in this state.
        retry_in: seconds until the target may be asked again.
        used: tokens and cost. The attempt fills it when its usage record has counted them.
        param: the field of the request that the provider refused.
        seam: how it went on behind an answer that broke off in mid-stream: `restart`; empty if it did not.
        number: of the attempt, by the order in which they began; 0 of a target that was skipped.
        hedge: of a second leg, sent while the first said nothing: `won`, `lost` or `failed`; empty if it is none.
    """

    target: str
    outcome: str
    at: float
    ms: float | None = None
    first_ms: float | None = None
    upstream: Mapping[str, float | str] | None = None
    status: int | None = None
    message: str | None = None
    verdict: str | None = None
    probe: bool = False
    state: str | None = None
    epoch: int | None = None
    since: float | None = None
    retry_in: float | None = None
    used: JsonObject = _NOTHING
    param: str | None = None
    seam: str = ""
    hedge: str = ""
    number: int = 0

    @property
    def skipped(self) -> str | None:
        """Return why the target was skipped; None if it was asked."""
        return self.outcome.removeprefix(SKIPPED) if self.outcome.startswith(SKIPPED) else None

    def as_dict(self) -> JsonDict:
        """Return the record as the `attempts` of an error have it."""
        data: JsonDict = {**named(self.target), "outcome": self.outcome}
        if self.skipped is None:
            data["status"], data["ms"] = self.status, self.ms
        if self.message is not None:
            data["message"] = self.message
        if self.param is not None:
            data["param"] = self.param
        if self.retry_in is not None:
            data["retry_in_seconds"] = round(self.retry_in, 3)
        return data

    def as_candidate(self) -> JsonDict:
        """Return the record as the `candidates` of `/v1/requests` have it."""
        data = self.as_dict()
        if self.message is not None:
            data["message"] = self.message[:LONGEST_MESSAGE]
        data["at_ms"] = self.at
        if self.skipped is None:
            data["verdict"], data["probe"], data["epoch"] = self.verdict, self.probe, self.epoch
            data["first_token_ms"] = self.first_ms
            asked = model_of(self.target)
            for name, value in (self.upstream or _NOTHING).items():
                if name != "model" or value != asked:
                    data[f"upstream_{name}"] = value
            if self.seam:
                data["seam"] = self.seam
            if self.hedge:
                data["hedge"] = self.hedge
        elif self.state is not None:
            data["state"], data["epoch"] = self.state, self.epoch
            data["since_seconds"] = None if self.since is None else round(self.since, 3)
        return data


def not_reached(target: str) -> JsonDict:
    """Return a target that nobody came to as the `candidates` of `/v1/requests` have it."""
    return {**named(target), "outcome": "not reached"}


@lru_cache(maxsize=1000)
def not_reached_json(target: str) -> str:
    """Return the same in JSON, behind a comma: it is what most requests say of most of their targets."""
    return f",{encode_json(not_reached(target))}"


def named(target: str) -> JsonDict:
    """Return a target's provider and model as records name them, and its place if it has one."""
    provider, model = parts_of(target)
    names = {"provider": provider, "model": model}
    return names if not (place := place_of(target)) else {"provider": provider, "place": place, "model": model}
