"""What lies in the cluster's key-value store of an actor, over a dict in that store's place."""

import pytest

from actors.singleton import LOOP_STARTS, CheckpointStore


class Store(dict[bytes, bytes]):
    """Speaks as Ray's `internal_kv` does."""

    def _internal_kv_put(self, key: bytes, value: bytes, overwrite: bool = True) -> bool:
        """Was it there before?"""
        known = key in self
        if overwrite or not known:
            self[key] = value
        return known

    def _internal_kv_get(self, key: bytes) -> bytes | None:
        return self.get(key)

    def _internal_kv_del(self, key: bytes) -> None:
        self.pop(key, None)

    def _internal_kv_list(self, prefix: bytes) -> list[bytes]:
        return [key for key in self if key.startswith(prefix)]


@pytest.mark.parametrize("successors", [1, 2 * LOOP_STARTS, 2 * LOOP_STARTS + 1, 50])
def test_an_actor_that_was_cut_off_finds_its_successor_however_many_there_were(successors: int) -> None:
    store = Store()
    old = CheckpointStore("app", store)
    n = old.claim()
    assert not old.succeeded(n)
    for _ in range(successors):
        CheckpointStore("app", store).claim()
    assert old.succeeded(n)


def test_the_newest_has_no_successor_and_another_applications_is_none() -> None:
    store = Store()
    vault = CheckpointStore("app", store)
    numbers = [vault.claim() for _ in range(30)]
    assert numbers == list(range(1, 31))
    for _ in range(40):
        CheckpointStore("other", store).claim()
    assert [n for n in numbers if not vault.succeeded(n)] == [30]


def test_of_many_incarnations_few_claims_and_checkpoints_are_kept() -> None:
    store = Store()
    vault = CheckpointStore("app", store)
    for number in range(40):
        vault.save(vault.claim(), {"number": number})
    assert len(store) <= 6 * LOOP_STARTS + 1
    assert (vault.load(41) or {})["number"] == 39


def starts(store: Store, *codes: str | None) -> list[bool]:
    """Whether each start, by such code, finds a crash loop. None is a version that does not say what it runs."""
    found = []
    for code in codes:
        number = CheckpointStore("app", store).claim("" if code is None else code)
        if code is None:
            del store[f"breakwater/app/code/{number:08d}".encode()]
        found.append(CheckpointStore("app", store).crash_loop(number))
    return found


def test_five_starts_of_one_version_are_a_crash_loop() -> None:
    assert starts(Store(), *["new"] * 6) == [False] * 4 + [True] * 2


def test_a_version_that_replaces_another_has_not_crashed_however_often_they_take_turns() -> None:
    assert not any(starts(Store(), *["old", "new"] * 20))


def test_after_a_replacement_five_starts_are_a_crash_loop_again() -> None:
    assert starts(Store(), *["old"] * 4, *["new"] * 5) == [False] * 8 + [True]


def test_the_same_holds_beside_a_version_that_does_not_say_what_it_runs() -> None:
    store = Store()
    assert not any(starts(store, *[None, None, "new", None, None, "new", "new", None, "new"]))
    assert starts(store, *["new"] * 4) == [False] * 3 + [True]


def test_one_that_has_left_a_node_that_is_drained_has_not_crashed_however_often_it_moves() -> None:
    store = Store()
    for _ in range(9):
        assert starts(store, "new") == [False]
        CheckpointStore("app", store).leave(max(CheckpointStore("app", store)._numbers("inc")))
    assert starts(store, *["new"] * 5) == [False] * 4 + [True]
