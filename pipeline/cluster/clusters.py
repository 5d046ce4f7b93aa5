"""Clusters as a clustering leaves them: centroids, and where nearness is judged in another space, the way there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Not at import: `edit`, `report` and `view` read codebooks, and torch takes seconds to load.
    from torch import Tensor

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The space in which spectral clustering finds its clusters, by Nyström's extension (Fowlkes et al., 2004).

    A descriptor is embedded by its similarity to landmarks, exp(-gamma |x - landmark|^2), times a matrix, and brought
    to unit length.

    Attributes:
        landmarks: float32 [m, channels].
        weights: float32 [m, dimensions].
        centroids: float32 [k, dimensions], the clusters in that space.
        gamma: of the similarity.
    """

    landmarks: Floats
    weights: Floats
    centroids: Floats
    gamma: float

    def __post_init__(self) -> None:
        """Check that the tables fit together."""
        tables = {"landmarks": self.landmarks, "weights": self.weights, "centroids": self.centroids}
        for name, table in tables.items():
            if table.ndim != 2 or not table.size or not np.isfinite(table).all():
                raise ValueError(f"embedding's {name}: got shape {table.shape}, expected a matrix of finite numbers")
        if len(self.landmarks) != len(self.weights) or self.weights.shape[1] != self.centroids.shape[1]:
            raise ValueError(f"embedding of shapes {[table.shape for table in tables.values()]} doesn't fit together")
        if not 0 < self.gamma < np.inf:
            raise ValueError(f"embedding's gamma is {self.gamma}, expected a positive number")

    def embed(self, descriptors: Tensor) -> Tensor:
        """Descriptors [n, channels] as [n, dimensions] at unit length, on their device."""
        import torch

        landmarks, weights = (
            torch.from_numpy(table).to(descriptors.device) for table in (self.landmarks, self.weights)
        )
        similar = torch.exp(-self.gamma * squared_distances(descriptors, landmarks))
        return torch.nn.functional.normalize(similar @ weights, dim=-1, eps=1e-12)

    def distances(self, descriptors: Tensor) -> Tensor:
        """Squared distances [n, k] of embedded descriptors [n, channels] to the centroids."""
        import torch

        return squared_distances(self.embed(descriptors), torch.from_numpy(self.centroids).to(descriptors.device))


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """What a clustering finds.

    Attributes:
        centroids: float32 [k, channels], mean descriptors.
        embedding: where nearness is judged; None: among the descriptors themselves.
    """

    centroids: Floats
    embedding: Embedding | None = None

    def __len__(self) -> int:
        """Number of clusters."""
        return len(self.centroids)

    def nearest(self, descriptors: Floats) -> tuple[Labels, Floats]:
        """The cluster of each descriptor [n, channels], and the squared distance to its centroid.

        Returns:
            int64 [n] and float32 [n].
        """
        if self.embedding is None:
            return nearest_centroids(descriptors, self.centroids)
        import torch

        labels = self.embedding.distances(torch.tensor(descriptors)).argmin(dim=1).numpy()
        return labels, np.square(descriptors - self.centroids[labels]).sum(axis=1)

    def take(self, order: Labels) -> Clusters:
        """The same clusters in another order."""
        embedding = self.embedding
        if embedding is not None:
            embedding = replace(embedding, centroids=np.ascontiguousarray(embedding.centroids[order]))
        return Clusters(np.ascontiguousarray(self.centroids[order]), embedding)


def nearest_centroids(descriptors: Floats, centroids: Floats) -> tuple[Labels, Floats]:
    """The nearest centroid of each descriptor, and the squared distance to it.

    Args:
        descriptors: [n, channels].
        centroids: [k, channels].

    Returns:
        int64 [n] and float32 [n].
    """
    # |x - c|^2 by one matrix product; |x|^2 is the same for all c and is added after the minimum.
    partial = np.einsum("kc,kc->k", centroids, centroids) - 2.0 * (descriptors @ centroids.T)
    labels = partial.argmin(axis=1)
    squares = np.einsum("nc,nc->n", descriptors, descriptors)
    return labels, np.maximum(partial[np.arange(len(labels)), labels] + squares, 0.0).astype(np.float32)


def squared_distances(descriptors: Tensor, centroids: Tensor) -> Tensor:
    """Squared Euclidean distances [n, k] of descriptors [n, channels] to centroids [k, channels]."""
    norms = (descriptors * descriptors).sum(dim=1, keepdim=True) + (centroids * centroids).sum(dim=1)
    return norms.addmm(descriptors, centroids.T, alpha=-2.0).clamp(min=0.0)
