"""DAVIS metrics: boundary F, mean, recall and decay, and matching proposals to objects.

Defined by Perazzi et al. (CVPR 2016), Pont-Tuset et al. (2017) and Caelles et al. (2019). The region measure J (IoU)
is `masks.jaccard`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics.masks import Mask

BOUNDARY_SHARE = 0.008
"""Tolerance in matching boundary pixels, as a share of the picture's diagonal."""

RECALL_THRESHOLD = 0.5
"""Recall is the share of frames with values above this."""

DECAY_BINS = 4
"""Decay is the mean of the first of so many bins of frames minus the mean of the last."""


@dataclass(frozen=True, slots=True)
class SequenceStatistics:
    """Mean, recall and decay of a measure over the frames of a sequence."""

    mean: float
    recall: float
    decay: float


def boundary_similarity(predicted: Mask, truth: Mask) -> float:
    """DAVIS' F: harmonic mean of precision and recall of boundary pixels; 1 if neither mask has a boundary.

    A boundary pixel is matched if the other mask has one within `BOUNDARY_SHARE` of the diagonal.

    Args:
        predicted: bool [h, w].
        truth: bool [h, w].
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of different size: predicted {predicted.shape}, truth {truth.shape}")
    found, wanted = boundary_map(predicted), boundary_map(truth)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    radius = boundary_radius((truth.shape[0], truth.shape[1]))
    precision = float((found & _dilate(wanted, radius)).sum() / found.sum())
    recall = float((wanted & _dilate(found, radius)).sum() / wanted.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_map(mask: Mask) -> Mask:
    """One pixel wide boundary of a mask: pixels that differ from their neighbour right, below, or right below.

    In the last row and column only the neighbour within the picture counts, so that the corner is never a boundary (as
    in the Berkeley segmentation benchmark's `seg2bmap`).
    """
    boundary = np.zeros_like(mask)
    boundary[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    boundary[:-1] |= mask[:-1] != mask[1:]
    boundary[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return boundary


def boundary_radius(size_hw: tuple[int, int]) -> int:
    """Tolerance in pixels for boundaries in a picture of this size.

    >>> boundary_radius((480, 854))
    8
    """
    return math.ceil(BOUNDARY_SHARE * math.hypot(*size_hw))


def sequence_statistics(values: NDArray[np.float64]) -> SequenceStatistics:
    """Mean, recall and decay of a sequence's per-frame values.

    Neighbouring bins of the decay share their border frame, as in the official toolkit. That toolkit keeps the indices
    as uint8, which overflow above 256 frames; these don't.

    Args:
        values: [frames], those that the protocol counts.

    Raises:
        ValueError: there is no frame.
    """
    if len(values) == 0:
        raise ValueError("statistics of a sequence need one frame at least")
    borders = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(np.int64) - 1
    first, last = values[: borders[1] + 1], values[borders[-2] :]
    recall = np.mean(values > RECALL_THRESHOLD)
    return SequenceStatistics(float(np.mean(values)), float(recall), float(np.mean(first) - np.mean(last)))


def match_proposals(
    region: NDArray[np.float64], boundary: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assign each object one proposal so that the mean of J and F over objects is largest (DAVIS 2019, Hungarian).

    Args:
        region: J, [proposals, objects, frames].
        boundary: F, [proposals, objects, frames].

    Returns:
        Indices of proposals and of their objects, [objects] each, in the order of the objects.

    Raises:
        ValueError: there are fewer proposals than objects; add empty ones.
    """
    from scipy.optimize import linear_sum_assignment

    if region.shape[0] < region.shape[1]:
        raise ValueError(f"{region.shape[0]} proposals for {region.shape[1]} objects")
    objects, proposals = linear_sum_assignment((region.mean(2) + boundary.mean(2)).T / 2, maximize=True)
    return proposals, objects


def _dilate(boundary: Mask, radius: int) -> Mask:
    import cv2

    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).astype(np.uint8)
    return np.asarray(cv2.dilate(boundary.astype(np.uint8), disk), dtype=np.bool_)
