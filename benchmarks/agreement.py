"""Pixel agreement of two labellings of a video, after matching their parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.geometry import resize_labels

Labels = NDArray[np.uint8]


def renumbered(labels: Labels, like: Labels) -> Labels:
    """Labels with parts renumbered to match those of `like`; the background stays 0.

    Each fit numbers its parts on its own. The matching is one to one and maximises the overlap over all frames
    (Hungarian algorithm). Labels of another processed size are brought to that of `like`.
    """
    labels = np.stack([resize_labels(each, like.shape[1:]) for each in labels])
    count = int(max(labels.max(), like.max())) + 1
    together = np.bincount(labels.ravel().astype(np.int64) * count + like.ravel(), minlength=count**2)
    table = together.reshape(count, count)[1:, 1:]
    rows, columns = linear_sum_assignment(table, maximize=True)
    numbers = np.zeros(count, dtype=np.uint8)
    numbers[rows + 1] = columns + 1
    return numbers[labels]


def agreement(labels: Labels, reference: Labels) -> tuple[float, float]:
    """Share of equal labels among all pixels, and among steady ones.

    A pixel is steady if the reference gives it the same label in the previous, the current and the next frame: where
    the reference itself flickers, agreement with it means little.
    """
    equal = renumbered(labels, reference) == reference
    return float(equal.mean()), steady_agreement(labels, reference)[0]


def steady_agreement(labels: Labels, reference: Labels, others: Sequence[Labels] = ()) -> tuple[float, float]:
    """Share of equal labels among steady pixels, and among steady pixels of parts (without background).

    Args:
        labels: uint8 [frames, height, width].
        reference: uint8 [frames, h, w].
        others: labels by the reference's settings with other seeds; steady pixels are then those where these agree too.
    """
    equal = (renumbered(labels, reference) == reference)[1:-1]
    steady = (reference[1:-1] == reference[:-2]) & (reference[1:-1] == reference[2:])
    for other in others:
        steady &= (renumbered(other, reference) == reference)[1:-1]
    return _mean(equal[steady]), _mean(equal[steady & (reference[1:-1] > 0)])


def _mean(equal: NDArray[np.bool_]) -> float:
    return float(equal.mean()) if equal.size else float("nan")
