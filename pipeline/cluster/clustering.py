"""The clusterings that can be plugged in (paper section 4), and the elbow that picks k for each of them.

A clustering is a function from a sample of descriptors to `Clusters`; `METHODS` names them, and docs/CLUSTERING.md
shows how to add one. A sample is an array here, and all descriptors are blocks of an iterable that can be iterated
again; frames are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from pipeline.cluster.clusters import Clusters, Floats, Labels
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.cluster.spectral import fit_spectral
from pipeline.config import ClusteringMethod, ClusterSettings
from pipeline.graph import processors, side_by_side

FitClusters = Callable[[Floats, int, int, ClusterSettings], Clusters]
"""From a sample [n, channels], k and a seed to k clusters; raises UsageError where there are fewer points."""

METHODS: Mapping[ClusteringMethod, FitClusters] = {
    "kmeans": lambda sample, k, seed, settings: Clusters(fit_kmeans(sample, k, seed, settings)),
    "spherical": lambda sample, k, seed, settings: Clusters(fit_kmeans(sample, k, seed, settings, spherical=True)),
    "spectral": fit_spectral,
}

AT_ONCE = 4
"""Fits in parallel at most: when the elbow stops, those begun for a larger k are wasted."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """Clusters, and the objectives by which their number was chosen.

    Attributes:
        clusters: what was found.
        labels: for each block of descriptors the clusters, int64 [n].
        objectives: mean squared distance of all descriptors for k = 1, 2, ..., as far as the elbow tried; else for the
            one k that there is.
    """

    clusters: Clusters
    labels: list[Labels]
    objectives: tuple[float, ...]

    @property
    def centroids(self) -> Floats:
        """Float32 [k, channels]."""
        return self.clusters.centroids


def fit_clusters(sample: Floats, k: int, seed: int, settings: ClusterSettings) -> Clusters:
    """Find k clusters in a sample [n, channels] by the settings' method.

    Raises:
        UsageError: there are fewer points than clusters.
    """
    return METHODS[settings.method](sample, k, seed, settings)


def fit_each(sample: Floats, ks: Iterable[int], seed: int, settings: ClusterSettings) -> Generator[Clusters]:
    """`fit_clusters` for each k, several in parallel; the clusters don't depend on how many.

    Args:
        sample: [n, channels].
        ks: numbers of clusters; the fits of the next ones are begun before the last one is taken.
        seed: of the clustering.
        settings: its method and constants.

    Returns:
        The clusters in the order of `ks`.
    """
    return side_by_side(ks, lambda k: fit_clusters(sample, k, seed, settings), min(AT_ONCE, processors()))


def fit_elbow(sample: Floats, blocks: Iterable[Floats], seed: int, settings: ClusterSettings) -> Clustering:
    """Cluster with k = 1, 2, ...; the first k that hardly lowers the mean squared distance is used.

    The distance is that of all descriptors to their cluster's centroid, not of the sample's (the paper's code;
    `ClusterSettings.elbow`). Without an elbow it is the largest k.

    Args:
        sample: [n, channels] that the clustering sees.
        blocks: all descriptors, [m, channels] each; iterated once for each k.
        seed: of the clustering.
        settings: its method, the elbow and the largest k.
    """
    objectives: list[float] = []
    clusters, labels = Clusters(sample[:0]), list[Labels]()
    largest = min(settings.max_clusters, len(sample))
    smallest = 1 if settings.elbow is not None else largest
    with closing(fit_each(sample, range(smallest, largest + 1), seed, settings)) as fits:
        for clusters in fits:
            labels, objective = assign_blocks(blocks, clusters)
            objectives.append(objective)
            if settings.elbow is not None and len(objectives) > 1 and objective > settings.elbow * objectives[-2]:
                break
    return Clustering(clusters, labels, tuple(objectives))


def assign_blocks(blocks: Iterable[Floats], clusters: Clusters) -> tuple[list[Labels], float]:
    """The clusters of all descriptors, and the mean squared distance to their centroids.

    Args:
        blocks: descriptors, [n, channels] each.
        clusters: what they are assigned to.

    Returns:
        For each block int64 [n], and the mean over all.
    """
    labels, total, count = [], 0.0, 0
    for block in blocks:
        nearest, squared = clusters.nearest(block)
        labels.append(nearest)
        total += float(squared.sum(dtype="float64"))
        count += len(block)
    return labels, total / max(1, count)
