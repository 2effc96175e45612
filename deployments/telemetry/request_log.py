"""One log line a request, in the log that Ray Serve shows: JSON, without content, without a secret. No Ray.

When Serve is tuned for throughput it buffers a replica's log by the thousand lines, so the ingress flushes it once a
second.
"""

import logging

from actors.breaker.plan import parts_of, place_of
from actors.ledger.rows import encode_json
from deployments.openai_api.json_types import JsonDict
from deployments.telemetry.request_record import AttemptRecord, RequestSummary

SERVE_LOGGER = "ray.serve"  # Serve writes this logger and all beneath it to the replica's log
_request_log = logging.getLogger(f"{SERVE_LOGGER}.requests")


def log_request(summary: RequestSummary) -> None:
    _request_log.info("%s", line_of(summary))


def line_of(summary: RequestSummary) -> str:
    """Return the log line of a request that is over, as a JSON object."""
    provider, model = parts_of(summary.target or "")
    place = place_of(summary.target or "")
    attempts = [_attempt(record) for record in summary.attempts]
    return encode_json(
        {
            "event": "request",
            "request_id": summary.request_id,
            "x_request_id": summary.caller.request_id,
            "row": summary.row,
            "door": summary.caller.door,
            "stream": summary.stream,
            "outcome": summary.outcome,
            "provider": provider or None,
            "model": model or None,
            **({"place": place} if place else {}),
            "attempts": attempts,
            "ms": summary.ms,
            "first_token_ms": summary.first_ms,
            "added_ms": summary.added_ms,
            "tokens_in": summary.used["tokens_in"],
            "tokens_out": summary.used["tokens_out"],
        }
    )


def _attempt(record: AttemptRecord) -> JsonDict:
    told: JsonDict = {
        "target": record.target,
        "outcome": record.outcome,
        "status": record.status,
        "ms": record.ms,
    }
    return told | {name: word for name, word in (("seam", record.seam), ("hedge", record.hedge)) if word}


def flush_log() -> None:
    """Write what Serve has buffered of this process's log."""
    for handler in logging.getLogger(SERVE_LOGGER).handlers:
        handler.flush()
