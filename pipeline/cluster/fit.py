"""Fitting a codebook to the frames of a cache: elbow, votes, parts (paper section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.cache import FeatureCache
from pipeline.cluster.kmeans import Clustering, fit_elbow, fit_kmeans, nearest_centroids, thin
from pipeline.cluster.votes import Votes, count_votes
from pipeline.config import ClusterSettings, SaliencySettings
from pipeline.errors import InputError, UsageError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PartFit:
    """What a fit finds.

    Attributes:
        clustering: the clusters of all descriptors.
        votes: which of them are foreground.
        part_centroids: float32 [parts, channels], the part with most descriptors first.
    """

    clustering: Clustering
    votes: Votes
    part_centroids: Floats


class _Flat:
    """The cache's descriptors as matrices, one frame in memory at a time; can be gone through again."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def __iter__(self) -> Iterator[Floats]:
        for entry in self._cache:
            yield entry.descriptors.reshape(-1, entry.descriptors.shape[-1])


def fit_parts(cache: FeatureCache, seed: int, cluster: ClusterSettings, saliency: SaliencySettings) -> PartFit:
    """Fit both k-means and count the votes between them.

    Args:
        cache: L2-normalised descriptors and saliency of the frames to fit.
        seed: of both k-means.
        cluster: constants of k-means and the elbow.
        saliency: constants of the votes.

    Raises:
        InputError: the cache is empty.
        UsageError: more parts are asked for than there are foreground descriptors.
    """
    if not len(cache):
        raise InputError("there are no frames to fit a codebook on; give an input that holds some")
    clustering = fit_elbow(_sample(_Flat(cache), cluster), _Flat(cache), seed, cluster)
    saliency_maps = [entry.saliency.ravel() for entry in cache]
    votes = count_votes(clustering.labels, saliency_maps, len(clustering.centroids), saliency)
    foreground = [votes.salient[labels] for labels in clustering.labels]
    return PartFit(clustering, votes, _fit_foreground(_Flat(cache), foreground, seed, cluster))


def _fit_foreground(blocks: _Flat, foreground: list[NDArray[np.bool_]], seed: int, cluster: ClusterSettings) -> Floats:
    total = sum(int(mask.sum()) for mask in foreground)
    if total < cluster.parts:
        raise UsageError(
            f"{cluster.parts} parts were asked for, but the foreground has only {total} descriptors; "
            "ask for fewer with --parts, or give more or larger frames"
        )
    masked = (block[mask] for block, mask in zip(blocks, foreground, strict=True))
    sample = _thin_all(masked, cluster.sample_interval)
    if len(sample) < cluster.parts:
        masked = (block[mask] for block, mask in zip(blocks, foreground, strict=True))
        sample = _thin_all(masked, 1)
    centroids = fit_kmeans(sample, cluster.parts, seed, cluster)
    sizes = np.zeros(len(centroids), dtype=np.int64)
    for block, mask in zip(blocks, foreground, strict=True):
        sizes += np.bincount(nearest_centroids(block[mask], centroids)[0], minlength=len(centroids))
    # K-means numbers its clusters by chance: by size they keep their colours when a fit is done again.
    return np.ascontiguousarray(centroids[np.argsort(-sizes, kind="stable")])


def _sample(blocks: _Flat, cluster: ClusterSettings) -> Floats:
    sample = _thin_all(blocks, cluster.sample_interval)
    # A handful of small pictures leaves next to nothing of every hundredth descriptor.
    return sample if len(sample) >= cluster.max_clusters else _thin_all(blocks, 1)


def _thin_all(blocks: _Flat | Iterator[Floats], interval: int) -> Floats:
    return np.concatenate([thin(block, interval) for block in blocks])
