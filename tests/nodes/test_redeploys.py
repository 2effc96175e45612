"""Redeploys in a row on a whole site, under 30 requests a second and 100 streams of a minute: nothing is lost."""

import itertools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.nodes.account import not_once, sums_agree
from tests.nodes.load import Load, print_table, quiet
from tests.nodes.site import WORKERS, Site, eventually, running_site

pytestmark = pytest.mark.nodes

REQUESTS = 10_000
RATE, STREAMS = 30.0, 100
LABELS = {name: "breakwater=actors" for name in WORKERS}
SETTLED = 10.0  # seconds after a redeploy

Config = dict[str, Any]


def args(config: Config) -> None:
    """Change what restarts every replica."""
    given = config["applications"][0]["args"]
    given["drop_unsupported"] = "none" if given.get("drop_unsupported") == "all" else "all"


def user_config(config: Config) -> None:
    """Change what restarts none."""
    [ingress] = [each for each in config["applications"][0]["deployments"] if each["name"] == "Ingress"]
    before = ingress.get("user_config", {}).get("breaker", {}).get("failure_threshold", 3)
    ingress["user_config"] = {"breaker": {"failure_threshold": 7 - before}}


def scale(config: Config) -> None:
    """Have one ingress replica less, or one more: with four there is no place for a fifth, which a redeploy needs."""
    [ingress] = [each for each in config["applications"][0]["deployments"] if each["name"] == "Ingress"]
    number = 5 - ingress["autoscaling_config"]["min_replicas"]
    ingress["autoscaling_config"] |= {"min_replicas": number, "max_replicas": number}


CHANGES: tuple[Callable[[Config], None], ...] = (args, user_config, scale)


def test_redeploys_in_a_row_lose_nothing(tmp_path: pathlib.Path) -> None:
    with running_site(tmp_path, LABELS) as site:
        with Load(site, rate=RATE, streams=STREAMS, pace=1.0) as load:
            quiet(10)
            done = list(redeployed(site, load))
        outcome = load.since(0.0, WORKERS)
        print(f"\n{len(done)} redeploys: {', '.join(done)}")
        print_table(("all", outcome))
        assert len(outcome.asked) >= REQUESTS
        assert outcome.lost == []
        assert [each.ended for each in outcome.broken] == []
        assert len(outcome.streamed) >= STREAMS
        eventually(lambda: not_once(site, load) == [])
        assert sums_agree(site)


def redeployed(site: Site, load: Load) -> Iterator[str]:
    """Make one change after the other until enough was asked; yield the name of each."""
    for change in itertools.cycle(CHANGES):
        before = replicas(site)
        change(site.config)
        began = time.monotonic()
        site.deploy(site.config)
        if change is args:
            eventually(lambda known=before: not replicas(site) & known, 240)
        eventually(site.running, 240)
        yield f"{change.__name__} in {time.monotonic() - began:.0f} s"
        quiet(SETTLED)
        if len(load.asked) >= REQUESTS:
            return


def replicas(site: Site) -> set[str]:
    """Return the replicas that run."""
    deployments = site.application()["deployments"].values()
    return {r["replica_id"] for each in deployments for r in each["replicas"] if r["state"] == "RUNNING"}
