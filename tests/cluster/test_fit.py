from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.fit import fit_parts
from pipeline.config import ClusterSettings, SaliencySettings
from pipeline.errors import InputError, UsageError
from pipeline.records import Regions

CLUSTER = ClusterSettings(parts=2, sample_interval=3, elbow=0.9)
SALIENCY = SaliencySettings(threshold=0.5)


def scene(cache: FeatureCache, frames: int = 4) -> np.ndarray:
    """Four clusters of descriptors in bands; the two inner ones are salient, the upper one is larger."""
    rng = np.random.default_rng(0)
    kinds = np.eye(6, dtype=np.float32)[:4]
    bands = np.repeat([0, 1, 2, 3], [4, 5, 3, 4])
    for frame in range(frames):
        grid = kinds[bands][:, None].repeat(10, axis=1) + rng.normal(size=(16, 10, 6)).astype(np.float32) * 0.02
        salient = np.isin(bands, [1, 2])[:, None].repeat(10, axis=1)
        cache.put(frame, grid / np.linalg.norm(grid, axis=2, keepdims=True), salient.astype(np.float32), 0)
    return kinds


def test_parts_are_the_salient_kinds_the_larger_first(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        kinds = scene(cache)
        found = fit_parts(cache, 0, CLUSTER, SALIENCY)
    assert found.votes.warning is None
    assert np.argmax(found.parts.centroids @ kinds.T, axis=1).tolist() == [1, 2]
    salient_kinds = set(np.argmax(found.clustering.centroids[found.votes.salient] @ kinds.T, axis=1).tolist())
    assert salient_kinds == {1, 2}


def test_more_parts_than_foreground_is_refused(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache.put(0, np.eye(3, dtype=np.float32)[None], np.ones((1, 3), dtype=np.float32), 0)
        with pytest.raises(UsageError, match="9 parts were asked for, but the foreground has only 3 descriptors"):
            fit_parts(cache, 0, ClusterSettings(parts=9), SALIENCY)


def test_no_frames_is_an_input_error(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache, pytest.raises(InputError, match="no frames"):
        fit_parts(cache, 0, CLUSTER, SALIENCY)


def test_a_prior_without_weight_and_no_prior_are_plain_k_means(tmp_path: Path) -> None:
    """Regions across the bands attract the parts, but only if the prior has a weight."""
    with FeatureCache(tmp_path) as cache:
        kinds = scene(cache)
        regions = Regions(kinds[[1, 2, 0]], np.array([[True, True, True]]))
        plain, unweighed, drawn = (
            fit_parts(cache, 0, CLUSTER.model_copy(update={"parts": 3, "prior": prior}), SALIENCY, known)
            for prior, known in ((0.5, None), (0.0, regions), (0.5, regions))
        )
    assert np.array_equal(plain.parts.centroids, unweighed.parts.centroids)
    # Plain k-means splits a band for the third part; a region without descriptors keeps its centroid.
    assert (plain.parts.centroids @ kinds[0]).max() < 0.1
    assert (drawn.parts.centroids @ kinds[0]).max() > 0.5


def test_parts_are_those_of_the_places_that_are_salient_in_their_frame(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        # The lowest kind is salient in one frame of four: too few for a vote.
        kinds = scene(cache)
        entry = cache.get(3)
        salient = entry.saliency.copy()
        salient[12:] = 1.0
        cache.drop(3)
        cache.put(3, entry.descriptors, salient, 0)
        three = CLUSTER.model_copy(update={"parts": 3})
        by_votes, by_places = (
            fit_parts(cache, 0, three, SALIENCY.model_copy(update={"places": weight})) for weight in (0.0, 4.0)
        )
    assert by_votes.votes.salient.tolist() == by_places.votes.salient.tolist()
    near = [set(np.argmax(found.parts.centroids @ kinds.T, axis=1).tolist()) for found in (by_votes, by_places)]
    assert near == [{1, 2}, {1, 2, 3}]


def test_where_places_leave_too_little_the_votes_decide(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        scene(cache)
        for frame in range(4):
            entry = cache.get(frame)
            cache.drop(frame)
            cache.put(frame, entry.descriptors, np.zeros_like(entry.saliency), 0)
        one = CLUSTER.model_copy(update={"parts": 1})
        found = [fit_parts(cache, 0, one, SALIENCY.model_copy(update={"places": weight})) for weight in (0.0, 100.0)]
    assert np.array_equal(found[0].parts.centroids, found[1].parts.centroids)
