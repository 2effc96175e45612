"""The rules by which a vendor's error gets an outcome kind. Pure.

A vendor's own type, status and code come first. Many vendors have no code for what matters most, whether the request,
this model or our account there is at fault; then only the text tells. Each kind of provider keeps its rules in a table
of its own, and each rule names its source. What no rule knows is `rejected`: the next tier may take it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployments.openai_api.json_types import JsonValue
from deployments.providers.vendor_errors.quotes import own_words, says, too_long_to_search


@dataclass(frozen=True, slots=True)
class VendorError:
    """What a vendor's error says.

    `status` is that of HTTP, `code` and `type` are the vendor's own words, `param` is a path in the request.
    """

    status: int
    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None


Check = Callable[[re.Match[str]], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """An error for which all of these conditions hold; one that is empty always holds.

    Attributes:
        text: is searched.
        fits: what the numbers in the found text must say.
        asks: fields of which the request has at least one.
        param: the field that is at fault, where the vendor names another one, or none.
    """

    kind: str
    source: str
    text: re.Pattern[str] | None = None
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    asks: frozenset[str] = frozenset()
    fits: Check | None = None
    param: str | None = None

    def holds(self, error: VendorError, asked: JsonValue) -> bool:
        """Return whether it is this error, of the request `asked`."""
        if self.statuses and error.status not in self.statuses:
            return False
        if self.codes and error.code not in self.codes and error.type not in self.codes:
            return False
        if self.asks and isinstance(asked, Mapping) and not any(asked.get(name) is not None for name in self.asks):
            return False
        return self.text is None or self._reads(self.text, error.message, asked)

    def _reads(self, text: re.Pattern[str], message: str, asked: JsonValue) -> bool:
        """Return whether the text says so.

        An error may quote the request. What moves a circuit must not rest on words that a client chose: they could
        close a vendor to everybody. Nobody can tell whose words they are where the request is not known, or too long to
        be searched.
        """
        found = text.search(message)
        if found is None or (self.fits is not None and not self.fits(found)):
            return False
        if self.kind not in _MOVES_CIRCUITS:
            return True
        if asked is None or too_long_to_search(asked) or (own := text.search(own_words(message, asked))) is None:
            return False
        return not says(asked, own.group())


_MOVES_CIRCUITS = frozenset({"credential", "quota", "model_missing", "throttled", "overloaded", "server_error"})


def rule(
    kind: str,
    source: str,
    *texts: str,
    statuses: Iterable[int] = (),
    codes: str = "",
    asks: str = "",
    fits: Check | None = None,
    param: str | None = None,
) -> Rule:
    """Return a rule. `texts` are patterns without regard to case, of which one is enough; `codes`, `asks` are words."""
    pattern = re.compile("|".join(texts), re.IGNORECASE) if texts else None
    words, fields = frozenset(codes.split()), frozenset(asks.split())
    return Rule(kind, source, pattern, frozenset(statuses), words, fields, fits, param)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an error means: the outcome kind, and the field of the request that is at fault, if any is named."""

    kind: str
    param: str | None


def read_by(rules: Sequence[Rule], error: VendorError, asked: JsonValue = None) -> Reading:
    """Return what an HTTP error means: by the first rule that holds, else by its status.

    `asked` is the request that the vendor answers; None where it is not known.
    """
    held = next((known for known in rules if known.holds(error, asked)), None)
    by_status = _KIND_OF_STATUS.get(error.status) or ("server_error" if error.status >= 500 else "rejected")
    kind = held.kind if held is not None else by_status
    if kind in _MOVES_CIRCUITS and _names_a_field(error, asked):
        kind, held = "rejected", None
    if kind == "overloaded" and error.retry_after is not None:
        kind = "throttled"
    if held is None or held.param is None or error.param in _LIMITS:
        return Reading(kind, error.param)
    return Reading(kind, held.param)


def kind_of(error: VendorError, rules: Sequence[Rule], asked: JsonValue = None) -> str:
    """Return the outcome kind of an HTTP error: see `read_by`."""
    return read_by(rules, error, asked).kind


_OF_THE_REQUEST = frozenset({400, 404, 413, 422})
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


def _names_a_field(error: VendorError, asked: JsonValue) -> bool:
    """Return whether it refuses a field of the request. Only the model's name there is ours, and not the client's."""
    head = re.split(r"[.\[]", error.param or "", maxsplit=1)[0]
    known = isinstance(asked, Mapping) and head in asked
    return error.status in _OF_THE_REQUEST and known and head != "model"


_KIND_OF_STATUS = {
    401: "credential",
    402: "quota",
    403: "credential",
    404: "model_missing",
    408: "server_error",
    409: "conflict",
    424: "server_error",
    429: "throttled",
    503: "overloaded",
    529: "overloaded",
}
