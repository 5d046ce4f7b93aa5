"""Which members stand for a cluster."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.typical import APART, typical_places


def test_members_are_the_nearest_of_each_frame_and_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(3, 5)).astype(np.float32)
    frames = [rng.normal(size=(12, 14, 5)).astype(np.float32) for _ in range(3)]
    with FeatureCache(tmp_path) as cache:
        for number, grid in enumerate(frames):
            cache.put((0, number), grid, np.zeros((12, 14), np.float32), 0)
        found = typical_places(cache, centroids, 6)
    for cluster, places in enumerate(found):
        assert [place.distance for place in places] == sorted(place.distance for place in places)
        assert len(places) == 6
        for number, grid in enumerate(frames):
            distances = ((grid[:, :, None] - centroids) ** 2).sum(axis=-1)
            members = distances.argmin(axis=-1) == cluster
            own = [place for place in places if place.key == (0, number)]
            assert len(own) == 2
            assert own[0].distance == pytest.approx(distances[..., cluster][members].min(), rel=1e-4)
            assert all(members[place.row, place.col] for place in own)
            assert max(abs(own[0].row - own[1].row), abs(own[0].col - own[1].col)) > APART


def test_a_cluster_without_members_has_none(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache.put((0, 0), np.ones((2, 2, 3), np.float32), np.zeros((2, 2), np.float32), 0)
        near, far = typical_places(cache, np.array([[1, 1, 1], [9, 9, 9]], np.float32), 4)
    assert len(near) == 1
    assert far == []
