import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from pipeline.cluster.kmeans import fit_each, fit_elbow, fit_kmeans, nearest_centroids
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


@pytest.mark.parametrize("processors", [1, 3])
def test_fits_beside_each_other_are_those_one_after_the_other(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.kmeans.processors", lambda: processors)
    points = np.random.default_rng(2).normal(size=(500, 6)).astype(np.float32)
    for k, found in zip((7, 2, 5, 6), fit_each(points, (7, 2, 5, 6), 0, SETTINGS), strict=True):
        assert np.array_equal(found, fit_kmeans(points, k, 0, SETTINGS))


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


def test_elbow_stops_at_the_first_k_that_hardly_helps() -> None:
    points = blobs(3, each=200)
    found = fit_elbow(points[::4], [points[:300], points[300:]], 0, SETTINGS.model_copy(update={"elbow": 0.5}))
    # Three blobs: k = 2 and 3 more than halve the distance, k = 4 does not, and the k that stops is the one used.
    assert len(found.centroids) == len(found.objectives) == 4
    assert found.objectives[3] > 0.5 * found.objectives[2]
    assert found.objectives[3] == pytest.approx(objective(points, found.centroids), rel=1e-3)
    assert [len(labels) for labels in found.labels] == [300, 300]


def test_without_an_elbow_the_largest_k_is_used() -> None:
    points = blobs(4)
    found = fit_elbow(points[::2], [points], 0, SETTINGS.model_copy(update={"elbow": None, "max_clusters": 9}))
    assert np.array_equal(found.centroids, fit_kmeans(points[::2], 9, 0, SETTINGS))
    assert found.objectives == (pytest.approx(objective(points, found.centroids), rel=1e-3),)


def test_elbow_never_asks_for_more_clusters_than_points() -> None:
    points = np.eye(3, dtype=np.float32)
    found = fit_elbow(points, [points], 0, SETTINGS.model_copy(update={"elbow": 1.0}))
    assert len(found.centroids) <= 3


def test_elbow_does_not_depend_on_blocks() -> None:
    points = blobs(5, each=80, seed=3)
    whole = fit_elbow(points[::3], [points], 0, SETTINGS)
    split = fit_elbow(points[::3], np.array_split(points, 7), 0, SETTINGS)
    assert np.array_equal(whole.centroids, split.centroids)
    assert np.array_equal(whole.labels[0], np.concatenate(split.labels))
