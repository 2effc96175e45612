"""What a request and its attempts add to the figures of their day. Pure.

A request and all its attempts belong to the instant at which the request began, whenever an attempt of it did: so it
is in one day, and on one side of each `since` and `until`. Days are UTC.

A question by provider counts the requests that asked this provider, each once, though it was asked twice. Such counts
do not add up over models. So three of them are kept, each with the first attempt of its sort: by provider and model
(`of_target`), by provider, and by model.

Most questions name few of a day's names, and its lines are many: one for each that occurs of all names together. So
the same figures are also kept by fewer names, as `TOTALS`, each of which answers the questions that name no other.
"""

import hashlib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from operator import add
from typing import TypeVar

import orjson

from actors.ledger.rows import AttemptRow, RequestRow, day_of

DIMENSIONS = ("day", "tenant", "agent", "key_name", "provider", "model")
FIGURES_OF_A_DAY = (
    *("requests", "answered", "of_target", "of_provider", "of_model"),
    *("attempts", "answers", "cancelled", "failures", "lost", "open"),
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "estimated"),
    *("unknown_cost", "cost", "timed", "microseconds", "first_timed", "first_microseconds"),
    "abandoned_cost",  # a part of the cost: of attempts that did not answer
    "cancelled_cost",  # a part of that: their clients left
    "hedged_cost",  # another part: of two legs that were asked side by side, those that did not answer
)
LOST_LEGS = ("lost", "failed", "beaten")  # of two, the one that did not answer: see rows.AttemptRow
NOTHING = (0,) * len(FIGURES_OF_A_DAY)
# Each kind of total by its names, beside the day. They are words of stores.
TOTALS = {"key": ("tenant", "key_name"), "agent": ("agent",), "target": ("provider", "model")}
MOST = 2**62  # of any sum: one that a store could not hold would keep all rows out

Name = tuple[str | None, ...]  # one value for each dimension
Sums = dict[Name, list[int]]
Key = TypeVar("Key")
_NO_ATTEMPT = (0,) * (len(FIGURES_OF_A_DAY) - 2)


def digest(name: Sequence[str | None]) -> str:
    """Return the key of a row of the rollup. Frozen: stores hold it."""
    return hashlib.blake2b(orjson.dumps(name), digest_size=16).hexdigest()


def add_request(sums: Sums, row: RequestRow, sign: int) -> None:
    """Add a request, or take it out by the sign -1."""
    name = (day_of(row.began_at), row.tenant, row.agent, row.key_name, None, None)
    add_figures(sums, name, (1, int(row.outcome == "ok"), *_NO_ATTEMPT), sign)


def add_attempts(sums: Sums, rows: Iterable[AttemptRow], sign: int) -> None:
    """Add all attempts of one request, or take them out by the sign -1."""
    seen: set[tuple[str, str]] = set()
    for row in sorted(rows, key=_number):
        names = (("target", f"{row.provider}\0{row.model}"), ("provider", row.provider), ("model", row.model))
        firsts = [int(name not in seen) for name in names]
        seen.update(names)
        name = (day_of(row.asked_at), row.tenant, row.agent, row.key_name, row.provider, row.model)
        add_figures(sums, name, (0, 0, *firsts, *_figures(row)), sign)


def _number(row: AttemptRow) -> int:
    return row.number


def _figures(row: AttemptRow) -> tuple[int, ...]:
    settled, ok = row.state == "settled", row.kind == "ok"
    answer, cancelled = settled and ok, settled and row.kind == "cancelled"
    timed = answer and row.ms is not None
    return (
        *(1, int(answer), int(cancelled), int(settled and not ok and not cancelled and row.kind is not None)),
        *(int(row.state == "lost"), int(row.state == "open")),
        *(row.tokens_in, row.tokens_out, row.tokens_cached, row.tokens_reasoning, int(row.counted == "estimated")),
        *(int(row.state != "open" and row.cost is None), row.cost or 0),
        *(int(timed), round((row.ms or 0) * 1000) if timed else 0),
        *(int(row.first_ms is not None), round((row.first_ms or 0) * 1000)),
        *_parts_without_answer(row),
    )


def _parts_without_answer(row: AttemptRow) -> tuple[int, int, int]:
    """Return what an attempt that did not answer cost, what of it is its client's leaving, and what a hedge's."""
    cost = row.cost or 0
    if not cost or row.state == "open" or (row.state == "settled" and row.kind == "ok"):
        return 0, 0, 0  # one that is under way may answer yet
    hedged = row.hedge in LOST_LEGS
    cancelled = row.state == "settled" and row.kind == "cancelled" and not hedged
    return cost, cost if cancelled else 0, cost if hedged else 0


def totals_of(sums: Sums) -> Sums:
    """Return the same figures by fewer names. A name begins with the kind of its total."""
    totals: Sums = {}
    for (day, tenant, agent, key, provider, model), figures in sums.items():
        whose: list[Name] = [("key", day, tenant, None, key, None, None), ("agent", day, None, agent, None, None, None)]
        if provider is not None:  # a request by itself has no target
            whose.append(("target", day, None, None, None, provider, model))
        for name in whose:
            known = totals.get(name)
            totals[name] = figures if known is None else list(map(add, known, figures))
    return totals


def total_for(names: Iterable[str]) -> str | None:
    """Return the kind of total that has all of these columns, or None. Each kind has the day."""
    asked = {*names} - {"day"}
    return next((kind for kind, whose in TOTALS.items() if asked.issubset(whose)), None)


def add_figures(sums: MutableMapping[Key, list[int]], name: Key, figures: Sequence[int], sign: int) -> None:
    """Add figures to the sums of a name, or take them out by the sign -1."""
    total = sums.get(name)
    if total is None:
        sums[name] = [sign * value for value in figures]
        return
    for i, value in enumerate(figures):
        if value:
            total[i] += sign * value


def lines_of(sums: Sums) -> list[tuple[str | int | None, ...]]:
    """Return what is to be added to rows of the rollup or of its totals, in the order of their columns."""
    return [(digest(name), *name, *bounded(total)) for name, total in sums.items() if any(total)]


def bounded(total: Sequence[int]) -> Sequence[int]:
    """Return sums that a store can hold. Next to never is one beyond."""
    if max(total) <= MOST and min(total) >= -MOST:
        return total
    return [max(-MOST, min(value, MOST)) for value in total]


_NAMES = ("tenant", "agent", "key", "provider", "model")
QUESTIONS = (*_NAMES, "day", "since", "until")  # what usage is asked by
MOST_GROUPS = 10_000
SHOWN = (
    *("attempts", "answers", "failures", "cancelled", "lost", "open"),
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "estimated"),
    *("cost_nanos", "unknown_cost", "cost_usd", "abandoned_cost_usd"),
    *("failed_cost_usd", "hedged_cost_usd", "cancelled_cost_usd", "avg_latency_ms", "avg_first_token_ms"),
)


def unknown_in(filters: Iterable[str], group_by: Iterable[str]) -> str | None:
    """Return the first unknown filter or group, or None."""
    unknown = [name for name in filters if name not in (*_NAMES, "since", "until")]
    return next(iter([*unknown, *(name for name in group_by if name not in (*_NAMES, "day"))]), None)


def by_target(filters: Mapping[str, object], group_by: Sequence[str]) -> bool:
    """Return whether it is asked by provider or model, of which a request may have several."""
    return bool({"provider", "model"} & {*filters, *group_by})


def columns_of(filters: Mapping[str, object], group_by: Sequence[str]) -> list[str]:
    """Return the columns of an answer: they depend on the question alone."""
    requests = ["requests"] if by_target(filters, group_by) else ["requests", "answered"]
    return [*dict.fromkeys(group_by), *requests, *SHOWN]
