"""K-means with a prior: centroids start at known body regions and stay near them.

Plain k-means prefers clusters of similar size: a torso is halved, and legs are merged. Here each part's centroid is
pulled towards the mean descriptor of its region, so that small parts keep their place and large ones follow the video.
The regions may shift together freely, since light or a coat's colour shifts them all. This minimises

    sum over descriptors x of |x - nearest c|^2  +  strength * sum over regions r of |c_r - region_r - shift|^2

over the centroids c and the one shift by alternating exact steps, each of which lowers it, until no descriptor changes
its part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.clusters import nearest_centroids
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.config import ClusterSettings
from pipeline.records import Regions

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Centroids [k, channels], and which of them, bool [k], are pulled to a region [k, channels]."""

    centroids: Floats
    regions: Floats
    drawn: NDArray[np.bool_]

    def without(self, part: int) -> _Parts:
        keep = np.arange(len(self.centroids)) != part
        return _Parts(self.centroids[keep], self.regions[keep], self.drawn[keep])

    def split(self, part: int, halves: Floats) -> _Parts:
        """The half that is nearer to the part's region keeps its prior; the other one has none."""
        halves = halves[np.argsort(((halves - self.regions[part]) ** 2).sum(axis=1), kind="stable")]
        centroids = self.centroids.copy()
        centroids[part] = halves[0]
        return _Parts(
            np.concatenate([centroids, halves[1:]]),
            np.concatenate([self.regions, halves[1:]]),
            np.append(self.drawn, False),
        )


def fit_near_regions(sample: Floats, regions: Regions, seed: int, settings: ClusterSettings) -> Floats:
    """Find the wanted number of parts of a body near the regions of its kind.

    The kind is the one whose regions are nearest to the descriptors. Where it has more regions than parts are wanted,
    the region whose removal costs least is removed, one by one; where it has fewer, the part of largest variance is
    halved.

    Args:
        sample: [n, channels], descriptors of the foreground, at least as many as parts.
        regions: what the model knows.
        seed: of the k-means that halves a part.
        settings: parts wanted, the prior's weight and the largest number of steps.

    Returns:
        Centroids, float32 [parts, channels].
    """
    own = regions.keys[regions.kinds[nearest_kind(sample, regions)]]
    parts = _settle(sample, _Parts(own, own, np.ones(len(own), dtype=np.bool_)), settings)
    while len(parts.centroids) > settings.parts:
        parts = _settle(sample, parts.without(_least_missed(sample, parts.centroids)), settings)
    while len(parts.centroids) < settings.parts:
        parts = _settle(sample, _halve_most_uneven(sample, parts, seed, settings), settings)
    return parts.centroids


def nearest_kind(sample: Floats, regions: Regions) -> int:
    """The kind of body whose regions' means are nearest to descriptors [n, channels], by mean squared distance."""
    distances = [nearest_centroids(sample, regions.keys[kind])[1].mean(dtype=np.float64) for kind in regions.kinds]
    return int(np.argmin(distances))


def _settle(sample: Floats, parts: _Parts, settings: ClusterSettings) -> _Parts:
    """Assign, move and shift in turn until nothing changes."""
    pull = np.where(parts.drawn, settings.prior * len(sample) / settings.parts, 0.0)
    centroids, before = parts.centroids, np.empty(0, dtype=np.int64)
    for _ in range(settings.iterations):
        labels = nearest_centroids(sample, centroids)[0]
        if np.array_equal(labels, before):
            break
        before = labels
        centroids = _move(sample, labels, _Parts(centroids, parts.regions, parts.drawn), pull)
    return _Parts(centroids, parts.regions, parts.drawn)


def _move(sample: Floats, labels: NDArray[np.int64], parts: _Parts, pull: NDArray[np.float64]) -> Floats:
    """The centroids, including the shift, that are optimal for given members."""
    counts = np.bincount(labels, minlength=len(pull))
    members = np.eye(len(pull), dtype=np.float32)[labels]
    means = (members.T @ sample) / np.maximum(counts, 1)[:, None]
    share = np.where(counts > 0, counts / np.maximum(counts + pull, 1e-12), 0.0)
    # Each part weighed by how far it follows its members: the optimal shift jointly with the centroids.
    weight = share * parts.drawn
    shift = weight @ (means - parts.regions) / max(float(weight.sum()), 1e-12)
    aims = np.where(parts.drawn[:, None], parts.regions + shift, parts.centroids)
    return np.ascontiguousarray(share[:, None] * means + (1 - share[:, None]) * aims, dtype=np.float32)


def _least_missed(sample: Floats, centroids: Floats) -> int:
    """The part whose members are nearly as near to another one."""
    labels, nearest = nearest_centroids(sample, centroids)
    missed = np.zeros(len(centroids))
    for part in range(len(centroids)):
        second = nearest_centroids(sample[labels == part], np.delete(centroids, part, axis=0))[1]
        missed[part] = (second - nearest[labels == part]).sum(dtype=np.float64)
    return int(missed.argmin())


def _halve_most_uneven(sample: Floats, parts: _Parts, seed: int, settings: ClusterSettings) -> _Parts:
    labels, squares = nearest_centroids(sample, parts.centroids)
    spread = np.bincount(labels, weights=squares, minlength=len(parts.centroids))
    # One descriptor can't be halved.
    spread[np.bincount(labels, minlength=len(spread)) < 2] = -1.0
    part = int(spread.argmax())
    return parts.split(part, fit_kmeans(sample[labels == part], 2, seed, settings))
