"""Saliency that a set of pictures shares: each one's own, regressed on the descriptors of all.

The object of a set is the same in every picture, what is behind it isn't. So errors of single pictures' saliency go
where one linear function of the descriptors has to explain it in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assignment import evened
from pipeline.cluster.feature_cache import CachedFeatures
from pipeline.graph import single_threaded

RIDGE = 0.003
"""Penalty of the regression, a share of the mean squared length of a descriptor."""
MAJORITY = 0.5
"""Shared saliency is a share of an object: a cluster is foreground, and so is a place, where objects are most of it."""


class Voting(Sized, Protocol):
    """Descriptors and saliency of the frames that vote; can be iterated again."""

    def __iter__(self) -> Iterator[CachedFeatures]:
        """One frame's after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedSaliency:
    """A linear function of descriptors.

    Attributes:
        weights: float32 [channels].
        offset: what it adds.
    """

    weights: Tensor
    offset: float

    @classmethod
    def fit(cls, voting: Voting) -> SharedSaliency:
        """Regress the masks that Otsu's threshold makes of each picture's own saliency; one picture in memory a time.

        Args:
            voting: L2-normalised descriptors and saliency of the pictures, at least one.
        """
        normal, moments, places = np.zeros(()), np.zeros(()), 0
        with single_threaded():
            for entry in voting:
                flat = entry.descriptors.reshape(-1, entry.descriptors.shape[-1]).astype(np.float64)
                rows = np.hstack([flat, np.ones((len(flat), 1))])
                normal = normal + rows.T @ rows
                moments = moments + rows.T @ _mask(entry.saliency).ravel()
                places += len(rows)
            solved = np.linalg.solve(normal + RIDGE * places * np.eye(len(normal)), moments)
        return cls(torch.from_numpy(solved[:-1].astype(np.float32)), float(solved[-1]))

    def of(self, descriptors: Tensor) -> Tensor:
        """Saliency in [0, 1], float32 [...], of descriptors [..., channels]."""
        return (descriptors @ self.weights.to(descriptors.device) + self.offset).clamp(0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class SharedVoting:
    """The pictures of a set with the saliency that they share in place of their own."""

    own: Voting
    shared: SharedSaliency

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.own)

    def __iter__(self) -> Iterator[CachedFeatures]:
        """One picture's after the other."""
        for entry in self.own:
            yield replace(entry, saliency=self.shared.of(torch.from_numpy(entry.descriptors)).numpy())


def _mask(saliency: NDArray[np.float32]) -> NDArray[np.float64]:
    grey = (255 * evened(torch.from_numpy(saliency)).numpy()).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return (grey > threshold).astype(np.float64)
