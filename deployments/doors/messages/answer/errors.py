"""Errors as Anthropic's clients read them. Pure.

Anthropic, Errors: each status has its type. A text that begins with "prompt is too long" is the one by which Claude
Code makes its conversation shorter, and it reads both numbers.
"""

import re
from collections.abc import Mapping

from deployments.errors import BreakwaterError, DeadlineExceeded, NoAnswer, TooBusy, error_object
from deployments.openai_api.json_types import JsonDict, JsonObject

OVERLOADED = 529
_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}


def status_of(error: BreakwaterError) -> int:
    """Return the HTTP status.

    A 429 says that the caller has used up a limit of its own. Where all providers throttle us it has not, and where we
    are too busy ourselves neither: that is a 529.
    """
    if isinstance(error, TooBusy) or (isinstance(error, NoAnswer) and error.code == "rate_limit_exceeded"):
        return OVERLOADED
    return error.status


def body_of(
    error: BreakwaterError, request_id: str | None = None, *, tokens: int | None = None, window: int | None = None
) -> JsonDict:
    """Return the body of an error.

    `tokens` is an estimate of the prompt, and `window` what a target can hold: for a prompt that was too long, where
    the provider's own text does not tell them.
    """
    envelope = error_object(error)
    inside: JsonDict = {**envelope["error"]}
    if _is_too_long(error):
        inside["message"] = _too_long(str(error), tokens, window)
    told = {"breakwater": envelope["breakwater"]} if "breakwater" in envelope else {}
    return _shape(type_of(status_of(error)), inside, request_id) | told


def body_of_frame(frame: JsonObject, request_id: str) -> JsonDict:
    """Return the body for a chat's error frame, which has no status."""
    inside = frame.get("error")
    inside = dict(inside) if isinstance(inside, dict) else {"message": str(inside)}
    code = inside.get("code")
    status = 504 if code == "deadline_exceeded" else OVERLOADED if code == "rate_limit_exceeded" else 500
    told = {"breakwater": frame["breakwater"]} if "breakwater" in frame else {}
    return _shape(type_of(status), inside, request_id) | told


def type_of(status: int) -> str:
    """Return Anthropic's type of an error by its status."""
    return _TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


def _shape(kind: str, inside: JsonObject, request_id: str | None) -> JsonDict:
    more = {name: value for name, value in inside.items() if name not in ("type", "message") and value is not None}
    error = {"type": kind, "message": str(inside.get("message") or "The answer broke off."), **more}
    return {"type": "error", "error": error, "request_id": request_id}


def _is_too_long(error: BreakwaterError) -> bool:
    if not isinstance(error, NoAnswer) or isinstance(error, DeadlineExceeded):
        return False
    return error.last is not None and error.last.kind == "too_long"


_NUMBER = re.compile(r"(?<![\w.])\d[\d,]{0,15}(?![\w.]*\w)")
# "maximum context length is 8192 tokens", "> 200000 maximum", "the maximum number of tokens allowed (1048576)",
# "the available context size (4096 tokens)", "than the maximum model length of 4096": OpenAI, Anthropic, Gemini,
# llama.cpp, vLLM.
_WINDOW = re.compile(r"(?:max\w*|limit|window|size|allow\w*|>|exceeds?)\W[^\d.]{0,60}?(\d[\d,]{1,15})", re.IGNORECASE)


def _too_long(said: str, tokens: int | None, window: int | None) -> str:
    numbers = [number for number in map(_whole, _NUMBER.findall(said)) if number > 1]
    found = _WINDOW.search(said)
    most = _whole(found[1]) if found is not None else window
    if most is None:
        return f"prompt is too long: {said}"
    # A text may tell the prompt, the answer's limit, and their sum: the prompt is the first that is too much alone.
    above = min((number for number in numbers if number > most), default=tokens or 0)
    return f"prompt is too long: {max(above, most + 1)} tokens > {most} maximum"


def _whole(digits: str) -> int:
    return int(digits.replace(",", "") or 0)
