"""The baselines of the paper's Table 3: a threshold on attention, or on a convolutional network's features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics.masks import Mask

KEPT_MASS = 0.6
"""Share of the attention that is kept (Caron et al., ICCV 2021, figure 4)."""


def threshold_mass(saliency: NDArray[np.floating], kept: float = KEPT_MASS) -> Mask:
    """The smallest set of positions that holds more than a share of a map's sum; nothing where all is 0.

    Args:
        saliency: [rows, cols], not negative.
        kept: share of the sum, 0..1.

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
    """How strongly a convolutional network answers at each position: the mean over its channels, from 0.

    The paper leaves the details to its supplement; features after the last rectifier are not negative, so their
    mean is to them what attention is to a ViT.

    Args:
        features: [rows, cols, channels].

    Returns:
        [rows, cols]; the smallest value is 0.
    """
    strength = features.astype(np.float64).mean(axis=2)
    return np.asarray(strength - strength.min())
