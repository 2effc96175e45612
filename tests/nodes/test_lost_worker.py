"""A worker is lost in each way that a machine can be: who asks at the other one notices next to nothing.

Each is tried with the breaker and the ledger on it, and with them on the other one. The tables have the figures.
"""

import pathlib
import time
from collections.abc import Callable

import pytest

from tests.nodes.account import not_once, sums_agree
from tests.nodes.load import Load, Outcome, print_table, quiet
from tests.nodes.machine import Machine
from tests.nodes.site import Site, eventually, running_site

pytestmark = pytest.mark.nodes

FAULTS: dict[str, Callable[[Machine], None]] = {
    "killed": Machine.kill_raylet,
    "frozen": Machine.freeze,
    "cut": Machine.cut,
    "terminated": Machine.terminate,
}
DYING = 1.5  # seconds that the processes of a killed raylet go on, and take requests
IDLE, COVER = 15.0, 3.0  # the longest silence of a stream, and how late that may be noticed


@pytest.mark.parametrize("with_actors", [True, False], ids=["with the actors", "without the actors"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_worker_is_lost(tmp_path: pathlib.Path, fault: str, with_actors: bool) -> None:
    victim, survivor = "two", "one"
    labels = {victim if with_actors else survivor: "breakwater=actors"}
    with running_site(tmp_path, labels) as site:
        check_placement(site, victim if with_actors else survivor)
        with Load(site) as load:
            quiet(15)
            before = Outcome(list(load.asked), [])
            load.entries[:] = [site.machines[survivor]]  # the Service knows it within seconds, or has drained it
            time.sleep(0.1)
            at = time.monotonic()
            FAULTS[fault](site.machines[victim])
            back = breaker_is_back(site, site.machines[survivor], at, 60.0) if with_actors else 0.0
            quiet(at + 60 - time.monotonic())
        after = load.since(at, [survivor])
        print(f"\n{fault}: the breaker was heard again after {back:.1f} s")
        print_table(("before", before), ("of the survivor", after))
        for each in after.broken:
            print(f"{each.began - at:.1f} to {each.last - at:.1f} s: {each.ended}, silent for {each.gap:.1f} s")
        check_survivors(after, at, fault)
        if fault == "terminated":  # neither its replicas nor our actors hold it up
            eventually(lambda: not site.machines[victim].alive, 120)
        if fault == "killed":
            check_that_it_comes_back(site, load, site.machines[victim])


def check_placement(site: Site, home: str) -> None:
    for name, machines in site.placement().items():
        assert {"one", "two"} == set(machines), name
    eventually(lambda: all(site.machine_of(f"llm-{role}") == home for role in ("breaker", "ledger")))


def breaker_is_back(site: Site, entry: Machine, at: float, seconds: float) -> float:
    """Return after how many seconds the breaker answers that did not answer after the fault."""
    eventually(lambda: not answers(site, entry), seconds)
    eventually(lambda: answers(site, entry), seconds)
    return time.monotonic() - at


def answers(site: Site, entry: Machine) -> bool:
    try:
        return site.breaker_answers(entry)
    except (OSError, KeyError, ValueError):
        return False


def check_survivors(after: Outcome, at: float, fault: str) -> None:
    """Each request is answered; a stream is whole, or ends with an error of ours and soon."""
    dying = DYING if fault == "killed" else 0.0
    assert [each for each in after.lost if each.began - at > dying] == []
    assert after.longest < IDLE + COVER
    ends = {each.ended for each in after.broken}
    if fault == "terminated":
        assert ends == set()
    else:
        assert ends <= {"error frame stream_interrupted"}, ends
    assert after.longest_gap < IDLE + COVER


def check_that_it_comes_back(site: Site, load: Load, victim: Machine) -> None:
    """The rows that lay on its disk are in the store once it serves again, each once."""
    survivor = site.machines["one"]
    missing = eventually(lambda: site.get(survivor, "/v1/providers")["ledger"]["missing"], 60)
    print(f"{missing} journals are missing; {len(not_once(site, load))} answered requests are not in the store")
    victim.kill()
    victim.start()
    eventually(lambda: len(site.nodes()) == 3, 120)
    eventually(lambda: "two" in site.placement()["Ingress"], 120)
    eventually(lambda: not_once(site, load) == [], 60)
    eventually(lambda: site.get(survivor, "/v1/providers")["ledger"]["missing"] == 0, 30)
    assert sums_agree(site)
