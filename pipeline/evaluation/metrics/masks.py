"""Agreement of two binary masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def jaccard(predicted: Mask, truth: Mask, ignored: Mask | None = None) -> float:
    """Intersection over union of two masks; 1 where both are empty (DAVIS' region similarity J).

    Args:
        predicted: bool [h, w].
        truth: bool [h, w].
        ignored: bool [h, w], pixels that count for nothing.
    """
    _require_same_shape(predicted, truth)
    counted = np.ones_like(truth) if ignored is None else ~ignored
    union = np.count_nonzero((predicted | truth) & counted)
    if union == 0:
        return 1.0
    return float(np.count_nonzero(predicted & truth & counted) / union)


def precision(predicted: Mask, truth: Mask, ignored: Mask | None = None) -> float:
    """Share of pixels, foreground and background, that are labelled right.

    This is what the literature of co-segmentation calls precision (Rubinstein et al., CVPR 2013), and what the
    paper's Table 2 reports; elsewhere it is called accuracy. NaN where every pixel is ignored.

    Args:
        predicted: bool [h, w].
        truth: bool [h, w].
        ignored: bool [h, w], pixels that count for nothing.
    """
    _require_same_shape(predicted, truth)
    counted = np.ones_like(truth) if ignored is None else ~ignored
    total = np.count_nonzero(counted)
    return float(np.count_nonzero((predicted == truth) & counted) / total) if total else float("nan")


def _require_same_shape(predicted: Mask, truth: Mask) -> None:
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of different size: predicted {predicted.shape}, truth {truth.shape}")
