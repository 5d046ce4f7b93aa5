"""Jaccard index (IoU) and precision of binary masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def jaccard(predicted: Mask, truth: Mask, ignored: Mask | None = None) -> float:
    """Intersection over union of two masks, bool [h, w]; 1 if both are empty (DAVIS' region similarity J).

    Pixels of `ignored`, bool [h, w], don't count.
    """
    counted = _counted(predicted, truth, ignored)
    union = np.count_nonzero((predicted | truth) & counted)
    if union == 0:
        return 1.0
    return float(np.count_nonzero(predicted & truth & counted) / union)


def precision(predicted: Mask, truth: Mask, ignored: Mask | None = None) -> float:
    """Pixel accuracy of two masks, bool [h, w]: the share of pixels, foreground and background, with the right label.

    The co-segmentation literature calls it precision (Rubinstein et al., CVPR 2013; the paper's Table 2). Pixels of
    `ignored`, bool [h, w], don't count; NaN if all are ignored.
    """
    counted = _counted(predicted, truth, ignored)
    total = np.count_nonzero(counted)
    return float(np.count_nonzero((predicted == truth) & counted) / total) if total else float("nan")


def _counted(predicted: Mask, truth: Mask, ignored: Mask | None) -> Mask:
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of different size: predicted {predicted.shape}, truth {truth.shape}")
    return np.ones_like(truth) if ignored is None else ~ignored
