"""K-means on a sample of descriptors (paper section 4), plain or spherical. The only module that uses FAISS."""

from __future__ import annotations

import numpy as np

from pipeline.cluster.clusters import Floats
from pipeline.config import ClusterSettings
from pipeline.errors import UsageError
from pipeline.graph import processors, side_by_side


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
    points = np.ascontiguousarray(sample, dtype=np.float32)

    def fit(restart: int) -> tuple[float, Floats]:
        # One thread: the sum of a cluster's members has one order on every machine, and it is faster at this size.
        faiss.omp_set_num_threads(1)
        order = np.zeros(len(points), dtype=np.int32)
        # The seeds of FAISS's own restarts, which run one after the other.
        faiss.rand_perm(faiss.swig_ptr(order), len(points), seed + 1 + restart * 15486557)  # type: ignore[attr-defined]
        kmeans = faiss.Kmeans(
            points.shape[1],
            k,
            niter=settings.iterations,
            spherical=spherical,
            # FAISS would subsample again, and warn of too few points.
            max_points_per_centroid=len(points),
            min_points_per_centroid=1,
        )
        kmeans.train(points, init_centroids=points[order[:k]])
        return float(np.asarray(kmeans.obj)[-1]), np.ascontiguousarray(kmeans.centroids, dtype=np.float32)

    found = side_by_side(range(settings.restarts), fit, min(settings.restarts, processors()))
    # Of squared distances the least, of cosines the largest.
    return (max if spherical else min)(found, key=lambda each: each[0])[1]


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
