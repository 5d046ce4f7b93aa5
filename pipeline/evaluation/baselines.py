"""Baselines of the paper's Table 3: thresholds on ViT attention or on CNN features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics.masks import Mask

KEPT_MASS = 0.6
"""Share of the attention that is kept (Caron et al., ICCV 2021, figure 4)."""


def threshold_mass(saliency: NDArray[np.floating], kept: float = KEPT_MASS) -> Mask:
    """Mask of the fewest positions that hold more than a share of a map's sum; empty for a map of zeros.

    Args:
        saliency: [rows, cols], not negative.
        kept: share of the sum to keep, 0..1.

    Returns:
        bool [rows, cols].
    """
    values = saliency.astype(np.float64).ravel()
    order = np.argsort(values, kind="stable")
    total = values.sum()
    if total == 0:
        return np.zeros(saliency.shape, dtype=np.bool_)
    mask = np.empty(values.shape, dtype=np.bool_)
    mask[order] = np.cumsum(values[order]) / total > 1 - kept
    return mask.reshape(saliency.shape)


def activation_saliency(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Saliency map of a CNN: the mean activation over channels, minus its minimum.

    The paper leaves the details to its supplement. Activations after the last ReLU aren't negative, so their mean
    takes the place of a ViT's attention.

    Args:
        features: [rows, cols, channels].

    Returns:
        [rows, cols], minimum 0.
    """
    activation = features.astype(np.float64).mean(axis=2)
    return np.asarray(activation - activation.min())
