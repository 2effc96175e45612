"""Serve's request router for provider replicas: power of two choices by calls in flight, random for a control call.

Serve's own router would count handle calls, and one handle call may have opened a connection for many calls. Serve
pickles this class by value, so what it shares with the rest of the process must be imported where it is used.
"""

import random

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica


class LeastCallsRouter(FIFOMixin, RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas in the order of preference. Serve takes the next if one is full of handle calls."""
        import time

        from deployments.loads import LOADS

        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # else Serve asks again without a pause
            if pending_request.metadata.call_method == "board":  # each replica must be found, however busy it is
                return [[r] for r in random.sample(candidate_replicas, len(candidate_replicas))]
        now = time.monotonic()
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        return [[r] for r in sorted(two, key=lambda r: LOADS.of(r.replica_id.unique_id, now))]
