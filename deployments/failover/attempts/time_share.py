"""How long one tier of several may take of the time that is left. Pure.

`client.py`, which is one file by itself, has the same function word for word; a test compares the two.
"""


def share(left: float, tiers: int, usual: float = 0.0) -> float:
    """Return the seconds that a tier may take of the `left` seconds that `tiers` tiers share, itself included.

    The last tier may take all of them, the last but one two thirds, another one half. A tier that usually needs
    longer (`usual` is how long its slowest recent answers took) may take half as long again as that, and three
    quarters of what is left at the most.
    """
    if tiers <= 1:
        return left
    return max(left / 2, 2 * left / (tiers + 1), min(1.5 * usual, 0.75 * left))
