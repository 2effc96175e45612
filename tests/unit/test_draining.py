"""When an actor leaves a node that is drained."""

from typing import Any

import pytest

from actors.singleton import has_another


def node(name: str, *, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive}


@pytest.mark.parametrize(
    ("draining", "nodes", "another"),
    [
        (["a"], [node("a"), node("b")], True),
        (["a"], [node("a")], False),
        (["a", "b"], [node("a"), node("b")], False),
        (["a"], [node("a"), node("b", alive=False)], False),
        (["a", "b"], [node("a"), node("b"), node("c")], True),
    ],
)
def test_an_actor_leaves_only_where_another_node_can_take_it(
    draining: list[str], nodes: list[dict[str, Any]], another: bool
) -> None:
    assert has_another(draining, nodes) is another
