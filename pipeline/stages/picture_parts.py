"""Parts of a set of pictures, in one stage or three (paper section 4; stages: authors' code).

Three stages are for small sets with much variation: first parts by the elbow; after the CRF, parts that don't occur in
every picture are dropped and count as background; then the wanted number of parts in what remains.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cluster.assignment import PartAssigner, with_shared
from pipeline.cluster.clusters import Clusters
from pipeline.cluster.common_parts import common_parts
from pipeline.cluster.fit import (
    Descriptors,
    Foreground,
    PartFit,
    fit_foreground,
    fit_within,
    fit_within_by_elbow,
    foreground_of,
    object_masks,
)
from pipeline.cluster.votes import Votes
from pipeline.config import CrfSettings
from pipeline.errors import UsageError
from pipeline.geometry import nearest_index
from pipeline.records import PartMap
from pipeline.refine.crf import refine_labels
from pipeline.stages.fit import Fitted, codebook_of
from pipeline.stages.picture_set import Album, Image, Refine

Floats = NDArray[np.float32]


def fit_album(album: Album) -> Fitted:
    """Fill a set's caches and find its parts; its settings say how many, and in how many stages.

    Raises:
        InputError: no picture can be read.
        UsageError: there are fewer foreground descriptors than parts.
    """
    started = time.perf_counter()
    settings = album.engine.settings
    fitted = album.fill(settings.pictures.crop_augmentations)
    everything = Descriptors(album.cache, album.crops)
    found = fit_foreground(album.cache, everything, settings.run.seed, settings.cluster, settings.saliency)
    warnings = [found.votes.warning] if found.votes.warning else []
    if settings.pictures.three_stages:
        if found.clustering.clusters.embedding is not None:
            raise UsageError("three stages go by centroids of descriptors; give cluster.method kmeans or spherical")
        parts, more = _fit_remaining(album, fitted, everything, found)
        warnings += more
    else:
        parts = _fit_once(album, everything, found)
    return _announced(album, parts, warnings, started)


def fit_around(album: Album, centroids: Floats, part_centroids: Floats) -> Fitted:
    """The codebook of clusters that were found elsewhere; the set's pictures vote which are foreground.

    Args:
        album: the set; its caches are filled.
        centroids: clusters of all descriptors, float32 [k, channels].
        part_centroids: parts, float32 [parts, channels].

    Raises:
        InputError: no picture can be read.
        UsageError: the clusters don't fit the descriptors.
    """
    started = time.perf_counter()
    album.fill()
    found = foreground_of(album.cache, centroids, album.engine.settings.saliency)
    warnings = [found.votes.warning] if found.votes.warning else []
    return _announced(
        album, PartFit(found.clustering, found.votes, Clusters(part_centroids), found.shared), warnings, started
    )


def refine_with_crf(settings: CrfSettings) -> Refine:
    """The refinement of parts' energies."""
    return lambda energies, image: (refine_labels(energies, image, settings), "")


def _announced(album: Album, parts: PartFit, warnings: list[str], started: float) -> Fitted:
    for warning in warnings:
        album.progress.say(f"warning: {warning}")
    codebook = codebook_of(parts, album.engine, len(album.cache))
    return Fitted(codebook, tuple(warnings), time.perf_counter() - started)


def _fit_once(album: Album, everything: Descriptors, found: Foreground) -> PartFit:
    settings = album.engine.settings
    regions = album.engine.extractor.regions
    masks = object_masks(album.cache, found, settings.saliency, settings.cluster.parts)
    parts = fit_within(everything, masks, settings.run.seed, settings.cluster, regions)
    return PartFit(found.clustering, found.votes, parts, found.shared)


def _fit_remaining(
    album: Album, fitted: list[int], everything: Descriptors, found: Foreground
) -> tuple[PartFit, list[str]]:
    """The second and the third stage, and warnings; where the second leaves too little, parts of one stage."""
    settings = album.engine.settings
    seed, cluster = settings.run.seed, settings.cluster
    by_elbow = cluster.model_copy(update={"elbow": settings.pictures.stage_elbow})
    first = fit_within_by_elbow(everything, found.masks, seed, by_elbow).centroids
    background = found.clustering.centroids[~found.votes.salient]
    assigner = PartAssigner(torch.from_numpy(first), torch.from_numpy(background))
    labels = _labels_after_crf(album, fitted, assigner, found.shared)
    common = common_parts(labels, len(first))
    kept = np.concatenate([[False], common.parts])
    masks = [kept[each.ravel()] for each in labels]
    for entry in album.crops:
        # Crops aren't refined: their parts are as assigned.
        nearest = assigner.energies(torch.from_numpy(entry.descriptors)).argmin(dim=0).numpy()
        masks.append(kept[nearest.ravel()])
    left = sum(int(mask.sum()) for mask in masks)
    if left < cluster.parts:
        warning = f"three stages leave {left} descriptors for {cluster.parts} parts; going on with one stage"
        return _fit_once(album, everything, found), [warning]
    within = fit_within(everything, masks, seed, cluster, album.engine.extractor.regions)
    parts = _with_dropped(found, first[~common.parts], within)
    return parts, [common.warning] if common.warning else []


def _labels_after_crf(album: Album, fitted: list[int], assigner: PartAssigner, shared: Floats | None) -> list[Image]:
    """Refined labels of the pictures of the fit, brought back to their grids."""
    device, extractor, cells = album.engine.extractor.device, album.engine.extractor, album.engine.settings.crf.unary_px
    on_device = PartAssigner(assigner.parts.to(device), assigner.background.to(device))
    heard = with_shared(on_device, shared, album.engine.settings.saliency, device)
    labels: list[Image] = []

    def collect(items: Iterator[PartMap]) -> None:
        for item in items:
            height, width = item.labels.shape
            rows, cols = extractor.grid_hw((height, width))
            down, across = nearest_index(height, rows), nearest_index(width, cols)
            if cells is not None:
                middle, stride = extractor.identity.patch_px // 2, extractor.settings.stride
                down, across = np.arange(rows) * stride + middle, np.arange(cols) * stride + middle
            labels.append(item.labels[np.ix_(down, across)])

    album.label(fitted, heard.energies, refine_with_crf(album.engine.settings.crf), collect)
    return labels


def _with_dropped(found: Foreground, dropped: Floats, parts: Clusters) -> PartFit:
    """The parts, with those that were dropped among the clusters of the background."""
    centroids = np.concatenate([found.clustering.centroids, dropped])
    blank = np.zeros(len(dropped), dtype=np.int64)
    votes = Votes(np.concatenate([found.votes.counts, blank]), np.concatenate([found.votes.salient, blank > 0]))
    # Labels stay those of the clusters that voted.
    return PartFit(replace(found.clustering, clusters=Clusters(centroids)), votes, parts, found.shared)
