"""Many worlds, in one process or in several."""

import logging
import multiprocessing
import time
from collections.abc import Iterator

from tests.model.figures import Figures
from tests.model.script import Script
from tests.model.simulation import simulate


def run(script: Script) -> tuple[Figures, float]:
    """Its figures, and the seconds that it took."""
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    return simulate(script), time.monotonic() - began


def each(worlds: list[Script], jobs: int) -> Iterator[tuple[Script, Figures, float]]:
    if jobs == 1:
        yield from ((world, *run(world)) for world in worlds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for world, (figures, seconds) in zip(worlds, pool.imap(run, worlds), strict=True):
            yield world, figures, seconds
