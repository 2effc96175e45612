"""One line a request, in the log that Ray Serve shows: JSON, without content, without a secret. No Ray.

Serve buffers a replica's log by the thousand lines when it is tuned for throughput, so it is flushed once
a second here.
"""

import logging

from actors.ledger.rows import encode_json
from deployments.telemetry.request_record import Ended

SERVE = "ray.serve"  # Serve's own logger: what is beneath it goes to the replica's log
_lines = logging.getLogger(f"{SERVE}.requests")


def told_to_log(ended: Ended) -> None:
    _lines.info("%s", line_of(ended))


def line_of(ended: Ended) -> str:
    provider, _, model = (ended.target or "").partition("/")
    asked = [{"target": s.target, "outcome": s.outcome, "status": s.status, "ms": s.ms} for s in ended.attempts]
    return encode_json(
        {
            "event": "request",
            "request_id": ended.request_id,
            "x_request_id": ended.caller.request_id,
            "row": ended.row,
            "door": ended.caller.door,
            "stream": ended.stream,
            "outcome": ended.outcome,
            "provider": provider or None,
            "model": model or None,
            "attempts": asked,
            "ms": ended.ms,
            "first_token_ms": ended.first,
            "added_ms": ended.added,
            "tokens_in": ended.used["tokens_in"],
            "tokens_out": ended.used["tokens_out"],
        }
    )


def flush_log() -> None:
    for handler in logging.getLogger(SERVE).handlers:
        handler.flush()
