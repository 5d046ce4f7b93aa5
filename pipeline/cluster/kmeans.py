"""K-means on a sample of descriptors, and the elbow that picks its k (paper section 4).

The only module that uses FAISS. A sample is an array here, and all descriptors are blocks of an iterable that can be
iterated again; frames are not known.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ClusterSettings
from pipeline.errors import UsageError
from pipeline.graph import processors, side_by_side

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

AT_ONCE = 4
"""Fits of k-means in parallel at most: when the elbow stops, those begun for a larger k are wasted."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """Centroids, and the objectives by which their number was chosen.

    Attributes:
        centroids: float32 [k, channels].
        labels: for each block of descriptors the nearest centroids, int64 [n].
        objectives: mean squared distance of all descriptors for k = 1, 2, ..., as far as the elbow tried; else for the
            one k that there is.
    """

    centroids: Floats
    labels: list[Labels]
    objectives: tuple[float, ...]


def fit_kmeans(sample: Floats, k: int, seed: int, settings: ClusterSettings) -> Floats:
    """Lloyd's k-means with restarts (FAISS); the best of them by its objective.

    Args:
        sample: [n, channels], all of it used.
        k: clusters wanted.
        seed: of the restarts' first centroids.
        settings: iterations and restarts.

    Returns:
        Centroids, float32 [k, channels].

    Raises:
        UsageError: there are fewer points than clusters.
    """
    import faiss

    if len(sample) < k:
        raise UsageError(
            f"k-means with {k} clusters got {len(sample)} descriptors; expected at least {k}: "
            "ask for fewer parts, or give more or larger pictures"
        )
    kmeans = faiss.Kmeans(
        sample.shape[1],
        k,
        niter=settings.iterations,
        nredo=settings.restarts,
        seed=seed,
        # FAISS would subsample again, and warn of too few points.
        max_points_per_centroid=len(sample),
        min_points_per_centroid=1,
    )
    threads = faiss.omp_get_max_threads()
    # One thread: the sum of a cluster's members has one order on every machine, and it is faster at this size.
    faiss.omp_set_num_threads(1)
    try:
        kmeans.train(np.ascontiguousarray(sample, dtype=np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    return np.ascontiguousarray(kmeans.centroids, dtype=np.float32)


def fit_each(sample: Floats, ks: Iterable[int], seed: int, settings: ClusterSettings) -> Generator[Floats]:
    """`fit_kmeans` for each k, several in parallel; the centroids don't depend on how many.

    Args:
        sample: [n, channels].
        ks: numbers of clusters; the fits of the next ones are begun before the last one is taken.
        seed: of k-means.
        settings: iterations and restarts.

    Returns:
        Centroids, float32 [k, channels], in the order of `ks`.
    """
    return side_by_side(ks, lambda k: fit_kmeans(sample, k, seed, settings), min(AT_ONCE, processors()))


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


def fit_elbow(sample: Floats, blocks: Iterable[Floats], seed: int, settings: ClusterSettings) -> Clustering:
    """K-means with k = 1, 2, ...; the first k that hardly lowers the mean squared distance is used.

    The distance is that of all descriptors, not of the sample (the paper's code; `ClusterSettings.elbow`). Without an
    elbow it is the largest k.

    Args:
        sample: [n, channels] that k-means sees.
        blocks: all descriptors, [m, channels] each; iterated once for each k.
        seed: of k-means.
        settings: the elbow and the largest k.
    """
    objectives: list[float] = []
    centroids, labels = sample[:0], list[Labels]()
    largest = min(settings.max_clusters, len(sample))
    smallest = 1 if settings.elbow is not None else largest
    with closing(fit_each(sample, range(smallest, largest + 1), seed, settings)) as fits:
        for centroids in fits:
            labels, objective = assign_blocks(blocks, centroids)
            objectives.append(objective)
            if settings.elbow is not None and len(objectives) > 1 and objective > settings.elbow * objectives[-2]:
                break
    return Clustering(centroids, labels, tuple(objectives))


def assign_blocks(blocks: Iterable[Floats], centroids: Floats) -> tuple[list[Labels], float]:
    """The nearest of centroids [k, channels] for all descriptors, and the mean squared distance to them.

    Args:
        blocks: descriptors, [n, channels] each.
        centroids: [k, channels].

    Returns:
        For each block int64 [n], and the mean over all.
    """
    labels, total, count = [], 0.0, 0
    for block in blocks:
        nearest, squared = nearest_centroids(block, centroids)
        labels.append(nearest)
        total += float(squared.sum(dtype=np.float64))
        count += len(block)
    return labels, total / max(1, count)


def thin(descriptors: Floats, interval: int) -> Floats:
    """Every `interval`th descriptor of a frame, from the first.

    >>> thin(np.arange(5, dtype=np.float32)[:, None], 2)[:, 0].tolist()
    [0.0, 2.0, 4.0]
    """
    return descriptors[::interval]
