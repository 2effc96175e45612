"""What a client's words, or a provider's, can make grow. The tests here fill a thing far beyond its bound.

Of the last requests, of reports, of rows, of streams and of labels the tests stand beside their other tests. The bound
of the rates of tokens has no test of its own yet.

| what | bound | what is lost with what goes |
|---|---|---|
| circuits of functions, in the breaker actor | 256 | a closed circuit without a failure, so nothing |
| an ingress's own circuits | those of the actor | what the actor has forgotten too |
| usual pauses, and silent targets, of streams | 1000 targets | a sign of stalls: the idle limit still holds |
| usual times of answers | 1000 targets | how much of a deadline a tier is given |
| usual times of first contents, and which targets are slow | 500 targets and classes | what is slow is learned anew |
| results of second legs | 1000 pairs of targets | whether they are worth it is learned anew |
| shapes of chats, by which it is known who takes them | 1000 | a chat of such a shape is looked at anew |
| rates of tokens | 1000 pairs of target and caller | estimates of cut streams begin anew |
| lessons of refusals | 1024 targets, 64 of each | one more refusal, of which the tier is asked again |
| an ingress's last requests | 10,000 | nothing: the ledger has them |
| limits at a replica | 10,000 names, and those with requests under way | what was spent while the ledger was away |
| a minute's use at the ledger actor | 200,000 names | the limits of those names begin anew; rows are kept |
| a month's cost at the ledger actor | 200,000 names | the same, of those who have spent least |
| reports that wait for the breaker actor | 10,000 | the oldest reports |
| rows that wait for the ledger | 64 MB in a journal | the oldest rows, counted as dropped |
| a stream's frames before its first content | 4 MiB | the attempt: it is malformed |
| a stream's choices, and a choice's calls | 128, 1024 | the attempt: it is malformed |
| labels of metrics | words of the configuration | names of clients are `other` |
"""

from actors.breaker.circuit import Breaker, Policy, Report, State
from actors.breaker.outcomes import Verdict
from actors.breaker.registry import GUESTS, Registry
from actors.ledger.budget import Counters, Limit, Limits, Spend
from deployments.breaker_client.local_breaker import LocalBreaker
from deployments.breaker_client.response_times import TARGETS, ResponseTimes
from deployments.breaker_client.stalls import TARGETS as STALLS
from deployments.breaker_client.stalls import StallDetector
from deployments.latency.hedging import ROWS, Hedges
from deployments.latency.latencies import ENOUGH, Latencies
from deployments.latency.latencies import TARGETS as LATENCIES
from deployments.openai_api.chat import check_request
from deployments.routing.concessions import Lesson
from deployments.routing.model_rows import SHAPES, ModelRows
from deployments.routing.refusals import MOST_LESSONS, MOST_TARGETS, Refusals
from deployments.usage.budget import Budget, Reservation

NOW = 1_790_000_000_000


def test_functions_have_so_many_circuits() -> None:
    registry = Registry(Policy())
    for number in range(10 * GUESTS):
        registry.expect([f"p{number}/functions/{number}"], float(number))
    assert len(registry.breakers) == len(registry.stats) == GUESTS


def test_an_ingress_keeps_no_circuit_of_a_target_that_the_actor_has_forgotten() -> None:
    own = LocalBreaker(Policy())
    for number in range(1000):
        own.note(f"p/functions/{number}", Report(epoch=0, verdict=Verdict.FAILED_START), 1.0, closed=True)
    own.keep({"p/functions/7": Breaker(state=State.CLOSED)})
    assert list(own._circuits) == ["p/functions/7"]


def test_times_and_results_of_targets_that_nobody_asks_again_are_forgotten() -> None:
    times, hedges = Latencies(), Hedges()
    for number in range(3 * LATENCIES):
        target, kind = f"openai/{number}", str(number)
        for _ in range(ENOUGH):
            times.first_content(target, kind, 0.5, 0.0, of_whole=True)
        times.begin(target, "call", kind, 0.0, of_whole=False)
        times.first_content(target, kind, 0.5, 0.5, of_whole=True, call="call")
        hedges.is_worth("first", f"openai/{number}", 0.0)
    assert len(times._tails) == len(times._recent) == len(times._at_once) == LATENCIES
    assert not times._waiting
    assert len(hedges._results) == ROWS


def test_silent_targets_that_nobody_asks_again_are_forgotten() -> None:
    silence = StallDetector()
    for number in range(10 * STALLS):
        target = f"openai/{number}"
        for stream in (1, 2):
            silence.wait(target, stream, 0.0)
        assert silence.quiet(target, 5.0)
        for stream in (1, 2):
            silence.gone(target, stream)
    assert len(silence._quiet) == STALLS
    assert not silence._waiting


def test_the_times_of_so_many_targets_are_known() -> None:
    times = ResponseTimes()
    for number in range(10 * TARGETS):
        times.note(f"openai/{number}", "chat", 1.0)
        times.cut(f"aws/{number}", "embed", 1.0)
    assert len(times._times) == TARGETS


def test_so_many_lessons_are_remembered() -> None:
    refusals = Refusals(lambda: 0.0)
    for number in range(10 * MOST_TARGETS):
        refusals.learn(f"openai/{number}", [Lesson("seed")])
    refusals.learn("openai/x", [Lesson("seed", value=str(number)) for number in range(10 * MOST_LESSONS)])
    assert len(refusals._of) == MOST_TARGETS
    assert len(refusals._of["openai/x"]) == MOST_LESSONS


def test_so_many_shapes_of_chats_are_known() -> None:
    rows = ModelRows({"row": ["openai/gpt"]}, {"openai": "openai"})
    for number in range(2 * SHAPES):
        chat = {"model": "row", "messages": [{"role": "user", "content": "Hi"}], "seed": number}
        assert rows.takers(check_request(chat)) == ("openai/gpt",)
    assert len(rows._as_they_are) == SHAPES


def names(number: int) -> list[str]:
    return [f"tenant:{number}", f"key:{number}"]


def test_the_limits_of_made_up_names_are_bounded_while_the_ledger_is_away() -> None:
    budget = Budget(Limits(each={"tenant": Limit(5, monthly_cost=9), "key": Limit(5)}), most=50)
    budget.fail()
    for number in range(500):
        held = budget.reserve(names(number), (1, 5, 1), NOW, 0.0, patient=False)
        assert isinstance(held, Reservation)
        held.begin()
        budget.spent(names(number), Spend(NOW, requests=1))
        held.release()
        budget.spent(names(number), Spend(NOW, tokens=5, cost=1))
        budget.cut(number)
        budget.report(number, NOW, 0.0)
    assert len(budget._standings) == 50
    assert len(budget._claimed | budget._changed | budget._ours) <= 50
    assert sum(len(spent) for _, spent in budget._sent) <= 50


def test_a_name_with_a_request_under_way_outlives_all_that_are_made_up() -> None:
    budget = Budget(Limits(each={"tenant": Limit(tokens_per_minute=10)}), most=5)
    budget.fail()
    held = budget.reserve(["tenant:acme"], (1, 9, 0), NOW, 0.0, patient=False)
    for number in range(200):
        budget.spent([f"tenant:{number}"], Spend(NOW, tokens=5))
    assert isinstance(held, Reservation)
    assert budget._standings["tenant:acme"].shares[0].held == 9
    assert len(budget._standings) == 5


def test_what_is_spent_again_by_a_name_that_was_forgotten_is_not_taken_off_twice() -> None:
    budget = Budget(Limits(each={"tenant": Limit(tokens_per_minute=100)}), most=1)
    budget.spent(["tenant:a"], Spend(NOW, tokens=30))
    budget.cut(1)
    budget.spent(["tenant:b"], Spend(NOW, tokens=1))  # takes the place of the first
    budget.spent(["tenant:a"], Spend(NOW, tokens=20))
    budget.acknowledge(1, {"number": 1, "store": "up", "totals": {}}, 1.0)
    assert budget._standings["tenant:a"].shares[0].spent == 20


def test_the_ledgers_counters_are_bounded_and_those_who_spend_most_stay() -> None:
    counters = Counters(most=100)
    counters.add("tenant:acme", Spend(NOW, tokens=1, cost=10**9))
    for number in range(2000):
        counters.add(f"tenant:{number}", Spend(NOW, requests=1, tokens=5, cost=1))
    assert len(counters._minutes) <= 200
    assert all(len(costs) <= 200 for costs in counters._months.values())
    assert counters.used("tenant:acme", "monthly_cost", "2026-09") == 10**9
