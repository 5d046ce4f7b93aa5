"""Assignment: from descriptors to unary energies of background and parts (paper section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.codebook import Codebook


@dataclass(frozen=True, slots=True, eq=False)
class PartAssigner:
    """Assigns descriptors to the parts of a codebook, on one device.

    Attributes:
        parts: float32 [K, channels].
        background: float32 [n, channels], the clusters that aren't salient.
    """

    parts: Tensor
    background: Tensor

    @classmethod
    def of(cls, codebook: Codebook, device: torch.device | str = "cpu") -> PartAssigner:
        """The assigner of a codebook, its tables on `device`."""
        parts = torch.from_numpy(codebook.part_centroids)
        return cls(parts.to(device), torch.from_numpy(codebook.background.copy()).to(device))

    def energies(self, descriptors: Tensor) -> Tensor:
        """Unary energies of background and parts, minus the maximum of each position.

        The energy of a part is the squared distance to its centroid, that of the background the smallest squared
        distance to a cluster that isn't salient. Where every cluster is salient there is no background: its energy
        is above the largest of the parts, so that it never wins.

        Args:
            descriptors: float32 [rows, cols, channels], L2-normalised.

        Returns:
            float32 [1 + K, rows, cols]; index 0 is the background.
        """
        flat = descriptors.reshape(-1, descriptors.shape[-1])
        parts = squared_distances(flat, self.parts)
        if len(self.background):
            background = squared_distances(flat, self.background).amin(dim=1, keepdim=True)
        else:
            background = parts.amax(dim=1, keepdim=True) + 1.0
        energies = torch.cat([background, parts], dim=1)
        energies = energies - energies.amax(dim=1, keepdim=True)
        return energies.T.reshape(-1, *descriptors.shape[:2]).contiguous()


def squared_distances(descriptors: Tensor, centroids: Tensor) -> Tensor:
    """Squared Euclidean distances [n, k] of descriptors [n, channels] to centroids [k, channels]."""
    norms = (descriptors * descriptors).sum(dim=1, keepdim=True) + (centroids * centroids).sum(dim=1)
    return torch.clamp(torch.addmm(norms, descriptors, centroids.T, alpha=-2.0), min=0.0)


def normalise(descriptors: Tensor) -> Tensor:
    """Descriptors [..., channels] at unit length; a zero descriptor stays zero."""
    return torch.nn.functional.normalize(descriptors, dim=-1, eps=1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class ForegroundAssigner:
    """Tells foreground from background by the nearest cluster.

    Attributes:
        clusters: the salient clusters as parts, the others as background.
    """

    clusters: PartAssigner

    @classmethod
    def of(
        cls, centroids: NDArray[np.float32], salient: NDArray[np.bool_], device: torch.device | str = "cpu"
    ) -> ForegroundAssigner:
        """The assigner of clusters [k, channels], of which `salient`, bool [k], are foreground."""
        parts, background = torch.from_numpy(centroids[salient]), torch.from_numpy(centroids[~salient])
        return cls(PartAssigner(parts.to(device), background.to(device)))

    def energies(self, descriptors: Tensor) -> Tensor:
        """Squared distances to the nearest background and foreground cluster, minus the maximum of each position.

        Args:
            descriptors: float32 [rows, cols, channels], L2-normalised.

        Returns:
            float32 [2, rows, cols]; the foreground is where the second is the lower.
        """
        each = self.clusters.energies(descriptors)
        both = torch.stack([each[0], each[1:].amin(dim=0)])
        return both - both.amax(dim=0)
