"""Spectral clustering (Ng, Jordan, Weiss, 2001) with Nyström's approximation (Fowlkes et al., 2004).

The graph's nodes are a sample of descriptors, its weights exp(-gamma |x - y|^2). Similarities to some landmarks stand
for all of them (scikit-learn's `Nystroem`), so that time is linear in the sample, and any other descriptor can be
embedded.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline.cluster.clusters import Clusters, Embedding, Floats
from pipeline.cluster.kmeans import fit_kmeans, require_enough
from pipeline.config import ClusterSettings
from pipeline.graph import single_threaded

LANDMARKS: Final = 512
"""Landmarks at most."""

SHARPNESS: Final = (1.0, 2.0, 4.0, 8.0)
"""gamma is one of these over the median squared distance: the one with the tightest clusters (Ng et al., section 4)."""


def fit_spectral(sample: Floats, k: int, seed: int, settings: ClusterSettings) -> Clusters:
    """Cluster the leading eigenvectors of the normalised similarities by k-means.

    Args:
        sample: [n, channels], all of it used.
        k: clusters wanted.
        seed: of the choice of landmarks and of k-means.
        settings: iterations and restarts of k-means.

    Raises:
        UsageError: there are fewer points than clusters.
    """
    require_enough(sample, k, "spectral clustering")
    with single_threaded():
        tried = [_fit(sample, k, seed, settings, sharpness) for sharpness in SHARPNESS]
    return min(tried, key=lambda found: found[1])[0]


def _fit(sample: Floats, k: int, seed: int, settings: ClusterSettings, sharpness: float) -> tuple[Clusters, float]:
    """The clusters, and the mean squared distance to them where they were found."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.metrics import pairwise_distances

    thinned = sample[:: -(-len(sample) // LANDMARKS)]
    median = float(np.median(pairwise_distances(thinned, metric="sqeuclidean")))
    # As the codebook keeps it.
    gamma = float(np.float32(sharpness / max(median, 1e-6)))
    features = Nystroem(gamma=gamma, n_components=min(LANDMARKS, len(sample)), random_state=seed)
    mapped = features.fit_transform(sample).astype(np.float64)
    # Rows of D^-1/2 Z, whose left singular vectors are the eigenvectors of the normalised similarities.
    degrees = np.maximum(mapped @ mapped.sum(axis=0), 1e-12)
    scaled = mapped / np.sqrt(degrees)[:, None]
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    leading = vectors[:, -k:] / np.sqrt(np.maximum(values[-k:], 1e-12))
    # A descriptor's own degree only scales its row, which is brought to unit length.
    weights = np.ascontiguousarray(features.normalization_.T @ leading, dtype=np.float32)
    landmarks = np.ascontiguousarray(features.components_, dtype=np.float32)
    rows = mapped @ leading
    rows = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    embedding = Embedding(landmarks, weights, fit_kmeans(rows, k, seed, settings), gamma)
    found = Clusters(np.zeros((k, sample.shape[1]), np.float32), embedding)
    labels, _ = found.nearest(sample)
    sums = np.zeros((k, sample.shape[1]))
    np.add.at(sums, labels, sample)
    sizes = np.bincount(labels, minlength=k)
    means = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
    tightness = float(np.square(rows - embedding.centroids[labels]).sum(axis=1).mean())
    return Clusters(means, embedding), tightness
