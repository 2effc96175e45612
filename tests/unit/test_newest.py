"""A dict that keeps what was set last."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from deployments.newest import Newest


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 9), st.integers())))
def test_it_holds_the_values_that_were_set_last_and_no_others(most: int, sets: list[tuple[int, int]]) -> None:
    kept, all_of_them = Newest[int, int](most), OrderedDict[int, int]()
    for key, value in sets:
        kept[key] = value
        all_of_them[key] = value
        all_of_them.move_to_end(key)
        assert [*kept.items()] == [*all_of_them.items()][-most:]


def test_to_read_a_value_makes_it_no_newer_and_to_drop_one_makes_room() -> None:
    kept = Newest[str, int](2)
    kept["a"], kept["b"] = 1, 2
    assert kept["a"] == kept.get("a") == 1
    kept["c"] = 3
    assert [*kept] == ["b", "c"]
    del kept["b"]
    kept["d"] = 4
    assert [*kept] == ["c", "d"]
