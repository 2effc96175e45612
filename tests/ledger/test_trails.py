"""A request's trail in the ledger: the same story as in the memory of the ingress that served it."""

from actors.ledger.questions.usage import found
from actors.ledger.single_writer.reading import parse
from actors.ledger.store import LedgerStore
from deployments.telemetry.explain import from_ledger
from tests.ledger.rows import opened
from tests.unit.test_explain import asked
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.test_usage_records import Ledgered, with_ledger


def test_the_ledger_tells_the_same_story_when_memory_has_forgotten(store: LedgerStore) -> None:
    async def test(w: Ledgered) -> None:
        w.w.provider("aws").ends = [SERVER_ERROR]
        trail = await asked(w.w, stream=True)
        data, _ = w.link._journal.read(10**7)
        records, wrong = parse(data)
        assert not wrong
        store.write(records)
        rows = found(store, trail.request_id)
        assert rows is not None
        assert rows == found(store, "my-own-id")
        told, remembered = (
            from_ledger(rows["request"], rows["attempts"]),
            await w.w.service.queries.request(trail.request_id),
        )
        same = remembered.keys() - {"ms"}  # the ledger's instants are whole milliseconds
        assert {name: told[name] for name in same} == {name: remembered[name] for name in same}
        assert [c["outcome"] for c in told["candidates"]] == ["server_error", "ok", "not reached"]

    with_ledger(test)


def test_a_request_that_is_under_way_is_known_by_its_attempts(store: LedgerStore) -> None:
    store.write([opened()])
    rows = found(store, "r1")
    assert rows is not None
    told = from_ledger(rows["request"], rows["attempts"])
    assert (told["outcome"], told["ms"], [c["outcome"] for c in told["candidates"]]) == ("open", None, ["open"])
    assert found(store, "nobody") is None
