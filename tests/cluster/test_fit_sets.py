"""Fits on picture sets: crops without votes, given clusters, parts by the elbow method."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.fit import (
    Descriptors,
    fit_foreground,
    fit_parts,
    fit_within,
    fit_within_by_elbow,
    foreground_of,
)
from pipeline.config import ClusterSettings, SaliencySettings
from pipeline.errors import InputError, UsageError

CLUSTER = ClusterSettings(parts=2, sample_interval=2, elbow=0.9)
SALIENCY = SaliencySettings(threshold=0.5)
KINDS = np.eye(6, dtype=np.float32)


def grid_of(kinds: list[int], seed: int) -> np.ndarray:
    """Descriptors of the given clusters in columns, with some noise."""
    noise = np.random.default_rng(seed).normal(size=(8, len(kinds), 6)) * 0.02
    grid = (KINDS[kinds][None].repeat(8, axis=0) + noise).astype(np.float32)
    return grid / np.linalg.norm(grid, axis=2, keepdims=True)


def put(cache: FeatureCache, key: object, kinds: list[int], salient: list[int]) -> None:
    values = np.isin(kinds, salient)[None].repeat(8, axis=0).astype(np.float32)
    cache.put(key, grid_of(kinds, len(cache)), values, 0)


@pytest.fixture
def caches(tmp_path: Path):
    for name in ("pictures", "crops"):
        (tmp_path / name).mkdir()
    with FeatureCache(tmp_path / "pictures") as pictures, FeatureCache(tmp_path / "crops") as crops:
        yield pictures, crops


def kinds_of(centroids: np.ndarray) -> list[int]:
    return np.argmax(centroids @ KINDS.T, axis=1).tolist()


def test_crops_join_the_fit_and_do_not_vote(caches: tuple[FeatureCache, FeatureCache]) -> None:
    pictures, crops = caches
    for number in range(4):
        put(pictures, number, [0, 0, 1, 1, 2], salient=[1, 2])
        # A fifth cluster that the pictures lack, and saliency that would change every vote.
        put(crops, number, [0, 0, 3, 3], salient=[0, 3])
    found = fit_foreground(pictures, Descriptors(pictures, crops), 0, CLUSTER, SALIENCY)
    assert set(kinds_of(found.clustering.centroids)) == {0, 1, 2, 3}
    assert set(kinds_of(found.clustering.centroids[found.votes.salient])) == {1, 2}
    assert found.votes.counts.max() == 4
    assert len(found.masks) == 8
    assert found.masks[0].sum() == 24
    assert found.masks[4].sum() == 0


def test_the_parts_of_pictures_alone_are_those_of_the_video_fit(caches: tuple[FeatureCache, FeatureCache]) -> None:
    pictures, crops = caches
    for number in range(3):
        put(pictures, number, [0, 0, 0, 1, 1, 2], salient=[1, 2])
    whole = fit_parts(pictures, 0, CLUSTER, SALIENCY)
    everything = Descriptors(pictures, crops)
    found = fit_foreground(pictures, everything, 0, CLUSTER, SALIENCY)
    assert np.array_equal(fit_within(everything, found.masks, 0, CLUSTER).centroids, whole.parts.centroids)
    assert kinds_of(whole.parts.centroids) == [1, 2]


def test_given_clusters_are_voted_on(caches: tuple[FeatureCache, FeatureCache]) -> None:
    pictures, _ = caches
    for number in range(4):
        put(pictures, number, [0, 1, 2], salient=[1] if number else [1, 2])
    found = foreground_of(pictures, KINDS[[2, 1, 0]], SALIENCY)
    assert found.votes.counts.tolist() == [1, 4, 0]
    assert found.votes.salient.tolist() == [False, True, False]
    with pytest.raises(UsageError, match=r"shape \(3, 5\), expected \(k, 6\)"):
        foreground_of(pictures, KINDS[:3, :5], SALIENCY)


def test_no_picture_votes(caches: tuple[FeatureCache, FeatureCache]) -> None:
    with pytest.raises(InputError):
        foreground_of(caches[0], KINDS, SALIENCY)
    with pytest.raises(InputError):
        fit_foreground(caches[0], Descriptors(*caches), 0, CLUSTER, SALIENCY)


def test_the_elbow_says_how_many_parts_there_are(caches: tuple[FeatureCache, FeatureCache]) -> None:
    pictures, _ = caches
    for number in range(3):
        put(pictures, number, [0, 0, 1, 2, 3, 3, 3], salient=[])
    masks = [np.isin(np.arange(56) % 7, [2, 3, 4, 5, 6])] * 3
    found = fit_within_by_elbow(Descriptors(pictures), masks, 0, CLUSTER.model_copy(update={"elbow": 0.5}))
    assert len(found) >= 3
    assert set(kinds_of(found.centroids)) == {1, 2, 3}
    assert kinds_of(found.centroids)[0] == 3


def test_what_is_dropped_from_a_cache_is_gone(caches: tuple[FeatureCache, FeatureCache]) -> None:
    pictures, _ = caches
    for number in range(3):
        put(pictures, number, [number], salient=[])
    pictures.drop(1)
    assert len(pictures) == 2
    assert 1 not in pictures
    assert [kinds_of(entry.descriptors[0])[0] for entry in pictures] == [0, 2]
