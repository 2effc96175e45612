"""Whatever the places of a provider do, and share: nobody is asked in vain, and nobody who would answer is left out."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.breaker.circuit import Mode, Policy
from actors.breaker.outcomes import Outcome
from actors.breaker.plan import CircuitSnapshot, State, plan
from actors.breaker.registry import Registry
from deployments.errors import NoAnswer
from tests.clock import run_virtually
from tests.unit.test_failover import complete
from tests.unit.world import World, world

OF_THE_HOST, OF_THE_BUCKET, OF_THE_KEY = ("connect", "server_error", "overloaded"), ("throttled", "quota"), "credential"


@dataclass(frozen=True)
class Drawn:
    """One place: where it is, what it is counted against, and how a call of it ends. None: it answers."""

    host: int
    bucket: int
    kind: str | None

    @property
    def outcome(self) -> Outcome | None:
        status = {"throttled": 429, "quota": 402, "credential": 401, "server_error": 500}.get(self.kind or "")
        return None if self.kind is None else Outcome(self.kind, status=status)


KINDS = st.none() | st.sampled_from([*OF_THE_HOST, *OF_THE_BUCKET, OF_THE_KEY])
DRAWN = st.lists(st.builds(Drawn, st.integers(0, 2), st.integers(0, 2), KINDS), min_size=1, max_size=6)


def args(places: list[Drawn], order: str) -> dict[str, Any]:
    listed = [
        {
            "name": f"n{at}",
            "api_key_env": f"KEY_{at}",
            "base_url": f"http://h{p.host}.example",
            "bucket": f"b{p.bucket}",
        }
        for at, p in enumerate(places)
    ]
    providers = {"p": {"kind": "openai", "places": listed, "places_order": order}}
    return {"providers": providers, "models": {"default": {"p": "m"}}}


async def asked_in(w: World, number: int) -> tuple[list[int], bool]:
    """Return which places a request has asked, in order, and whether it was answered."""
    try:
        record = (await complete(w)).record
        entries, answered = record.entries, True
    except NoAnswer as error:
        entries, answered = error.attempts, False
    assert {entry["place"] for entry in entries} <= {f"n{at}" for at in range(number)}
    return [int(e["place"][1:]) for e in entries if not e["outcome"].startswith("skipped")], answered


@settings(max_examples=150)
@given(DRAWN, st.sampled_from(["listed", "spread"]))
def test_each_failure_is_met_once_and_a_place_that_shares_none_is_asked(places: list[Drawn], order: str) -> None:
    async def main() -> None:
        async with world(args(places, order)) as w:
            for at, place in enumerate(places):
                w.provider(f"p#n{at}").ends = [place.outcome]
            asked, answered = await asked_in(w, len(places))
            failed = [places[at] for at in asked if places[at].kind is not None]
            hosts = [p.host for p in failed if p.kind in OF_THE_HOST]
            buckets = [p.bucket for p in failed if p.kind in OF_THE_BUCKET]
            assert len(set(asked)) == len(asked)
            assert len(set(hosts)) == len(hosts)
            assert len(set(buckets)) == len(buckets)
            left = [p for at, p in enumerate(places) if at not in asked]
            if not answered:
                assert all(p.host in hosts or p.bucket in buckets for p in left)
            await w.settle()
            opened = {name for name, t in w.targets().items() if t["state"] == "open"}
            for at, place in enumerate(places):
                cooled = place.bucket in buckets or (at in asked and place.kind == OF_THE_KEY)
                assert (f"p#n{at}/m" in opened) is cooled

    run_virtually(main())


TARGETS = st.sampled_from([f"{site}/{model}" for site in ("p#a", "p#b", "q", "q2#a") for model in ("m", "n")])


@given(st.sets(TARGETS), st.sampled_from(["p", "p#a", "p#b", "q", "q2#a"]), TARGETS)
def test_who_is_new_in_an_isolated_place_or_provider_is_isolated_wherever_it_is_asked(
    known: set[str], name: str, new: str
) -> None:
    registry = Registry(Policy())
    registry.expect(known)
    moved = registry.command(1.0, "isolate", name)
    isolated = {target for target, b in registry.breakers.items() if b.mode is Mode.ISOLATED}
    assert isolated == {t for t in known if t.split("/")[0] == name or t.split("/")[0].split("#")[0] == name}
    assert moved == len(isolated)
    seen = {
        target: CircuitSnapshot(State.CLOSED, b.mode, b.epoch, 0.0, isolated_until=b.isolated_until)
        for target, b in registry.breakers.items()
    }
    by_plan = new not in {c.target for c in plan([new], seen, 2.0).candidates}
    registry.expect([new], 2.0)
    assert (registry.breakers[new].mode is Mode.ISOLATED) is by_plan
