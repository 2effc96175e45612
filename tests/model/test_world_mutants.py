"""Every bug of world_mutants.py, put into a copy of the code, must be noticed by an oracle of the simulated cluster.

uv run pytest -m mutants
"""

import pathlib
import subprocess
import sys

import pytest

from tests.model.copies import ROOT, copied, mutated
from tests.model.profiles import PROFILES
from tests.model.terms.mutants import TERMS_MUTANTS
from tests.model.world_mutants import WORLD_MUTANTS, WorldMutant

MUTANTS = [*WORLD_MUTANTS, *TERMS_MUTANTS]
NEEDED = ("actors", "deployments", "tests/__init__.py", "tests/clock.py", "tests/unit", "tests/model")


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.name}-{m.bug.replace(' ', '-')}")
def test_the_mutant_fails_the_question_of_the_product(mutant: WorldMutant, tmp_path: pathlib.Path) -> None:
    copied(NEEDED, tmp_path, "test_*")
    (tmp_path / mutant.file).write_text(mutated(mutant))
    command = [sys.executable, "-m", "tests.model", "--profile", mutant.profile]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, f"{mutant.name} lives\n{done.stdout}\n{done.stderr[-2000:]}"
    fired = {line.split(":")[0] for line in done.stdout.splitlines() if " times, in " in line}
    assert fired & set(mutant.dies_of), f"{mutant.name} died of {fired}\n{done.stdout}\n{done.stderr[-2000:]}"


def test_each_mutant_can_still_be_made() -> None:
    """In the default run: a mutant whose text has gone would be no gate."""
    for mutant in MUTANTS:
        assert mutated(mutant) != (ROOT / mutant.file).read_text()
        assert mutant.profile in PROFILES
    assert len({m.name for m in MUTANTS}) == 37
