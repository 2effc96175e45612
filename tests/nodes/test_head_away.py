"""The head is away, or its Redis: answers go on, failovers are as quick, and what was away comes back by itself."""

import pathlib
import statistics
import time

import pytest

from tests.fakes.server import status
from tests.nodes.account import not_once, sums_agree
from tests.nodes.load import Asked, Load, Outcome, print_table, quiet
from tests.nodes.site import WORKERS, Site, eventually, running_site
from tests.nodes.test_lost_worker import answers

pytestmark = pytest.mark.nodes

AWAY = (5.0, 30.0, 120.0)  # seconds
SETTLED = 20.0  # seconds after the head's start, which takes the cores for a while
LABELS = {name: "breakwater=actors" for name in WORKERS}  # as KubeRay's manifests have it


def failover(site: Site, load: Load) -> list[float]:
    """Have the first provider fail until it is passed over; return how long the requests took that it failed."""
    began = time.monotonic()
    site.fakes["openai"].behave = status(500)
    eventually(lambda: site.get(site.workers[0], "/v1/providers")["provider_states"]["openai"] == "open", 10)
    site.fakes["openai"].reset()
    time.sleep(1)
    recover(site)
    return [each.seconds for each in failed_over(load.asked, began)]


def failed_over(asked: list[Asked], since: float) -> list[Asked]:
    return [each for each in asked if each.began > since and each.by == "google_genai 2"]


def recover(site: Site) -> None:
    site.command(site.workers[0], "reset", "openai")
    eventually(lambda: site.get(site.workers[0], "/v1/providers")["provider_states"]["openai"] == "closed", 10)


def test_while_the_head_is_away_answers_go_on(tmp_path: pathlib.Path) -> None:
    rows: list[tuple[str, Outcome]] = []
    usual, away = list[list[float]](), list[list[float]]()
    with running_site(tmp_path, LABELS) as site:
        with Load(site) as load:
            quiet(10)
            usual += [failover(site, load) for _ in range(5)]
            for seconds in AWAY:
                at = time.monotonic()
                site.head.kill()
                quiet(2)
                if seconds > 10:
                    away += [failover(site, load) for _ in range(5)]
                heard = heard_until(site, at + seconds)
                rows.append((f"the head away for {seconds:g} s", Outcome([a for a in load.asked if a.began > at], [])))
                site.head.start()
                eventually(site.dashboard_answers, 120)
                eventually(site.running, 120)
                quiet(SETTLED)
                assert heard == 1.0, "the breaker was not reachable all the time"
        whole = load.since(0.0, WORKERS)
        print_failover("usually", usual)
        print_failover("while the head was away", away)
        print_table(*rows, ("in all", whole))
        assert whole.lost == []
        assert [each.ended for each in whole.broken] == []
        eventually(lambda: not_once(site, load) == [])
        assert sums_agree(site)


def heard_until(site: Site, until: float) -> float:
    """Return the part of looks at which the breaker was reachable."""
    looks = []
    while not looks or time.monotonic() < until:
        looks.append(answers(site, site.workers[1]))
        time.sleep(0.5)
    return sum(looks) / len(looks)


def print_failover(name: str, runs: list[list[float]]) -> None:
    took = sorted(seconds for run in runs for seconds in run)
    p95 = took[int(0.95 * (len(took) - 1))]
    print(f"\nfailover {name}: {len(took)} requests, median {statistics.median(took):.4f} s, p95 {p95:.4f} s")


def test_redis_is_started_anew_and_nothing_is_lost(tmp_path: pathlib.Path) -> None:
    with running_site(tmp_path, LABELS) as site:
        with Load(site) as load:
            quiet(10)
            site.stop_redis()
            quiet(10)
            print(f"\nthe head {'goes on' if site.head.alive else 'has ended'} without Redis")
            site.start_redis()
            quiet(5)
            site.revive_head()
            eventually(site.running, 120)
            quiet(SETTLED)
        outcome = load.since(0.0, WORKERS)
        print_table(("while Redis was away for 10 s", outcome))
        assert outcome.lost == []
        assert outcome.broken == []
