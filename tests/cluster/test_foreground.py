import numpy as np
import pytest
import torch

from pipeline.cluster.assignment import ForegroundAssigner
from pipeline.cluster.clusters import Clusters


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_energies_are_distances_to_the_nearest_cluster_of_either_kind() -> None:
    rng = np.random.default_rng(0)
    centroids, grid = unit(rng, 5, 8), unit(rng, 3, 4, 8)
    salient = np.array([True, False, False, True, False])
    found = ForegroundAssigner.of(Clusters(centroids), salient).energies(torch.from_numpy(grid)).numpy()
    distances = ((grid[:, :, None] - centroids) ** 2).sum(-1)
    expected = np.stack([distances[..., ~salient].min(-1), distances[..., salient].min(-1)])
    assert np.allclose(found, expected - expected.max(0), atol=1e-5)
    assert np.array_equal(found[1] < found[0], salient[distances.argmin(-1)])


@pytest.mark.parametrize("k", [1, 3])
def test_where_every_cluster_is_salient_all_is_foreground(k: int) -> None:
    rng = np.random.default_rng(1)
    assigner = ForegroundAssigner.of(Clusters(unit(rng, k, 4)), np.ones(k, bool))
    energies = assigner.energies(torch.from_numpy(unit(rng, 2, 3, 4))).numpy()
    assert (energies[1] < energies[0]).all()
