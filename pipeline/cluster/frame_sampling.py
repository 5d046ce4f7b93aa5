"""Which frames of the inputs a codebook is fitted on: evenly spread, up to a budget over all inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread_frames(counts: Sequence[int], budget: int, step: int = 1) -> list[list[int]]:
    """Evenly spread frame indices of each input, `budget` of them over all inputs together.

    Inputs get shares in proportion to their length, but at least one frame each, so that a short clip counts beside a
    long one; of more inputs than the budget has frames, evenly spread ones get one.

    Args:
        counts: frames of each input.
        budget: frames wanted over all inputs; all frames are taken where there are no more.
        step: only every `step`th frame of an input may be taken, from its first.

    >>> spread_frames([3, 2], budget=64)
    [[0, 1, 2], [0, 1]]
    >>> spread_frames([100, 10], budget=6)
    [[10, 30, 50, 70, 90], [5]]
    >>> spread_frames([1, 5, 0, 1, 1], budget=2)
    [[], [2], [], [], [0]]
    >>> spread_frames([9, 2], budget=3, step=4)
    [[0, 8], [0]]
    """
    if step > 1:
        spread = spread_frames([-(-count // step) for count in counts], budget)
        return [[index * step for index in indices] for indices in spread]
    if sum(counts) <= budget:
        return [list(range(count)) for count in counts]
    shares = _shares(counts, budget)
    return [_spread(count, share) for count, share in zip(counts, shares, strict=True)]


def _shares(counts: Sequence[int], budget: int) -> list[int]:
    """Largest remainders, after one frame for each input that has any, or for as many as there are frames."""
    filled = [index for index, count in enumerate(counts) if count]
    if len(filled) > budget:
        filled = [filled[place] for place in _spread(len(filled), budget)]
    shares = np.bincount(filled, minlength=len(counts)).tolist()
    left = [count - share if share else 0 for count, share in zip(counts, shares, strict=True)]
    rate = (budget - len(filled)) / max(1, sum(left))
    exact = [frames * rate for frames in left]
    shares = [share + int(wanted) for share, wanted in zip(shares, exact, strict=True)]
    by_remainder = sorted(range(len(counts)), key=lambda index: (int(exact[index]) - exact[index], index))
    for index in by_remainder[: budget - sum(shares)]:
        shares[index] += 1
    return shares


def _spread(count: int, wanted: int) -> list[int]:
    """The middles of `wanted` equal stretches."""
    return [(2 * index + 1) * count // (2 * wanted) for index in range(wanted)]
