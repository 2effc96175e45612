"""What targets have refused of earlier requests: hints that the next requests leave out. No Ray.

A target that is not known refuses a field with a 400. If the field is a hint, the request is asked once more without
it. Once the target has taken the request so, its next requests leave it out from the beginning, for an hour: a name
may mean another model by then. Where only a value was refused, only that value is.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actors.breaker.plan import Target
from deployments.openai_api.json_types import JsonObject
from deployments.routing.concessions import Lesson

KEPT_SECONDS, MOST_TARGETS, MOST_LESSONS = 3600.0, 1024, 64


@dataclass(frozen=True, slots=True)
class Conceded:
    """A request as a target is known to take it, and the hints that were left out."""

    body: JsonObject
    dropped: tuple[str, ...] = ()


class Refusals:
    """The hints that each target refuses, as one replica has learned them. `now` is in seconds, monotonic.

    Of each target the latest `MOST_LESSONS` are kept, and refused values go first: a client may send any number.
    """

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._of: OrderedDict[Target, OrderedDict[Lesson, float]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._of)

    def learn(self, target: Target, lessons: Iterable[Lesson]) -> None:
        """Remember what a target refused, now that it has taken the request without it."""
        known = self._of.setdefault(target, OrderedDict())
        for lesson in lessons:
            known[lesson] = self._now() + KEPT_SECONDS
            known.move_to_end(lesson)
        while len(known) > MOST_LESSONS:
            del known[next((one for one in known if one.value is not None), next(iter(known)))]
        self._of.move_to_end(target)
        while len(self._of) > MOST_TARGETS:
            self._of.popitem(last=False)

    def adapt(self, target: Target, body: JsonObject) -> Conceded:
        """Return the request without what the target is known to refuse."""
        known, now, dropped, in_json = self._of.get(target), self._now(), list[str](), dict[str, str]()
        for lesson in [one for one, until in known.items() if now < until] if known else ():
            if lesson.holds(body, in_json):
                body = lesson.apply(body)
                in_json.pop(lesson.name, None)
                if lesson.instead is None:
                    dropped.append(lesson.name)
        return Conceded(body, tuple(dropped))
