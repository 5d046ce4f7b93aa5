"""Typical members of clusters: the descriptors nearest to a centroid, spread over frames and places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.feature_cache import FeatureCache, Key

APART = 4
"""Grid positions between two members of one frame at least."""


@dataclass(frozen=True, slots=True)
class TypicalPlace:
    """A place of the grid of a frame, and the squared distance of its descriptor to the centroid of its cluster."""

    key: Key
    row: int
    col: int
    distance: float


def typical_places(cache: FeatureCache, centroids: NDArray[np.float32], count: int) -> list[list[TypicalPlace]]:
    """For each cluster its members nearest to the centroid, from as many frames as possible.

    Args:
        cache: L2-normalised descriptors; one frame in memory at a time.
        centroids: float32 [k, channels].
        count: members of a cluster at most.

    Returns:
        For each cluster its places, the nearest first; fewer where it has fewer members.
    """
    each = -(-count // max(1, len(cache)))
    found: list[list[TypicalPlace]] = [[] for _ in centroids]
    norms = np.einsum("kc,kc->k", centroids, centroids)
    for key, entry in cache.items():
        rows, cols, channels = entry.descriptors.shape
        flat = entry.descriptors.reshape(-1, channels)
        distances = np.einsum("nc,nc->n", flat, flat)[:, None] - 2 * flat @ centroids.T + norms
        nearest = distances.argmin(axis=1).reshape(rows, cols)
        for cluster in range(len(centroids)):
            values = distances[:, cluster].reshape(rows, cols)
            found[cluster] += _nearest_members(key, values, nearest == cluster, each)
    return [sorted(places, key=lambda place: place.distance)[:count] for places in found]


def _nearest_members(
    key: Key, distances: NDArray[np.float32], members: NDArray[np.bool_], count: int
) -> list[TypicalPlace]:
    left = np.where(members, distances, np.inf)
    places = []
    for _ in range(count):
        row, col = divmod(int(left.argmin()), left.shape[1])
        if not np.isfinite(left[row, col]):
            break
        places.append(TypicalPlace(key, row, col, float(distances[row, col])))
        left[max(0, row - APART) : row + APART + 1, max(0, col - APART) : col + APART + 1] = np.inf
    return places
