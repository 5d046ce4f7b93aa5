import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from pipeline.cluster.clusters import nearest_centroids
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.config import ClusterSettings
from pipeline.errors import UsageError

SETTINGS = ClusterSettings()


def blobs(centres: int, each: int = 60, channels: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, 1, channels)) * 4
    return (middle + rng.normal(size=(centres, each, channels)) * 0.1).reshape(-1, channels).astype(np.float32)


def objective(points: np.ndarray, centroids: np.ndarray) -> float:
    return float(((points[:, None] - centroids[None]) ** 2).sum(2).min(1).mean())


def test_objective_is_as_good_as_scikit_learns() -> None:
    points = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    ours = objective(points, fit_kmeans(points, 5, 0, SETTINGS))
    theirs = objective(points, KMeans(5, n_init=10, random_state=0).fit(points).cluster_centers_)
    assert ours <= theirs * 1.01


def test_same_seed_same_centroids() -> None:
    points = blobs(6)
    assert np.array_equal(fit_kmeans(points, 4, 7, SETTINGS), fit_kmeans(points, 4, 7, SETTINGS))


def test_fewer_points_than_clusters_is_refused() -> None:
    with pytest.raises(UsageError, match=r"5 clusters got 3 descriptors.*at least 5"):
        fit_kmeans(np.eye(3, dtype=np.float32), 5, 0, SETTINGS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000))
def test_nearest_centroids_equals_its_plain_twin(n: int, k: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, channels)).astype(np.float32)
    centroids = rng.normal(size=(k, channels)).astype(np.float32)
    labels, squared = nearest_centroids(points, centroids)
    plain = ((points[:, None].astype(np.float64) - centroids[None]) ** 2).sum(2)
    assert np.allclose(squared, plain.min(1), atol=1e-4)
    assert np.allclose(plain[np.arange(n), labels], plain.min(1), atol=1e-4)


def test_spherical_centroids_have_unit_length_and_go_by_cosines() -> None:
    rng = np.random.default_rng(0)
    directions = np.eye(3, 6, dtype=np.float32)[rng.integers(3, size=90)] + rng.normal(size=(90, 6)) * 0.01
    points = (directions * rng.uniform(0.1, 9, size=(90, 1))).astype(np.float32)
    found = fit_kmeans(points, 3, 0, SETTINGS, spherical=True)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert sorted(np.argmax(found, axis=1).tolist()) == [0, 1, 2]
    assert found.max(axis=1).min() > 0.99
