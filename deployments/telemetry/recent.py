"""The explanations of an ingress replica's last requests: by name, and as a list. Pure."""

from collections import OrderedDict
from collections.abc import Iterator
from heapq import nlargest

from actors.ledger.messages import Viewer
from actors.ledger.questions.asked import Asked, Position, cursor_of
from deployments.telemetry.explain import (
    BEGAN_AT,
    CALLERS_ID,
    KEY,
    TENANT,
    ExplainedRequest,
    Kept,
    RequestHead,
    RequestsPage,
    explained,
    head_of,
    kept_of,
    may_see,
    sees,
)
from deployments.telemetry.request_record import RequestSummary

MOST_REQUESTS = 10_000
MOST_LISTED = 1000  # requests that a page looks at: to read one takes some microseconds


class RecentRequests:
    """The explanations of one ingress replica's last requests.

    Each is kept as one flat tuple, because the garbage collector does not look into what holds no other container. What
    somebody reads is made of it when he asks.
    """

    def __init__(self, most: int = MOST_REQUESTS):
        self._most = most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        # The caller's id with each who may ask for it: our id of the newest. One caller's word hides no other's.
        self._ids: dict[tuple[str, str, str | None], str] = {}

    def add(self, summary: RequestSummary) -> None:
        self._kept[summary.request_id] = kept = kept_of(summary)
        if (name := kept[CALLERS_ID]) is not None:
            for place in _places(name, kept[TENANT], kept[KEY]):
                self._ids[place] = summary.request_id
        if len(self._kept) > self._most:
            self._forget(*self._kept.popitem(last=False))

    def _forget(self, oldest: str, kept: Kept) -> None:
        if (name := kept[CALLERS_ID]) is not None:
            for place in _places(name, kept[TENANT], kept[KEY]):
                if self._ids.get(place) == oldest:
                    del self._ids[place]

    def find(self, name: str, viewer: Viewer | None = None) -> ExplainedRequest | None:
        """Return the request with our id; None if it is not here, or the viewer may not see it."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        found = explained(kept)
        return found if may_see(viewer, found) else None

    def page(self, asked: Asked) -> RequestsPage:
        """Return those that are asked for, the newest first, as the ledger does: see its questions/requests.py.

        What the viewer may not see is as if it were not there: its cursor would tell of it.
        """
        seen = (
            (kept[BEGAN_AT], name) for name, kept in self._kept.items() if sees(asked.viewer, kept[TENANT], kept[KEY])
        )
        older: list[Position] = [place for place in seen if asked.before is None or place < asked.before]
        looked_at = nlargest(MOST_LISTED, older)
        data: list[RequestHead] = []
        for place in looked_at:
            if asked.takes(head := head_of(self._kept[place[1]])):
                data.append(head)
            if len(data) == asked.limit:
                break
        last = place if looked_at else None
        more = last is not None and last != min(older)
        return {
            "data": data,
            "next": cursor_of(last) if last is not None and more else None,
            "looked_back_to": last[0] if last is not None else 0,
        }

    def find_named(self, name: str, viewer: Viewer | None = None) -> ExplainedRequest | None:
        """Return the newest request with the caller's id that the viewer may see; None if it is not here."""
        ours = self._ids.get(_place_of(name, viewer))
        return None if ours is None else self.find(ours, viewer)


def _places(name: str, tenant: str | None, key: str | None) -> Iterator[tuple[str, str, str | None]]:
    """Yield under what a caller's id is found: by those who see all, by its tenant, and by its key."""
    yield name, "all", None
    if tenant is not None:
        yield name, "tenant", tenant
    if key is not None:
        yield name, "key", key


def _place_of(name: str, viewer: Viewer | None) -> tuple[str, str, str | None]:
    if viewer is None:
        return name, "all", None
    return (name, "key", viewer["key"]) if viewer["tenant"] is None else (name, "tenant", viewer["tenant"])
