"""What Ray knows the actors by, which is the same in every version: see the comment in their files."""

import inspect

import pytest

from actors.answers_actor import AnswersActor
from actors.breaker_actor import BreakerActor
from actors.ledger_actor import LedgerActor

NAMES = {
    AnswersActor: ("actors.answers_actor", "claim drop end hello put read watch whoami"),
    BreakerActor: (
        "actors.breaker_actor",
        "_alone _configure _publish _restore _sample _save _say _version _watch_over ask command expect health hello "
        "override release report status watch whoami",
    ),
    LedgerActor: ("actors.ledger_actor", "_watch_over bury health hello request usage whoami write"),
}


@pytest.mark.parametrize("actor", NAMES, ids=lambda actor: actor.__name__)
def test_an_actor_is_known_by_the_names_that_it_has_always_had(actor: type) -> None:
    module, names = NAMES[actor]
    methods = {name: m for name, m in vars(actor).items() if inspect.isfunction(m)}
    assert actor.__module__ == module
    assert sorted(name for name in methods if not name.startswith("__")) == names.split()
    for method in methods.values():
        assert all(isinstance(hint, str) for hint in method.__annotations__.values())
