"""The places of providers: in which order a request asks them, and who shares a failure. Pure.

A place is one of a provider's keys, accounts or regions, with circuits of its own. Some failures say something of
other places too, and are not asked for twice:

- a server that can't be reached, or that fails by itself: of all places at the same host and port, for that model;
- a throttle: of all places whose calls the vendor counts together (their *bucket*), for that model;
- a refused key: of that place, with all its models. A quota that is used up: of the bucket;
- our own replicas: they are the same for all places.

A silent call is none of them: it may be the request's own.
"""

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from actors.breaker.outcomes import NO_CREDENTIAL, NO_SUCH_PLACE, Outcome
from actors.breaker.plan import PLACE, Target, model_of, provider_of, site_of

_OF_THE_SERVER = frozenset({"connect", "server_error", "overloaded"})
_OF_OUR_REPLICAS = frozenset({"busy", "lost", "unreachable"})
_BUCKET, _SERVER, _KEY, _QUOTA, _OURS = "throttled", "host_failed", "key_refused", "quota_used_up", "replica_failed"
# What moves circuits by itself, whatever the request was. A 5xx may be the request's own fault.
_MOVING = frozenset({"connect", "throttled", "credential", "quota"})
_OF_AN_ACCOUNT = ("insufficient_quota", "billing")  # codes of a 429 or 400 that is no model's alone


@dataclass(frozen=True, slots=True)
class Site:
    """A place as far as failures and sessions are concerned.

    `server` is the host and port that it is asked at. Places of one `bucket` are throttled together. `weight` is its
    share of the sessions where they are spread.
    """

    name: str
    server: str
    bucket: str
    weight: float = 1.0


class Places:
    """`sites` are the places that can be called, by provider. `spread` are providers whose sessions are spread."""

    def __init__(self, sites: Mapping[str, Sequence[Site]], spread: Collection[str] = ()):
        self._by_provider = {provider: tuple(places) for provider, places in sites.items() if places}
        self._by_site = {f"{name}{PLACE}{p.name}": p for name, places in self._by_provider.items() for p in places}
        self._spread = frozenset(spread) & self._by_provider.keys()

    def __bool__(self) -> bool:
        return bool(self._by_site)

    def __contains__(self, site: str) -> bool:
        return site in self._by_site

    def targets(self, provider: str, model: str) -> list[Target]:
        """Return the targets of a provider's model: each of its places, or the one target of a provider without."""
        places = self._by_provider.get(provider)
        if places is None:
            return [f"{provider}/{model}"]
        return [f"{provider}{PLACE}{place.name}/{model}" for place in places]

    def why_shared(self, failed: Target, outcome: Outcome, other: Target) -> str | None:
        """Return why another target need not be asked once this one has failed so; None if it may answer."""
        mine, theirs = self._by_site.get(site_of(failed)), self._by_site.get(site_of(other))
        if mine is None or theirs is None or provider_of(failed) != provider_of(other):
            return None
        kind, same_model = outcome.kind, model_of(failed) == model_of(other)
        if kind in _OF_OUR_REPLICAS:
            return None if outcome.code == NO_SUCH_PLACE else _OURS
        if kind == "throttled":
            return _BUCKET if same_model and mine.bucket == theirs.bucket else None
        if kind == "credential":
            return _KEY if mine is theirs else None
        if kind == "quota":
            used_up = mine.bucket == theirs.bucket and (same_model or _is_of_an_account(outcome))
            return _QUOTA if used_up else None
        of_server = kind in _OF_THE_SERVER and outcome.code != NO_CREDENTIAL
        return _SERVER if of_server and same_model and mine.server == theirs.server else None

    def sharers(self, failed: Target, outcome: Outcome, targets: Collection[Target]) -> list[Target]:
        """Return the other targets whose circuits such a failure moves too."""
        if outcome.kind not in _MOVING or site_of(failed) not in self._by_site:
            return []
        return [t for t in targets if t != failed and self.why_shared(failed, outcome, t) is not None]

    def ordered(self, row: list[Target], session: bytes) -> list[Target]:
        """Return a row's targets with the places that are spread in this session's own order.

        Neighbours change places only among each other. If a place is left out, only its own sessions move, and to
        different places (rendezvous hashing, by weight).
        """
        if not self._spread:
            return row
        return [target for group in self._groups(row) for target in self._order(group, session)]

    def _groups(self, row: list[Target]) -> Iterator[list[Target]]:
        for _, group in groupby(row, lambda target: (provider_of(target), model_of(target))):
            yield list(group)

    def _order(self, group: list[Target], session: bytes) -> list[Target]:
        if len(group) < 2 or provider_of(group[0]) not in self._spread:
            return group
        return sorted(group, key=lambda target: self._distance(site_of(target), session))

    def _distance(self, site: str, session: bytes) -> float:
        """Return how far a session is from a place: a draw of the exponential distribution, by its weight."""
        digest = hashlib.blake2b(site.encode() + b"\0" + session, digest_size=8).digest()
        return -math.log((int.from_bytes(digest) + 1) / (2**64 + 1)) / self._by_site[site].weight


def _is_of_an_account(outcome: Outcome) -> bool:
    """Return whether a used-up quota is the account's, and not that of one model a day."""
    return outcome.status in (401, 402, 403) or (outcome.code or "").startswith(_OF_AN_ACCOUNT)


NO_PLACES = Places({})
