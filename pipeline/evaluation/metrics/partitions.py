"""NMI, ARI and mean IoU of two labellings, from their contingency table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Contingency = NDArray[np.int64]
"""[true labels, predicted labels]: number of points with both labels."""


@dataclass(frozen=True, slots=True)
class PartitionScores:
    """Normalised mutual information (arithmetic mean) and adjusted Rand index; both 1 for equal partitions."""

    nmi: float
    ari: float


@dataclass(frozen=True, slots=True)
class PermutationScores:
    """IoU under the best one-to-one matching of true and predicted parts.

    Attributes:
        mean_iou: mean over the true parts; an unmatched part counts 0. NaN without true parts.
        partner: maps each matched true part to its predicted part.
    """

    mean_iou: float
    partner: dict[int, int]


def contingency(truth: NDArray[np.integer], predicted: NDArray[np.integer], shape: tuple[int, int]) -> Contingency:
    """Contingency table of two label maps.

    Tables of several frames can be added, so that memory doesn't grow with the number of frames.

    Args:
        truth: labels from 0, of any shape.
        predicted: labels from 0, of the same shape.
        shape: numbers of true and of predicted labels.

    Raises:
        ValueError: the shapes differ, or a label is out of range.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps of different size: truth {truth.shape}, predicted {predicted.shape}")
    if truth.size and (min(truth.min(), predicted.min()) < 0 or truth.max() >= shape[0] or predicted.max() >= shape[1]):
        raise ValueError(f"a label lies outside a table of {shape[0]} x {shape[1]} labels")
    joint = truth.ravel().astype(np.int64) * shape[1] + predicted.ravel()
    return np.bincount(joint, minlength=shape[0] * shape[1]).reshape(shape)


def partition_scores(table: Contingency) -> PartitionScores:
    """NMI and ARI of two partitions, as scikit-learn defines them; both NaN without points.

    Args:
        table: [true, predicted] counts, see `contingency`.
    """
    if table.sum() == 0:
        return PartitionScores(float("nan"), float("nan"))
    return PartitionScores(_normalised_mutual_information(table), _adjusted_rand_index(table))


def best_permutation(table: Contingency) -> PermutationScores:
    """Mean IoU under the one-to-one matching of parts that makes it largest (Hungarian algorithm).

    Label 0 is the background: it isn't matched, but its pixels count in the unions.

    Args:
        table: [true, predicted] counts with the background first.
    """
    from scipy.optimize import linear_sum_assignment

    unions = table.sum(1)[:, None] + table.sum(0)[None] - table
    iou = (table / np.maximum(unions, 1))[1:, 1:]
    present = np.flatnonzero(table[1:].sum(1))
    if len(present) == 0:
        return PermutationScores(float("nan"), {})
    rows, cols = linear_sum_assignment(iou[present], maximize=True)
    partner = {int(present[row]) + 1: int(col) + 1 for row, col in zip(rows, cols, strict=True)}
    return PermutationScores(float(iou[present[rows], cols].sum() / len(present)), partner)


def _normalised_mutual_information(table: Contingency) -> float:
    from scipy.stats import entropy

    true, predicted, joint = (entropy(counts) for counts in (table.sum(1), table.sum(0), table.ravel()))
    # Two partitions of a single cluster each are equal, although their mutual information is 0.
    return float(max(2 * (true + predicted - joint) / (true + predicted), 0)) if true + predicted else 1.0


def _adjusted_rand_index(table: Contingency) -> float:
    # Python integers: products of pixel pair counts overflow 64 bits in long videos.
    total = int(table.sum())
    together = sum(int(count) ** 2 for count in table.ravel()) - total
    true_pairs = sum(int(count) ** 2 for count in table.sum(1)) - total
    predicted_pairs = sum(int(count) ** 2 for count in table.sum(0)) - total
    all_pairs = total * (total - 1)
    highest = (true_pairs + predicted_pairs) * all_pairs
    chance = 2 * true_pairs * predicted_pairs
    return (2 * together * all_pairs - chance) / (highest - chance) if highest != chance else 1.0
