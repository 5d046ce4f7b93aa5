"""How far two labellings of the same frames agree, whatever numbers their parts have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Labels = NDArray[np.uint8]


def renumbered(labels: Labels, like: Labels) -> Labels:
    """Labels whose parts have the numbers of the parts that they cover most in `like`; the background stays 0.

    Each fit numbers its parts by itself. The matching is the best one to one, over all frames together.
    """
    count = int(max(labels.max(), like.max())) + 1
    together = np.bincount(labels.ravel().astype(np.int64) * count + like.ravel(), minlength=count**2)
    table = together.reshape(count, count)[1:, 1:]
    rows, columns = linear_sum_assignment(table, maximize=True)
    numbers = np.zeros(count, dtype=np.uint8)
    numbers[rows + 1] = columns + 1
    return numbers[labels]


def agreement(labels: Labels, reference: Labels) -> tuple[float, float]:
    """Share of equal pixels over all, and over those where the reference is steady.

    Steady is a pixel that has one label in the reference's frame before, its own and the one behind: where the
    reference itself changes its mind from frame to frame, agreement with it says little.
    """
    equal = renumbered(labels, reference) == reference
    return float(equal.mean()), steady_agreement(labels, reference)[0]


def steady_agreement(labels: Labels, reference: Labels, others: Sequence[Labels] = ()) -> tuple[float, float]:
    """Share of equal pixels where the reference is steady: of all of them, and of those that are parts there.

    Args:
        labels: uint8 [frames, h, w].
        reference: the same shape.
        others: labels of the reference's settings with other seeds: a pixel is steady where they all agree, too.
    """
    equal = (renumbered(labels, reference) == reference)[1:-1]
    steady = (reference[1:-1] == reference[:-2]) & (reference[1:-1] == reference[2:])
    for other in others:
        steady &= (renumbered(other, reference) == reference)[1:-1]
    return _mean(equal[steady]), _mean(equal[steady & (reference[1:-1] > 0)])


def _mean(equal: NDArray[np.bool_]) -> float:
    return float(equal.mean()) if equal.size else float("nan")
