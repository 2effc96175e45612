"""No answer that JSON can say, however wrong, is more than an answer or a failure at the facade."""

from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.test_foreign_answer import Json, facade_of, message

KEYS = st.sampled_from(
    [
        "choices",
        "index",
        "message",
        "delta",
        "content",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "id",
        "type",
        "text",
        "finish_reason",
        "usage",
        "error",
        "breakwater",
    ]
)
scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["", "text", "0", "{}"])
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)
saids = st.fixed_dictionaries(
    {}, optional={"content": anything, "tool_calls": st.lists(anything, max_size=3) | anything}
)
choices = st.fixed_dictionaries(
    {}, optional={"index": anything, "message": saids | anything, "delta": saids | anything, "finish_reason": anything}
)
answers = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(choices | anything, max_size=3) | anything, "usage": anything, "error": anything}
)


@given(st.lists(answers | st.dictionaries(KEYS, anything, max_size=4), min_size=1, max_size=4))
@example([message({"content": [[]]})])
def test_over_no_answer_of_json_is_anything_raised(data: list[Json]) -> None:
    whole, items = facade_of(data[0], data)
    for said in (whole, items[-1]):
        assert isinstance(said.get("response"), str) or said["status"] == 503
    assert all(isinstance(item["delta"], str) for item in items[:-1])
