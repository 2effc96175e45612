"""Bedrock's Converse on the wire: JSON, and ConverseStream's binary event stream.

A message is: total length, headers length, CRC of those two; headers; payload; CRC of all before.
"""

import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

USAGE = {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}


def event(kind: str, payload: Mapping[str, Any], *, exception: bool = False) -> bytes:
    """One message of the event stream."""
    names = (":exception-type", "exception") if exception else (":event-type", "event")
    headers = {names[0]: kind, ":content-type": "application/json", ":message-type": names[1]}
    head = b"".join(
        struct.pack("!B", len(k)) + k.encode() + struct.pack("!BH", 7, len(v)) + v.encode() for k, v in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 12 + len(head) + len(body) + 4, len(head))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + head + body
    return message + struct.pack("!I", binascii.crc32(message))


class BedrockWire:
    stream_type = "application/vnd.amazon.eventstream"

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.endswith("/converse-stream")

    def whole(self, words: Sequence[str]) -> bytes:
        message = {"role": "assistant", "content": [{"text": "".join(words)}]}
        return json.dumps(
            {"output": {"message": message}, "stopReason": "end_turn", "usage": USAGE, "metrics": {"latencyMs": 9}}
        ).encode()

    def frames(self, words: Sequence[str]) -> list[bytes]:
        deltas = [event("contentBlockDelta", {"delta": {"text": w}, "contentBlockIndex": 0}) for w in words]
        return [
            event("messageStart", {"role": "assistant"}),
            *deltas,
            event("contentBlockStop", {"contentBlockIndex": 0}),
            event("messageStop", {"stopReason": "end_turn"}),
            event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}}),
        ]

    def closing(self) -> int:
        return 2

    def error(self, status: int, code: str | None, message: str) -> bytes:
        return json.dumps({"message": message}).encode()

    def error_headers(self, status: int, code: str | None) -> dict[str, str]:
        known = {
            400: "ValidationException",
            401: "UnrecognizedClientException",
            403: "AccessDeniedException",
            404: "ResourceNotFoundException",
            429: "ThrottlingException",
            500: "InternalServerException",
            503: "ServiceUnavailableException",
        }
        return {"x-amzn-errortype": code or known[status]}

    def in_band_error(self, code: str | None = None) -> bytes:
        return event(code or "internalServerException", {"message": "the engine fell over"}, exception=True)

    def malformed(self) -> bytes:
        """A message whose checksum is wrong."""
        message = bytearray(event("contentBlockDelta", {"delta": {"text": "x"}, "contentBlockIndex": 0}))
        message[-5] ^= 1
        return bytes(message)
