"""K-means on a sample of descriptors (paper section 4), plain or spherical. The only module that uses FAISS."""

from __future__ import annotations

import numpy as np

from pipeline.cluster.clusters import Floats
from pipeline.config import ClusterSettings
from pipeline.errors import UsageError


def fit_kmeans(sample: Floats, k: int, seed: int, settings: ClusterSettings, *, spherical: bool = False) -> Floats:
    """Lloyd's k-means with restarts (FAISS); the best of them by its objective.

    Args:
        sample: [n, channels], all of it used.
        k: clusters wanted.
        seed: of the restarts' first centroids.
        settings: iterations and restarts.
        spherical: whether centroids are brought to unit length after each iteration, so that cosines decide.

    Returns:
        Centroids, float32 [k, channels].

    Raises:
        UsageError: there are fewer points than clusters.
    """
    import faiss

    require_enough(sample, k, "k-means")
    kmeans = faiss.Kmeans(
        sample.shape[1],
        k,
        niter=settings.iterations,
        nredo=settings.restarts,
        seed=seed,
        spherical=spherical,
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


def require_enough(sample: Floats, k: int, method: str) -> None:
    """Refuse a sample [n, channels] with fewer descriptors than clusters.

    Raises:
        UsageError: it has fewer.
    """
    if len(sample) < k:
        raise UsageError(
            f"{method} with {k} clusters got {len(sample)} descriptors; expected at least {k}: "
            "ask for fewer parts, or give more or larger pictures"
        )


def thin(descriptors: Floats, interval: int) -> Floats:
    """Every `interval`th descriptor of a frame, from the first.

    >>> thin(np.arange(5, dtype=np.float32)[:, None], 2)[:, 0].tolist()
    [0.0, 2.0, 4.0]
    """
    return descriptors[::interval]
