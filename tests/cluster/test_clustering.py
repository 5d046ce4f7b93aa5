from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from pipeline.cluster.assignment import ForegroundAssigner, assigner_of
from pipeline.cluster.clustering import METHODS, fit_clusters, fit_each, fit_elbow
from pipeline.cluster.codebook import load_codebook
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.config import ClusterSettings, Settings, with_values
from pipeline.errors import CodebookError, UsageError
from pipeline.tasks.parts import parts
from pipeline.tasks.segment import segment

SETTINGS = ClusterSettings()


def by(method: str, **more: object) -> ClusterSettings:
    return SETTINGS.model_copy(update={"method": method, **more})


def blobs(centres: int, each: int = 60, channels: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, 1, channels)) * 4
    return (middle + rng.normal(size=(centres, each, channels)) * 0.1).reshape(-1, channels).astype(np.float32)


def rings(each: int) -> tuple[np.ndarray, np.ndarray]:
    """Two rings around one centre, which no pair of centroids tells apart."""
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 2 * each)
    radii = np.repeat([0.3, 1.0], each)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32), np.repeat([0, 1], each)


def objective(points: np.ndarray, centroids: np.ndarray) -> float:
    return float(((points[:, None] - centroids[None]) ** 2).sum(2).min(1).mean())


@pytest.mark.parametrize("processors", [1, 3])
def test_fits_beside_each_other_are_those_one_after_the_other(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.clustering.processors", lambda: processors)
    points = np.random.default_rng(2).normal(size=(500, 6)).astype(np.float32)
    for k, found in zip((7, 2, 5, 6), fit_each(points, (7, 2, 5, 6), 0, SETTINGS), strict=True):
        assert np.array_equal(found.centroids, fit_kmeans(points, k, 0, SETTINGS))


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


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_blobs_by_the_elbow_whatever_the_blocks(method: str) -> None:
    points = blobs(3, each=200)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    settings, truth = by(method, elbow=0.5), np.repeat([0, 1, 2], 200)
    found = fit_elbow(points[::4], np.array_split(points, 5), 0, settings)
    again = fit_elbow(points[::4], [points], 0, settings)
    assert len(found.clusters) == len(found.objectives) == 4
    assert found.objectives == pytest.approx(again.objectives)
    # The fourth cluster halves a blob, which an embedding makes one point: there, rounding decides.
    halved = truth[np.concatenate(found.labels) != again.labels[0]]
    assert len(np.unique(halved)) <= 1
    three = fit_clusters(points[::4], 3, 0, settings)
    assert adjusted_rand_score(truth, three.nearest(points)[0]) == 1
    labels, squared = three.nearest(points)
    assert np.allclose(squared, ((points - three.centroids[labels]) ** 2).sum(1), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_points_than_clusters_are_refused_by_each_method(method: str) -> None:
    with pytest.raises(UsageError, match=r"5 clusters got 3 descriptors.*at least 5"):
        fit_clusters(np.eye(3, dtype=np.float32), 5, 0, by(method))


def test_spectral_clustering_tells_rings_apart_and_extends_to_points_that_it_has_not_seen() -> None:
    points, truth = rings(400)
    clusters = fit_clusters(points[::3], 2, 0, by("spectral"))
    assert adjusted_rand_score(truth, clusters.nearest(points)[0]) == 1
    assert adjusted_rand_score(truth, fit_clusters(points[::3], 2, 0, by("kmeans")).nearest(points)[0]) < 0.1


def test_spectral_clustering_depends_on_the_seed_alone_and_takes_points_that_are_equal() -> None:
    points, _ = rings(100)
    found = [fit_clusters(points, 3, seed, by("spectral")) for seed in (5, 5)]
    assert np.array_equal(found[0].embedding.weights, found[1].embedding.weights)
    assert np.array_equal(found[0].nearest(points)[0], found[1].nearest(points)[0])
    same = fit_clusters(np.ones((20, 4), np.float32), 2, 0, by("spectral"))
    assert np.isfinite(same.embedding.centroids).all()


def test_foreground_goes_by_the_clusters_where_they_are() -> None:
    points, truth = rings(200)
    clusters = fit_clusters(points, 2, 0, by("spectral"))
    salient = np.arange(2) == clusters.nearest(points[:1])[0]
    energies = ForegroundAssigner.of(clusters, salient).energies(torch.from_numpy(points)[None])
    assert np.array_equal((energies[1] < energies[0])[0].numpy(), truth == 0)
    everything = ForegroundAssigner.of(clusters, np.ones(2, dtype=bool)).energies(torch.from_numpy(points)[None])
    assert bool((everything[1] < everything[0]).all())


def test_clusters_in_another_order_are_the_same_clusters() -> None:
    points, _ = rings(100)
    clusters = fit_clusters(points, 3, 0, by("spectral"))
    order = np.array([2, 0, 1])
    assert np.array_equal(order[clusters.take(order).nearest(points)[0]], clusters.nearest(points)[0])
    assert np.array_equal(clusters.take(order).centroids, clusters.centroids[order])


@pytest.mark.parametrize("method", ["spherical", "spectral"])
def test_a_video_is_segmented_by_another_clustering_and_its_codebook_again(
    tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings, method: str
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=6)
    settings = with_values(small_settings, {"cluster.method": method})
    first = segment([clip], tmp_path / "first", settings).finished[0]
    file = tmp_path / "first" / "codebook.safetensors"
    codebook = load_codebook(file)
    assert codebook.origin.cluster.method == method
    assert (codebook.embeddings is not None) == (method == "spectral")
    # A codebook's own method counts, whatever the settings say.
    again = segment([clip], tmp_path / "again", small_settings, codebook=file).finished[0]
    assert again.record.files["labels.zarr"] == first.record.files["labels.zarr"]


def test_a_codebook_with_half_an_embedding_or_one_of_other_clusters_is_refused(
    tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings
) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    settings = with_values(small_settings, {"cluster.method": "spectral"})
    segment([make_clip(tmp_path / "walk.mp4", frames=4)], tmp_path / "out", settings)
    file = tmp_path / "out" / "codebook.safetensors"
    with safe_open(file, "numpy") as content:
        tables = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        metadata = content.metadata()
    energies = assigner_of(load_codebook(file), settings.saliency).energies(torch.rand(2, 3, 48))
    assert energies.shape == (1 + settings.cluster.parts, 2, 3)
    for name, change in {
        "parts_weights": None,
        "parts_embedded": lambda table: table[:-1],
        "clusters_landmarks": lambda table: table[:, :-1],
        "clusters_gamma": lambda table: table * 0,
        "clusters_weights": lambda table: table * np.nan,
    }.items():
        changed = {**tables, name: np.ascontiguousarray(change(tables[name]))} if change else dict(tables)
        if change is None:
            del changed[name]
        save_file(changed, file, metadata=metadata)
        with pytest.raises(CodebookError, match="is not a codebook that this version reads"):
            load_codebook(file)


def test_three_stages_need_centroids_of_descriptors(tmp_path: Path, parity_dir: Path, small_settings: Settings) -> None:
    settings = with_values(small_settings, {"cluster.method": "spectral", "pictures.three_stages": True})
    with pytest.raises(UsageError, match=r"give cluster\.method kmeans or spherical"):
        parts([parity_dir / "cat.png", parity_dir / "cup.png"], tmp_path / "out", settings)
