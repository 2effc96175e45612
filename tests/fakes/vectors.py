"""Vectors that a fake model makes: the same for the same text, and of any length."""

import base64
import hashlib
import math
import struct
from typing import Any


def vector(text: Any, length: int) -> list[float]:
    """Of length one. Tokens make vectors as texts do."""
    seed = hashlib.sha256(str(text).encode()).digest()
    raw = [seed[at % 32] / 255 - 0.5 + at % 7 / 100 for at in range(length)]
    norm = math.sqrt(sum(x * x for x in raw))
    return [x / norm for x in raw]


def as_base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
