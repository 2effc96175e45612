"""What one ingress knows of its targets' times, and which of them are slow. Pure.

A target is *slow* while eight of the last twenty calls that were watched took longer than 95 of a hundred of its own
usually do, twice as long as half of them, and longer than 0.7 s. It has not failed: new requests ask the others
first. One in ten asks it still, but at most one in four seconds: four of these that are quick, one after the other,
show that it is itself again. Before a target is known, and once nobody has asked it for a minute, it is not slow. A
failure is for its circuit to judge: it counts for nothing here, and ends what was counted before it.

Times are those until the first content, and are compared within a class of requests (`classes.py`). Those of whole
answers that come at once are not: they say how long an answer was. A call that was ended before its first content
counts with the time that it was given: it would have taken longer. One that still waits counts as soon as it has waited
for so long.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

from deployments.latency.tail import Tail
from deployments.newest import Newest

TARGETS = 500  # a client may name any model of a provider; a class of one takes 3 kB
ENOUGH = 50  # times before a class has a usual one
RECENT, SLOW = 20, 8
FACTOR, LEAST_SECONDS = 2.0, 0.7  # times the median; within so many seconds no first content is late
FORGET_SECONDS = 60.0
ITSELF_AGAIN = 4  # calls of a slow target, one after the other, that take no longer than usual
STILL_FIRST, STILL_SECONDS = 0.1, 4.0  # the share of requests that asks a slow target first; between two of them

Class = str


@dataclass(slots=True)
class _Recent:
    """The last calls that were watched: when each began, and whether it was longer than usual."""

    calls: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=RECENT))
    number: int = 0  # of the long ones
    at: float = 0.0
    tried_at: float = -STILL_SECONDS
    slow_since: float = math.inf

    def add(self, long: bool, began: float, now: float) -> None:
        if now - self.at > FORGET_SECONDS:
            self.clear()
        if len(self.calls) == RECENT:
            self.number -= self.calls[0][1]
        self.calls.append((began, long))
        self.number += long
        self.at = now
        if self.number < SLOW:
            self.slow_since = math.inf
        elif self.slow_since == math.inf:
            self.slow_since = now

    @property
    def itself_again(self) -> bool:
        """Whether the last calls, which have begun since it is slow, were all quick."""
        last = list(self.calls)[-ITSELF_AGAIN:]
        return self.number >= SLOW and all(began > self.slow_since and not late for began, late in last)

    def clear(self) -> None:
        self.calls.clear()
        self.number, self.slow_since = 0, math.inf


@dataclass(slots=True)
class _Waiting:
    """Watched calls that wait for their first content, by class: when each began, and from when on it may be late.

    And those that are late.

    Only so many wait at a time, and each counts once: else the calls that end last would be the longest of a crowd, and
    those that end first its quickest.
    """

    calls: dict[Class, dict[Hashable, tuple[float, float]]] = field(default_factory=dict)
    late: set[Hashable] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        return sum(map(len, self.calls.values())) >= RECENT


class Latencies:
    """A `call` is any object that stands for one call."""

    def __init__(self) -> None:
        self._tails = Newest[tuple[str, Class], Tail](TARGETS)
        self._recent = Newest[str, _Recent](TARGETS)
        self._waiting: dict[str, _Waiting] = {}
        self._at_once = Newest[tuple[str, Class], bool](TARGETS)  # whether a target's whole answers come so

    def __bool__(self) -> bool:
        """Return whether any target may be slow."""
        return bool(self._recent or self._waiting)

    def begin(self, target: str, call: Hashable, kind: Class, now: float, *, of_whole: bool) -> None:
        """Note that a call waits for its first content from now on."""
        tail = self._tails.get((target, kind))
        if tail is None or tail.number < ENOUGH or not self.is_measured(target, kind, of_whole=of_whole):
            return
        if (waiting := self._waiting.get(target)) is None:
            waiting = self._waiting[target] = _Waiting()
        if waiting.is_full:
            return
        waiting.calls.setdefault(kind, {})[call] = now, now + _limit(tail, now)

    def first_content(
        self, target: str, kind: Class, seconds: float, now: float, *, of_whole: bool, call: Hashable = None
    ) -> None:
        """Note that the first content came after so long; `of_whole`: that of a whole answer, which comes in pieces."""
        if of_whole:
            self._at_once[target, kind] = False
        self._note(target, kind, seconds, now, call)

    def whole_answer(self, target: str, kind: Class, call: Hashable = None) -> None:
        """Note that a whole answer came at once. How long it took says how long it was, and nothing of its target."""
        if self._at_once.get((target, kind)) is not True:
            self._at_once[target, kind] = True
        if self._waiting:
            self.forget(target, call)

    def ended(
        self, target: str, kind: Class, seconds: float, now: float, *, of_whole: bool, call: Hashable = None
    ) -> None:
        """Note that a call was ended before its first content: it would have taken longer.

        One that was given less than is usual says nothing.
        """
        tail = self._tails.get((target, kind))
        told = tail is not None and tail.number >= ENOUGH and seconds > _limit(tail, now)
        if told and self.is_measured(target, kind, of_whole=of_whole):
            self._note(target, kind, seconds, now, call)
        else:
            self.forget(target, call)

    def failed(self, target: str, call: Hashable) -> None:
        """Note that a call has failed. What its target's circuit judges is not judged here too, nor what was before."""
        self.forget(target, call)
        self.begin_anew(target)

    def begin_anew(self, target: str) -> None:
        """Forget the last calls, as its circuit does that has moved, or that an operator has reset."""
        if (recent := self._recent.get(target)) is not None:
            recent.clear()

    def forget(self, target: str, call: Hashable) -> Literal["", "waiting", "late"]:
        """Take a call for one that waits no longer; return what it was until now, if it was watched."""
        if (waiting := self._waiting.get(target)) is None:
            return ""
        found: Literal["", "waiting", "late"] = "late" if call in waiting.late else ""
        waiting.late.discard(call)
        for kind, calls in waiting.calls.items():
            if calls.pop(call, None) is not None:
                found = "waiting"
                if not calls:
                    del waiting.calls[kind]
                break
        if not (waiting.calls or waiting.late):
            del self._waiting[target]
        return found

    def is_measured(self, target: str, kind: Class, *, of_whole: bool) -> bool:
        """Return whether a first content can be waited for: a target's whole answers may come at once."""
        return not of_whole or self._at_once.get((target, kind)) is False

    def slow(self, target: str, now: float) -> bool:
        if target in self._waiting:
            self._count_late(target, now)
        recent = self._recent.get(target)
        return recent is not None and recent.number >= SLOW and now - recent.at <= FORGET_SECONDS

    def slow_targets(self, now: float) -> list[str]:
        return [target for target in self._recent if self.slow(target, now)]

    def try_first(self, target: str, now: float) -> bool:
        """Return whether a request may ask a slow target first, to see whether it is itself again. It then does."""
        recent = self._recent.get(target)
        if recent is None or now - recent.tried_at < STILL_SECONDS:
            return recent is None
        recent.tried_at = now
        return True

    def known(self, target: str, kind: Class) -> Tail | None:
        """Return the distribution of a target's times; None if there is none."""
        return self._tails.get((target, kind))

    def _note(self, target: str, kind: Class, seconds: float, now: float, call: Hashable) -> None:
        """Note that a call took so long, or would have taken longer. One that was late has counted as long."""
        tail, was_slow = self._tail(target, kind, now), self.slow(target, now)
        watched = self.forget(target, call)
        long = watched == "late" or (tail.number >= ENOUGH and seconds > _limit(tail, now))
        if watched == "waiting":
            recent = self._last(target)
            recent.add(long, now - seconds, now)
            # Quick calls end before slow ones that began with them: while one of those waits, they say nothing.
            if recent.itself_again and not self._waits_since(target, recent.slow_since):
                recent.clear()
        if not (long and was_slow):  # what is usual is not learned from a target that is not itself
            tail.add(seconds, now)

    def _count_late(self, target: str, now: float) -> None:
        """Count the calls that have waited for too long by now: once each, and before they end."""
        waiting = self._waiting[target]
        for kind, calls in [*waiting.calls.items()]:
            while calls:
                call, (began, late_at) = next(iter(calls.items()))
                if now < late_at:
                    break
                # What is usual may have been learned from the quickest calls of a crowd: by now more is known.
                if now < (late_at := began + _limit(self._tail(target, kind, now), now)):
                    calls[call] = began, late_at
                    break
                del calls[call]
                waiting.late.add(call)
                self._last(target).add(True, began, now)
            if not calls:
                del waiting.calls[kind]

    def _waits_since(self, target: str, since: float) -> bool:
        waiting = self._waiting.get(target)
        return waiting is not None and any(b > since for calls in waiting.calls.values() for b, _ in calls.values())

    def _last(self, target: str) -> _Recent:
        if (recent := self._recent.get(target)) is None:
            recent = self._recent[target] = _Recent()
        return recent

    def _tail(self, target: str, kind: Class, now: float) -> Tail:
        found = self._tails.get((target, kind))
        if found is None:
            found = self._tails[target, kind] = Tail(now)
        return found


def _limit(tail: Tail, now: float) -> float:
    """Return the seconds beyond which a call is long."""
    return max(tail.percentile(0.95, now), FACTOR * tail.percentile(0.5, now), LEAST_SECONDS)
