"""Prints requests as they end, until Ctrl-C.

The list is ordered by when a request began, and a request is in it for good once it is over. So each look goes back
over what may still end, and prints what it has not printed before.
"""

import json
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from deployments.cli.server.errors import Refused, ServerError, Unreachable
from deployments.cli.server.options import Asking
from deployments.cli.terminal.printing import Cell, pass_on, say, tell
from deployments.cli.terminal.request_lines import HEAD, cells_of, line_of

SECONDS = 2.0  # between two looks
LOOKED_BACK = 180.0  # seconds: a request that took longer is not seen
MOST_OF_A_PAGE, MOST_PAGES = 200, 5  # of one look: what is more since the last one is not seen
MOST_SEEN = 20_000


def follow(asking: Asking, params: Mapping[str, str], first: int, looks: int | None = None) -> None:
    """Print the last requests, and then each new one. `looks` ends it, for a test."""
    followed = Followed(asking, params)
    heads = followed.begin(first)
    if not asking.as_json:
        say(line_of([Cell(name) for name in HEAD]))
    while True:
        for head in heads:
            _print(asking, head)
        if looks is not None and (looks := looks - 1) < 0:
            return
        time.sleep(SECONDS)
        heads = followed.look()


def _print(asking: Asking, head: Mapping[str, Any]) -> None:
    if asking.as_json:
        pass_on(json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        return
    cells = cells_of(head)
    say(line_of(cells), cells[3].style if cells[3].style != "green" else "")
    sys.stdout.flush()


class Followed:
    """What was printed, and how far back a look goes."""

    def __init__(self, asking: Asking, params: Mapping[str, str]):
        self._asking, self._params = asking, params
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._open: dict[str, float] = {}  # when each began that was under way at the last look
        self._newest = 0.0  # milliseconds since the epoch
        self._away = False

    def begin(self, first: int) -> list[Mapping[str, Any]]:
        """Return the last requests, the oldest first. What can't be asked now ends it."""
        page = self._page({"limit": str(MOST_OF_A_PAGE)})
        over = list(self._new(page["data"]))
        return over[-first:]

    def look(self) -> list[Mapping[str, Any]]:
        """Return the requests that ended since the last look, the oldest first.

        A server that is away for a while is said once. One that refuses the key ends it.
        """
        try:
            found = self._found()
        except Refused:
            raise
        except (Unreachable, ServerError) as error:
            if not self._away:
                tell(f"{error} It is asked again until it answers.")
            self._away = True
            return []
        if self._away:
            tell(f"{self._asking.server.url} answers again.")
        self._away = False
        return list(self._new(found))

    def _found(self) -> list[Mapping[str, Any]]:
        since = {} if not self._newest else {"since": f"{self._newest / 1000 - LOOKED_BACK:.3f}"}
        params: dict[str, str] = {**since, "limit": str(MOST_OF_A_PAGE)}
        found: list[Mapping[str, Any]] = []
        for _ in range(MOST_PAGES):
            page = self._page(params)
            found += page["data"]
            if page["next"] is None or any(map(self._has_told_all_before, page["data"][-1:])):
                break
            params["before"] = page["next"]
        return found

    def _has_told_all_before(self, head: Mapping[str, Any]) -> bool:
        """Return whether what began before this one was told, and is over: a request that was open may end late."""
        return head["request_id"] in self._seen and head["began_at"] < min(self._open.values(), default=math.inf)

    def _page(self, params: Mapping[str, str]) -> Any:
        return self._asking.server.get("/v1/requests", {**self._params, **params}).data

    def _new(self, heads: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for head in reversed(heads):
            self._newest = max(self._newest, head["began_at"])
            if head["outcome"] == "open":
                self._open[head["request_id"]] = head["began_at"]
            elif head["request_id"] not in self._seen:
                self._seen[head["request_id"]] = None
                self._open.pop(head["request_id"], None)
                yield head
        looked_at = self._newest - 1000 * LOOKED_BACK
        self._open = {name: began for name, began in self._open.items() if began >= looked_at}
        while len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
