"""Which replica of a provider takes a handle call: of any two the one with fewer calls under way, and for a lane any.

Serve's own router would count handle calls, of which one may have opened a lane for many. Serve sends this class by
value: what it shares with the rest of the process must be imported where it is used.
"""

import random

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica


class FewestCalls(FIFOMixin, RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One after the other; Serve goes on to the next when one is full of handle calls."""
        import time

        from deployments.rpc.in_flight import LOADS

        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # else Serve asks again without a pause
            if pending_request.metadata.call_method == "board":  # every replica's turn comes, however busy it is
                return [[r] for r in random.sample(candidate_replicas, len(candidate_replicas))]
        now = time.monotonic()
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        return [[r] for r in sorted(two, key=lambda r: LOADS.of(r.replica_id.unique_id, now))]
