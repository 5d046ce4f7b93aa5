"""Exact PCA of descriptors in constant memory (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

TAIL = 0.005
"""Share of the values at either end that a scale clips, so that a few outliers don't cost contrast."""


class Moments:
    """Sums over descriptors from which mean and covariance follow; blocks are added as they come."""

    def __init__(self, channels: int) -> None:
        """Start with no descriptor of `channels` channels."""
        self.count = 0
        self._sum = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def add(self, descriptors: Floats) -> None:
        """Add descriptors [..., channels]."""
        block = descriptors.reshape(-1, descriptors.shape[-1]).astype(np.float64)
        self.count += len(block)
        self._sum += block.sum(axis=0)
        self._products += block.T @ block

    @property
    def mean(self) -> Doubles:
        """The mean descriptor, [channels]."""
        return self._sum / max(1, self.count)

    @property
    def covariance(self) -> Doubles:
        """The covariance, [channels, channels]."""
        return self._products / max(1, self.count) - np.outer(self.mean, self.mean)


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Principal components.

    Attributes:
        mean: float64 [channels], what is subtracted.
        axes: float64 [components, channels], of unit length, the one with most variance first.
        explained: float64 [components], each one's share of the whole variance.
    """

    mean: Doubles
    axes: Doubles
    explained: Doubles

    def project(self, descriptors: Floats) -> Floats:
        """Components [..., components] of descriptors [..., channels]."""
        projected: Doubles = (descriptors - self.mean) @ self.axes.T
        return projected.astype(np.float32)


def fit_basis(moments: Moments, components: int) -> Basis:
    """The principal components of all descriptors that were added.

    A component's sign is free; here its largest loading is positive, so that one set of descriptors gives the
    same colours each time.

    Args:
        moments: of the descriptors.
        components: how many.

    Raises:
        UsageError: there are fewer channels than components.
    """
    from scipy.linalg import eigh

    channels = len(moments.mean)
    if not 1 <= components <= channels:
        raise UsageError(
            f"{components} components are asked for; descriptors of {channels} channels have 1 to {channels}"
        )
    covariance = moments.covariance
    values, vectors = eigh(covariance, subset_by_index=[channels - components, channels - 1])
    axes = vectors.T[::-1]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(components), largest] < 0, -1.0, 1.0)[:, None]
    total = max(float(np.trace(covariance)), 1e-300)
    return Basis(moments.mean, axes, np.maximum(values[::-1], 0.0) / total)


def value_range(values: Floats) -> tuple[Floats, Floats]:
    """The span of most values of each channel, for a scale that all pictures share.

    Args:
        values: [n, channels].

    Returns:
        Lowest and highest, float32 [channels] each.
    """
    low, high = np.quantile(values, [TAIL, 1.0 - TAIL], axis=0)
    return low.astype(np.float32), high.astype(np.float32)
