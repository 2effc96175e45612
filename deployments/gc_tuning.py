"""How often a replica's cyclic garbage is looked for. No Ray."""

import gc

EVERY = 10_000  # objects more than were freed; Python's own 700 comes many times a second under load


def collect_seldom() -> None:
    """Serve freezes what a replica has started with; what a request makes is freed by counting references."""
    gc.set_threshold(EVERY)
