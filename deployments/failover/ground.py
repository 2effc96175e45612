"""What all requests of one ingress replica stand on. No Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.breaker_client.client import BreakerClient
    from deployments.failover.streams.rest import NoPrefill
    from deployments.latency.hedging import Hedges
    from deployments.providers.time_limits import TimeLimits
    from deployments.routing.model_rows import ModelRows
    from deployments.routing.refusals import Refusals
    from deployments.sessions.affinity import Affinity


@dataclass(slots=True)
class Ground:
    """What all requests of one replica stand on.

    `limits` is provider to time limits, and may be replaced. `refusals` are the hints that targets have refused here.
    `affinity` knows in whose cache a conversation's prompt is, and `hedges` how many second legs a row has left.
    `no_prefill` are targets that can't be asked for the rest of a text as others are.
    """

    rows: "ModelRows"
    limits: "Mapping[str, TimeLimits]"
    breaker: "BreakerClient"
    refusals: "Refusals"
    affinity: "Affinity"
    hedges: "Hedges"
    no_prefill: "NoPrefill"
