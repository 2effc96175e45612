"""Raise the threshold of the cyclic garbage collector in our processes. No Ray."""

import gc

# Allocations without deallocation. Python's own 700 is reached many times a second under load, and 10,000 by each
# thirty requests where many are under way: a collection then looks at all of those, for a twentieth of all CPU.
THRESHOLD = 100_000


def collect_garbage_seldom() -> None:
    """Collect cyclic garbage seldom.

    Serve freezes the objects of a replica's start, and reference counting frees those of a request.
    """
    gc.set_threshold(THRESHOLD)
