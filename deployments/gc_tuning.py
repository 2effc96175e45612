"""Raise the threshold of the cyclic garbage collector in a replica. No Ray."""

import gc

THRESHOLD = 10_000  # allocations without deallocation; Python's own 700 is reached many times a second under load


def collect_garbage_seldom() -> None:
    """Collect cyclic garbage seldom.

    Serve freezes the objects of a replica's start, and reference counting frees those of a request.
    """
    gc.set_threshold(THRESHOLD)
