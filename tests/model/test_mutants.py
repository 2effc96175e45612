"""Every known bug, put into the breaker, must be noticed within 600 programs, and for its own reason.

uv run pytest -m mutants
"""

import importlib
import pathlib
import sys
from types import SimpleNamespace

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.mutants import MUTANTS, Mutant
from tests.model.test_machine import WHOLE
from tests.model.world import Wrong, machine

ACTORS = pathlib.Path(__file__).parents[2] / "actors"
PURE = ("__init__", "outcomes", "circuit", "plan", "messages", "registry", "history")


def mutated(mutant: Mutant, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A copy of the pure modules under a name of its own, with the one change."""
    package = f"mutant_{mutant.name.lower()}"
    (folder / package / "breaker").mkdir(parents=True)
    for file in ("__init__.py", "metrics.py", *(f"breaker/{name}.py" for name in PURE)):
        text = (ACTORS / file).read_text()
        if file == mutant.file:
            assert text.count(mutant.text) == 1, f"{mutant.name}: its text stands {text.count(mutant.text)} times"
            text = text.replace(mutant.text, mutant.instead)
        (folder / package / file).write_text(text.replace("from actors.", f"from {package}."))
    monkeypatch.syspath_prepend(str(folder))
    known = {name: importlib.import_module(f"{package}.breaker.{name}") for name in ("circuit", "plan", "registry")}
    modules = {"breaker": known["circuit"], "plan": known["plan"], "board": known["registry"]}
    for name in [n for n in sys.modules if n.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)
    return SimpleNamespace(**modules)


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.name}-{m.bug.replace(' ', '-')}")
def test_the_mutant_dies_of_what_it_breaks(
    mutant: Mutant, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Wrong) as caught:
        run_state_machine_as_test(
            machine(mutated(mutant, tmp_path, monkeypatch)),
            settings=settings(
                max_examples=600,
                stateful_step_count=60,
                deadline=None,
                derandomize=True,
                database=None,
                report_multiple_bugs=False,
                phases=[Phase.generate],
                suppress_health_check=WHOLE,
            ),
        )
    reason = str(caught.value).split(":")[0]
    assert reason in mutant.dies_of, f"{mutant.name} died of {reason}"


def test_each_mutant_can_still_be_made(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the default run: a mutant whose text has gone, or that can't be imported, would be no gate."""
    for mutant in MUTANTS:
        assert mutated(mutant, tmp_path, monkeypatch).board.Registry
    assert len({m.name for m in MUTANTS}) == 39
