"""Fitting a codebook to the frames of a cache: elbow, votes, parts (paper section 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cluster.assignment import ForegroundAssigner
from pipeline.cluster.clustering import Clustering, assign_blocks, fit_clusters, fit_elbow
from pipeline.cluster.clusters import Clusters
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.kmeans import thin
from pipeline.cluster.place_saliency import SharedVoting, Voting, evened, fit_shared, with_saliency
from pipeline.cluster.region_prior import fit_near_regions
from pipeline.cluster.votes import Votes, count_votes
from pipeline.config import ClusterSettings, SaliencySettings
from pipeline.errors import InputError, UsageError
from pipeline.records import Regions

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PartFit:
    """What a fit finds.

    Attributes:
        clustering: the clusters of all descriptors.
        votes: which of them are foreground.
        parts: the clusters of the foreground, the part with most descriptors first.
        shared: as `Foreground.shared`.
    """

    clustering: Clustering
    votes: Votes
    parts: Clusters
    shared: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class Foreground:
    """The clusters of all descriptors, and which of them are foreground.

    Attributes:
        clustering: the clusters; its labels are those of the voting frames, then those of the others.
        votes: which of them are foreground.
        shared: the saliency that frames share, by which they voted (`place_saliency.fit_shared`); None: by their own.
    """

    clustering: Clustering
    votes: Votes
    shared: Floats | None

    @property
    def masks(self) -> list[NDArray[np.bool_]]:
        """For each frame which of its descriptors are foreground, bool [n]."""
        return [self.votes.salient[labels] for labels in self.clustering.labels]


class Descriptors:
    """The descriptors of caches as matrices [n, channels], one frame in memory at a time; can be iterated again."""

    def __init__(self, *caches: FeatureCache) -> None:
        """Iterate over the caches one after the other."""
        self._caches = caches

    def __iter__(self) -> Iterator[Floats]:
        """Each frame's matrix."""
        for cache in self._caches:
            for entry in cache:
                yield entry.descriptors.reshape(-1, entry.descriptors.shape[-1])


def fit_parts(
    cache: FeatureCache, seed: int, cluster: ClusterSettings, saliency: SaliencySettings, regions: Regions | None = None
) -> PartFit:
    """Fit both clusterings and count the votes between them.

    Args:
        cache: L2-normalised descriptors and saliency of the frames to fit.
        seed: of both clusterings.
        cluster: their method, their constants and the elbow.
        saliency: constants of the votes.
        regions: what the model knows of parts; used where the prior has a weight.

    Raises:
        InputError: the cache is empty.
        UsageError: more parts are asked for than there are foreground descriptors.
    """
    found = fit_foreground(cache, Descriptors(cache), seed, cluster, saliency)
    parts = fit_within(Descriptors(cache), object_masks(cache, found, saliency, cluster.parts), seed, cluster, regions)
    return PartFit(found.clustering, found.votes, parts, found.shared)


def object_masks(
    voting: FeatureCache, found: Foreground, saliency: SaliencySettings, least: int
) -> list[NDArray[np.bool_]]:
    """For each frame which of its descriptors are the objects' whose parts are wanted, bool [n].

    Those of the foreground's clusters, or, where a place's saliency counts in labels, those that it makes foreground
    with them, if these are at least `least`. Frames without a vote have no saliency.
    """
    if not saliency.places:
        return found.masks
    assigner = ForegroundAssigner.of(found.clustering.clusters, found.votes.salient)
    masks = []
    for entry in _heard(voting, found.shared):
        energies = assigner.energies(torch.tensor(entry.descriptors))
        places = torch.tensor(entry.saliency)
        if found.shared is None:
            places = evened(places)
        heard = with_saliency(energies, places, saliency.places, saliency.neutral)
        masks.append((heard[1] < heard[0]).flatten().numpy())
    return [*masks, *found.masks[len(masks) :]] if sum(int(mask.sum()) for mask in masks) >= least else found.masks


def fit_foreground(
    voting: FeatureCache, descriptors: Descriptors, seed: int, cluster: ClusterSettings, saliency: SaliencySettings
) -> Foreground:
    """Cluster all descriptors, and have frames vote which clusters are foreground.

    Args:
        voting: descriptors and saliency of the frames that vote.
        descriptors: theirs, followed by those of pictures that join the fit without a vote.
        seed: of the clustering.
        cluster: its method, its constants and the elbow.
        saliency: constants of the votes.

    Raises:
        InputError: no frame votes.
    """
    _require_frames(voting)
    clustering = fit_elbow(_sample(descriptors, cluster), descriptors, seed, cluster)
    return _vote(voting, clustering, saliency)


def foreground_of(voting: FeatureCache, centroids: Floats, saliency: SaliencySettings) -> Foreground:
    """Have frames vote which of given clusters, float32 [k, channels], are foreground.

    Raises:
        InputError: no frame votes.
        UsageError: the clusters have another number of channels than the descriptors.
    """
    _require_frames(voting)
    channels = next(iter(voting)).descriptors.shape[-1]
    if centroids.ndim != 2 or not len(centroids) or centroids.shape[1] != channels:
        raise UsageError(f"the clusters have shape {centroids.shape}, expected (k, {channels}), as the descriptors")
    clusters = Clusters(np.ascontiguousarray(centroids, dtype=np.float32))
    labels, objective = assign_blocks(Descriptors(voting), clusters)
    return _vote(voting, Clustering(clusters, labels, (objective,)), saliency)


def fit_within(
    blocks: Iterable[Floats],
    masks: Sequence[NDArray[np.bool_]],
    seed: int,
    cluster: ClusterSettings,
    regions: Regions | None = None,
) -> Clusters:
    """Find `parts` clusters in some of the descriptors.

    Args:
        blocks: descriptors [n, channels] of each frame; can be iterated again.
        masks: for each frame which of them count, bool [n].
        seed: of the clustering.
        cluster: number of parts, method and constants.
        regions: what the model knows of parts; used by k-means where the prior has a weight.

    Returns:
        The part with most descriptors first.

    Raises:
        UsageError: there are fewer such descriptors than parts.
    """
    total = sum(int(mask.sum()) for mask in masks)
    if total < cluster.parts:
        raise UsageError(
            f"{cluster.parts} parts were asked for, but the foreground has only {total} descriptors; "
            "ask for fewer with --parts, or give more or larger frames"
        )
    chosen = Masked(blocks, masks)
    sample = _thin_all(chosen, cluster.sample_interval)
    if len(sample) < cluster.parts:
        sample = _thin_all(chosen, 1)
    if regions is None or cluster.prior == 0 or cluster.method != "kmeans":
        return _by_size(fit_clusters(sample, cluster.parts, seed, cluster), chosen)
    return _by_size(Clusters(fit_near_regions(sample, regions, seed, cluster)), chosen)


def fit_within_by_elbow(
    blocks: Iterable[Floats], masks: Sequence[NDArray[np.bool_]], seed: int, cluster: ClusterSettings
) -> Clusters:
    """As `fit_within`, with as many clusters as the elbow says."""
    chosen = Masked(blocks, masks)
    return _by_size(fit_elbow(_sample(chosen, cluster), chosen, seed, cluster).clusters, chosen)


class Masked:
    """Those descriptors of each frame that a mask picks; can be iterated again."""

    def __init__(self, blocks: Iterable[Floats], masks: Sequence[NDArray[np.bool_]]) -> None:
        """Pair the frames with their masks."""
        self._blocks, self._masks = blocks, masks

    def __iter__(self) -> Iterator[Floats]:
        """Each frame's matrix [m, channels]."""
        for block, mask in zip(self._blocks, self._masks, strict=True):
            yield block[mask]


def _require_frames(voting: FeatureCache) -> None:
    if not len(voting):
        raise InputError("there are no frames to fit a codebook on; give an input that holds some")


def _vote(voting: FeatureCache, clustering: Clustering, saliency: SaliencySettings) -> Foreground:
    shared = fit_shared(voting) if saliency.shared else None
    maps = [entry.saliency.ravel() for entry in _heard(voting, shared)]
    votes = count_votes(clustering.labels[: len(maps)], maps, len(clustering.centroids), saliency)
    return Foreground(clustering, votes, shared)


def _heard(voting: FeatureCache, shared: Floats | None) -> Voting:
    return voting if shared is None else SharedVoting(voting, shared)


def _by_size(clusters: Clusters, blocks: Iterable[Floats]) -> Clusters:
    """Clusters in order of size: they are numbered by chance, and colours should stay when a fit is repeated."""
    sizes = np.zeros(len(clusters), dtype=np.int64)
    for block in blocks:
        sizes += np.bincount(clusters.nearest(block)[0], minlength=len(clusters))
    return clusters.take(np.argsort(-sizes, kind="stable"))


def _sample(blocks: Iterable[Floats], cluster: ClusterSettings) -> Floats:
    sample = _thin_all(blocks, cluster.sample_interval)
    # Every 100th descriptor of a few small pictures would be too few.
    return sample if len(sample) >= cluster.max_clusters else _thin_all(blocks, 1)


def _thin_all(blocks: Iterable[Floats], interval: int) -> Floats:
    return np.concatenate([thin(block, interval) for block in blocks])
