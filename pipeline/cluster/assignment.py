"""Assignment: from descriptors to unary energies of background and parts (paper section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.clusters import Clusters, Embedding, squared_distances
from pipeline.cluster.codebook import Codebook


class Assigner(Protocol):
    """Assigns descriptors to background and parts."""

    def energies(self, descriptors: Tensor) -> Tensor:
        """Unary energies [1 + K, rows, cols] of descriptors [rows, cols, channels], as `PartAssigner.energies`."""


def assigner_of(codebook: Codebook, device: torch.device | str = "cpu") -> Assigner:
    """The assigner of a codebook, its tables on `device`."""
    if codebook.embeddings is not None:
        clusters, parts = codebook.embeddings
        return EmbeddedAssigner(clusters, codebook.salient, parts)
    parts_table, background = torch.from_numpy(codebook.part_centroids), torch.from_numpy(codebook.background.copy())
    return PartAssigner(parts_table.to(device), background.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class PartAssigner:
    """Assigns descriptors to the nearest centroids, on one device.

    Attributes:
        parts: float32 [K, channels].
        background: float32 [n, channels], the clusters that aren't salient.
    """

    parts: Tensor
    background: Tensor

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


def with_saliency(energies: Tensor, saliency: Tensor, weight: float, neutral: float) -> Tensor:
    """Energies in which each place's own saliency speaks beside the clusters.

    The background's energy grows by `weight` times what the saliency is above `neutral`, so that a place becomes an
    object where the frame says so though its cluster isn't salient, and the other way round.

    Args:
        energies: float32 [labels, rows, cols]; index 0 is the background.
        saliency: float32 [rows, cols] in [0, 1].
        weight: of the saliency against squared distances.
        neutral: saliency, as a share of the frame's peak, that changes nothing.

    Returns:
        float32 [labels, rows, cols], minus the maximum of each position.
    """
    background = energies[:1] + weight * (evened(saliency) - neutral)
    found = torch.cat([background, energies[1:]])
    return found - found.amax(dim=0)


PEAK = 0.98
"""Share of a frame's places whose saliency is below its peak: a single place may stand far above all others."""


def evened(saliency: Tensor) -> Tensor:
    """Means of 3 x 3 places, since attention jumps between overlapping patches, as shares of their peak."""
    means = torch.nn.functional.avg_pool2d(saliency[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    peak = torch.quantile(means.flatten(), PEAK)
    return (means / peak.clamp_min(1e-6)).clamp(0.0, 1.0)


def normalise(descriptors: Tensor) -> Tensor:
    """Descriptors [..., channels] at unit length; a zero descriptor stays zero."""
    return torch.nn.functional.normalize(descriptors, dim=-1, eps=1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedAssigner:
    """Assigns descriptors where spectral clustering found the clusters; they are on the descriptors' device.

    Clusters and parts have each a space of their own, whose distances don't compare: the clusters decide between
    background and foreground, and the parts among themselves.

    Attributes:
        clusters: of all descriptors.
        salient: bool [k], which of them are foreground.
        parts: of the foreground.
    """

    clusters: Embedding
    salient: NDArray[np.bool_]
    parts: Embedding

    def energies(self, descriptors: Tensor) -> Tensor:
        """As `PartAssigner.energies`.

        The background's energy is the squared distance to the nearest cluster that isn't salient; a part's that to the
        nearest salient one, and how much farther the part is than the nearest part.
        """
        flat = descriptors.reshape(-1, descriptors.shape[-1])
        clusters, parts = self.clusters.distances(flat), self.parts.distances(flat)
        salient = torch.from_numpy(self.salient).to(flat.device)
        foreground = clusters[:, salient].amin(dim=1, keepdim=True)
        parts = foreground + parts - parts.amin(dim=1, keepdim=True)
        if bool(self.salient.all()):
            background = parts.amax(dim=1, keepdim=True) + 1.0
        else:
            background = clusters[:, ~salient].amin(dim=1, keepdim=True)
        energies = torch.cat([background, parts], dim=1)
        energies = energies - energies.amax(dim=1, keepdim=True)
        return energies.T.reshape(-1, *descriptors.shape[:2]).contiguous()


@dataclass(frozen=True, slots=True, eq=False)
class ForegroundAssigner:
    """Tells foreground from background by the nearest cluster.

    Attributes:
        clusters: the salient clusters as parts, the others as background.
    """

    clusters: Assigner

    @classmethod
    def of(
        cls, clusters: Clusters, salient: NDArray[np.bool_], device: torch.device | str = "cpu"
    ) -> ForegroundAssigner:
        """The assigner of clusters of which `salient`, bool [k], are foreground."""
        foreground = clusters.take(np.flatnonzero(salient))
        if clusters.embedding is not None and foreground.embedding is not None:
            return cls(EmbeddedAssigner(clusters.embedding, salient, foreground.embedding))
        background = torch.from_numpy(clusters.centroids[~salient])
        return cls(PartAssigner(torch.from_numpy(foreground.centroids).to(device), background.to(device)))

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
