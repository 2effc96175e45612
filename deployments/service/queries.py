"""Queries about finished requests: one request explained, and usage by tenant, agent, provider or model. No Ray."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from actors.ledger.messages import QuestionTooLong, UnknownQuestion, Viewer
from actors.ledger.questions.asked import WrongFilter, asked
from actors.ledger.rollup import QUESTIONS, unknown_in
from deployments.errors import BadRequest, BreakwaterError, NotFound, Unavailable, error_dict
from deployments.openai_api.json_types import JsonObject
from deployments.telemetry.explain import ExplainedRequest, RequestsPage, from_ledger, head_from_ledger, may_see
from deployments.telemetry.recent import RecentRequests

if TYPE_CHECKING:
    from deployments.usage.ledger_client import LedgerClient

log = logging.getLogger(f"ray.serve.{__name__}")

USAGE_SECONDS = 10.0  # how long a query may take the ledger, which stops its work before: store.QUESTION_SECONDS
CAUGHT_UP_SECONDS = 2.0  # how long usage by handle waits for the last rows; they leave twice a second
SHARED_SECONDS = 2.0  # so long the pages of this replica share what they ask of the traffic

_Answer = TypeVar("_Answer")


class RequestsAnswer(RequestsPage):
    """The answer of `/v1/requests`."""

    object: str
    source: str  # ledger, or memory: of this replica alone, while the ledger is away


class Queries:
    """`recent` holds the last requests of this replica. All others are in the ledger, if there is one."""

    def __init__(self, recent: RecentRequests, ledger: "LedgerClient | None"):
        self._recent = recent
        self._ledger = ledger
        self._asked: dict[str, tuple[float, asyncio.Task[Any]]] = {}  # until when each is shared, on the loop's clock

    async def request(self, name: str, viewer: Viewer | None = None) -> ExplainedRequest:
        """Return the explanation of a request, by our id or by its `x-request-id`: see telemetry/explain.py.

        Of several with this `x-request-id` it is the newest that the viewer may see; without a viewer, the newest.
        Raises NotFound, and Unavailable if the ledger is needed and does not answer.
        """
        found = self._recent.find(name, viewer) or await self._find_named(name, viewer)
        if found is None:
            # Another tenant's request must look the same as an unknown one.
            raise NotFound(f"The request '{name}' is not known.")
        return found

    async def _find_named(self, name: str, viewer: Viewer | None) -> ExplainedRequest | None:
        """Return a request that is not here by our id. It may be in the ledger by it, which goes before all others."""
        here = self._recent.find_named(name, viewer)
        if self._ledger is None:
            return here
        try:
            rows = await self._answer(self._ledger.request(name, viewer))
        except Unavailable:
            if here is None:
                raise
            return here
        there = None if rows is None else from_ledger(rows["request"], rows["attempts"])
        if there is None or not may_see(viewer, there):
            return here
        if here is None or there["request_id"] == name:
            return there
        # What has just ended is not in the ledger yet.
        return max(here, there, key=lambda found: found["began_at"])

    async def usage(self, filters: Mapping[str, object], group_by: Sequence[str] = ()) -> Sequence[JsonObject]:
        """Return the usage of each group: see actors/ledger/questions/usage.py. Raises BadRequest and Unavailable."""
        if (name := unknown_in(filters, group_by)) is not None:
            raise BadRequest(f"'{name}' is no filter or group of usage. Known names: {', '.join(QUESTIONS)}.", name)
        if self._ledger is None:
            raise _ledger_unavailable()
        return await self._answer(self._ledger.usage(filters, group_by))

    async def requests(
        self,
        filters: Mapping[str, object],
        before: str | None = None,
        limit: int | str | None = None,
        viewer: Viewer | None = None,
    ) -> RequestsAnswer:
        """Return a page of requests, the newest first: see actors/ledger/questions/asked.py. Raises BadRequest.

        Without the ledger it is one of what this replica remembers, and `source` says so.
        """
        try:
            wanted = asked(filters, before, limit, viewer)
        except WrongFilter as error:
            raise BadRequest(f"The requests can't be listed so: {error}.", error.name) from error
        if self._ledger is not None:
            try:
                page = await self._newer(self._ledger.requests(filters, before, wanted.limit, viewer))
            except LedgerAway:
                if before is not None:  # the list of the ledger would end as if it were whole
                    raise
            else:
                data = [head_from_ledger(row["request"], row["attempts"]) for row in page["data"]]
                after, back = page["next"], page["looked_back_to"]
                return {"object": "list", "data": data, "next": after, "looked_back_to": back, "source": "ledger"}
        return {"object": "list", **self._recent.page(wanted), "source": "memory"}

    async def traffic(self) -> JsonObject:
        """Return the last hour and the last day: see actors/ledger/questions/traffic.py. Raises Unavailable.

        All who ask within two seconds share one answer.
        """
        if self._ledger is None:
            raise _ledger_unavailable()
        told: JsonObject = await self._shared("traffic", self._ledger.traffic)
        return told

    async def limits(self, only: Collection[str] | None = None) -> Sequence[JsonObject]:
        """Return what is used of each limit, of all subjects or `only` these. Raises Unavailable.

        See actors/ledger/questions/used.py.
        """
        if self._ledger is None:
            return []
        if only is None:
            used: Sequence[JsonObject] = await self._shared("limits", self._ledger.limits)
            return used
        return await self._newer(self._ledger.limits(only))

    async def _shared(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Return the answer to a question that all pages of this replica ask, and that is asked once in a while."""
        now = asyncio.get_running_loop().time()
        until, answer = self._asked.get(name, (0.0, None))
        if answer is None or (answer.done() and now >= until):
            answer = asyncio.create_task(self._newer(ask()))
            self._asked[name] = now + SHARED_SECONDS, answer
            answer.add_done_callback(lambda of: of.cancelled() or of.exception())  # who asked may have left
        return await asyncio.shield(answer)

    async def _newer(self, asked: Awaitable[_Answer]) -> _Answer:
        """Return the answer to a question that not every version of the ledger actor knows, and that is well made."""
        try:
            return await self._answer(asked)
        except BadRequest as error:
            raise Unavailable(
                "The ledger actor is of an earlier version, and is replaced in a moment. Try again soon."
            ) from error

    async def _answer(self, asked: Awaitable[_Answer]) -> _Answer:
        try:
            async with asyncio.timeout(USAGE_SECONDS):
                return await asked
        except UnknownQuestion as error:
            raise BadRequest(f"The ledger can't answer this question: {_reason(error)}.") from error
        except QuestionTooLong as error:
            raise Unavailable(
                "The ledger stopped this question because it took too long. Ask for less: by a filter, by fewer names,"
                " or by whole days (UTC)."
            ) from error
        except Exception as error:
            log.warning("The ledger did not answer a question: %s: %s", type(error).__name__, _reason(error))
            raise _ledger_unavailable() from error

    async def usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> JsonObject:
        """Return the usage of a tenant, an agent, or all: the totals, and `by_model` a list by provider and model.

        `complete` says whether all that this replica has answered so far is in it: for that it waits, so long at most.
        An error is returned as a dict.
        """
        filters = {k: v for k, v in (("tenant", tenant_id), ("agent", agent_id)) if v is not None}
        complete = self._ledger is not None and await self._ledger.caught_up(CAUGHT_UP_SECONDS)
        try:
            total, *_ = await self.usage(filters) or [{}]
            models = await self.usage(filters, ["provider", "model"])
        except BreakwaterError as error:
            return error_dict(error)
        return {"tenant_id": tenant_id, "agent_id": agent_id, **total, "by_model": models, "complete": complete}


class LedgerAway(Unavailable):
    """The ledger can't be asked, whatever the question is."""


def _ledger_unavailable() -> LedgerAway:
    return LedgerAway("The ledger did not answer. Requests are still served and recorded; try this query again soon.")


def _reason(error: Exception) -> str:
    """Return the ledger's own words. Ray's error of an actor holds the error itself as its cause."""
    return str(getattr(error, "cause", None) or error)
