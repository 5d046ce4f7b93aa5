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
from pipeline.cluster.place_saliency import SharedSaliency, shared_of, with_saliency
from pipeline.config import SaliencySettings


class Assigner(Protocol):
    """Assigns descriptors to background and parts."""

    def energies(self, descriptors: Tensor) -> Tensor:
        """Unary energies [1 + K, rows, cols] of descriptors [rows, cols, channels], as `PartAssigner.energies`."""


def assigner_of(
    codebook: Codebook, saliency: SaliencySettings, device: torch.device | str = "cpu", number: int | None = None
) -> Assigner:
    """The assigner of a codebook.

    Args:
        codebook: what a fit has found.
        saliency: whether what frames share counts in labels, and how much.
        device: of its tables.
        number: of an input among those of the fit; None: the pictures of one set, or another input.
    """
    if codebook.embeddings is not None:
        clusters, parts = codebook.embeddings
        assigner: Assigner = EmbeddedAssigner(clusters, codebook.salient, parts)
    else:
        tables = (torch.from_numpy(each) for each in (codebook.part_centroids, codebook.background.copy()))
        assigner = PartAssigner(*(table.to(device) for table in tables))
    return with_shared(assigner, codebook.shared, saliency, device, number)


def with_shared(
    assigner: Assigner,
    tables: NDArray[np.float32] | None,
    saliency: SaliencySettings,
    device: torch.device | str,
    number: int | None = None,
) -> Assigner:
    """An assigner that also goes by what `fit_shared` has found of an input, where that counts in labels."""
    if tables is None or not (saliency.shared and saliency.places):
        return assigner
    return SaliencyAssigner(assigner, SharedSaliency(shared_of(tables, number).to(device)), saliency)


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


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyAssigner:
    """Assigns as another one, with the saliency that descriptors have beside it.

    Attributes:
        assigner: the other one.
        shared: the saliency.
        settings: its weight, and what is neutral.
    """

    assigner: Assigner
    shared: SharedSaliency
    settings: SaliencySettings

    def energies(self, descriptors: Tensor) -> Tensor:
        """As the other one's."""
        own = self.assigner.energies(descriptors)
        return with_saliency(own, self.shared.of(descriptors), self.settings.places, self.settings.neutral)


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
