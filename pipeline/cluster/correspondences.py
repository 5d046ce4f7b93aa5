"""Best buddies between two pictures' descriptors, and a spread choice of them (equation 5).

Descriptors are rows of a matrix here, and a position is a row's index; grids and pictures are in `tasks/match.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.clusters import nearest_centroids

BLOCK_ROWS = 1024
"""Rows of the first picture that are compared with all of the second's at once: 22 MB at 5,400 of these."""

KMEANS_RESTARTS = 10
MOST_FITTED = 1500
"""Pairs that k-means is fitted on at most, evenly spread; the others are assigned to the nearest cluster."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Nearest neighbours both ways under cosine similarity.

    Attributes:
        forward: int64 [n], for each descriptor of the first picture its nearest in the second.
        forward_similarity: float32 [n], their cosine similarity.
        backward: int64 [m], for each descriptor of the second picture its nearest in the first.
    """

    forward: NDArray[np.int64]
    forward_similarity: NDArray[np.float32]
    backward: NDArray[np.int64]

    @property
    def best_buddies(self) -> NDArray[np.bool_]:
        """Bool [n]: which of the first picture's descriptors are the nearest of their own nearest (equation 5)."""
        found: NDArray[np.bool_] = self.backward[self.forward] == np.arange(len(self.forward))
        return found


def nearest_both_ways(first: Tensor, second: Tensor, block_rows: int = BLOCK_ROWS) -> Neighbours:
    """Nearest neighbours both ways; of the n by m similarities only some rows are in memory at a time.

    Args:
        first: float32 [n, channels], of any length; on any device.
        second: float32 [m, channels], on the same device.
        block_rows: rows of `first` at a time.

    Returns:
        The first of equally similar descriptors wins.
    """
    forward, similarities = [], []
    best = second.new_full((len(second),), -torch.inf)
    backward = torch.zeros(len(second), dtype=torch.int64, device=second.device)
    lengths = torch.linalg.vector_norm(second, dim=1).clamp_min(1e-12)
    for start in range(0, len(first), block_rows):
        # Dividing the products saves two copies of the descriptors at unit length.
        similarity = torch.nn.functional.normalize(first[start : start + block_rows], dim=1) @ second.T
        similarity /= lengths
        value, index = similarity.max(dim=1)
        forward.append(index)
        similarities.append(value)
        value, index = similarity.max(dim=0)
        better = value > best
        best = torch.where(better, value, best)
        backward = torch.where(better, index + start, backward)
    return Neighbours(torch.cat(forward).cpu().numpy(), torch.cat(similarities).cpu().numpy(), backward.cpu().numpy())


def spread_pairs(
    first: NDArray[np.float32], second: NDArray[np.float32], saliency: NDArray[np.floating], count: int, seed: int
) -> NDArray[np.int64]:
    """Choose pairs that differ from each other: k-means over both descriptors side by side, one pair a cluster.

    From each cluster the pair with the highest saliency (the paper's code). An empty cluster gives none; the authors'
    code takes the mean of nothing there.

    Args:
        first: [n, channels], the pairs' descriptors in the first picture.
        second: [n, channels], those in the second.
        saliency: [n], the pairs' mean saliency.
        count: pairs wanted, fewer than there are.
        seed: of k-means.

    Returns:
        Indices of the chosen pairs, int64, the most salient first; `count` at most.
    """
    labels = _cluster(np.concatenate([_unit(first), _unit(second)], axis=1), count, seed)
    members = (np.flatnonzero(labels == label) for label in np.unique(labels))
    chosen = np.array([each[saliency[each].argmax()] for each in members])
    return chosen[np.argsort(-saliency[chosen], kind="stable")].astype(np.int64)


def _unit(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
    return np.asarray(descriptors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _cluster(points: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """Cluster numbers of all points; k-means sees evenly spread ones where there are very many."""
    # Thousands of channels and few points: scikit-learn's k-means stops at convergence, FAISS's does all iterations.
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    sample = points[:: -(-len(points) // MOST_FITTED)]
    compact = compact_points(sample)
    # One thread: the sum of a cluster's members has one order on every machine, and it is faster at this size.
    with threadpool_limits(1):
        fitted = KMeans(count, n_init=KMEANS_RESTARTS, random_state=seed).fit(compact).labels_
    if len(sample) == len(points):
        return np.asarray(fitted, dtype=np.int64)
    centroids = np.stack([sample[fitted == label].mean(axis=0) for label in np.unique(fitted)])
    return nearest_centroids(points, centroids)[0]


def compact_points(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same points in as many channels as there are points; k-means gives the same clusters there.

    The rows of the Cholesky factor of the Gram matrix have the same inner products. The diagonal gets a small term, so
    that the factor exists where points coincide; it adds the same to every k-means objective.
    """
    products = (points @ points.T).astype(np.float64)
    return np.asarray(np.linalg.cholesky(products + 1e-3 * np.eye(len(points))))
