"""The explanations of an ingress replica's last requests: by name, and as a list. Pure."""

import json
from collections import OrderedDict
from collections.abc import Iterator
from heapq import nlargest
from typing import Any, cast

import orjson

from actors.ledger.messages import Viewer
from actors.ledger.questions.asked import Asked, Position, cursor_of
from actors.ledger.rows import encode_json
from deployments.telemetry.explain import ExplainedRequest, RequestHead, RequestsPage, head_of, may_see, sees
from deployments.telemetry.request_record import RequestSummary

MOST_REQUESTS = 10_000
MOST_LISTED = 1000  # requests that a page looks at: to read one takes some microseconds


class RecentRequests:
    """The explanations of one ingress replica's last requests.

    Each is kept as JSON, because the garbage collector does not look into bytes.
    """

    def __init__(self, most: int = MOST_REQUESTS):
        self._most = most
        self._explanations: OrderedDict[str, bytes] = OrderedDict()
        # When each began, its tenant, its key and its caller's id.
        self._listed: dict[str, tuple[int, str | None, str | None, str | None]] = {}
        # The caller's id with each who may ask for it: our id of the newest. One caller's word hides no other's.
        self._ids: dict[tuple[str, str, str | None], str] = {}

    def add(self, summary: RequestSummary) -> None:
        head = encode_json(head_of(summary))
        self._explanations[summary.request_id] = f'{head[:-1]},"candidates":{summary.candidates_json}}}'.encode()
        caller = summary.caller
        self._listed[summary.request_id] = summary.began_at, caller.tenant, caller.key_name, caller.request_id
        for place in _places(caller.request_id, caller.tenant, caller.key_name):
            self._ids[place] = summary.request_id
        if len(self._explanations) > self._most:
            oldest, _ = self._explanations.popitem(last=False)
            self._forget(oldest)

    def _forget(self, oldest: str) -> None:
        _, tenant, key, name = self._listed.pop(oldest)
        for place in _places(name, tenant, key):
            if self._ids.get(place) == oldest:
                del self._ids[place]

    def find(self, name: str, viewer: Viewer | None = None) -> ExplainedRequest | None:
        """Return the request with our id; None if it is not here, or the viewer may not see it."""
        data = self._explanations.get(name)
        if data is None:
            return None
        found: ExplainedRequest = json.loads(data)
        return found if may_see(viewer, found) else None

    def page(self, asked: Asked) -> RequestsPage:
        """Return those that are asked for, the newest first, as the ledger does: see its questions/requests.py.

        What the viewer may not see is as if it were not there: its cursor would tell of it.
        """
        listed = self._listed.items()
        seen = ((began_at, name) for name, (began_at, *whose, _) in listed if sees(asked.viewer, *whose))
        older: list[Position] = [place for place in seen if asked.before is None or place < asked.before]
        looked_at = nlargest(MOST_LISTED, older)
        data: list[RequestHead] = []
        for place in looked_at:
            explained: ExplainedRequest = orjson.loads(self._explanations[place[1]])
            if asked.takes(explained):
                data.append(_without_candidates(explained))
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


def _without_candidates(explained: ExplainedRequest) -> RequestHead:
    head: Any = {name: value for name, value in explained.items() if name != "candidates"}
    return cast("RequestHead", head)


def _places(name: str | None, tenant: str | None, key: str | None) -> Iterator[tuple[str, str, str | None]]:
    """Yield under what a caller's id is found: by those who see all, by its tenant, and by its key."""
    if name is not None:
        yield name, "all", None
        if tenant is not None:
            yield name, "tenant", tenant
        if key is not None:
            yield name, "key", key


def _place_of(name: str, viewer: Viewer | None) -> tuple[str, str, str | None]:
    if viewer is None:
        return name, "all", None
    return (name, "key", viewer["key"]) if viewer["tenant"] is None else (name, "tenant", viewer["tenant"])
