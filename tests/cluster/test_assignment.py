import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cluster.assignment import PartAssigner, normalise, with_saliency
from pipeline.cluster.clusters import squared_distances
from pipeline.cluster.place_saliency import evened


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 8), st.integers(0, 999))
def test_squared_distances_equal_their_plain_twin(n: int, k: int, channels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points, centroids = torch.randn(n, channels, generator=generator), torch.randn(k, channels, generator=generator)
    plain = ((points[:, None] - centroids[None]) ** 2).sum(2)
    assert torch.allclose(squared_distances(points, centroids), plain, atol=1e-4)


def test_energies_follow_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    parts, background = torch.randn(3, 4, generator=generator), torch.randn(2, 4, generator=generator)
    grid = normalise(torch.randn(2, 5, 4, generator=generator))
    energies = PartAssigner(parts, background).energies(grid).numpy()
    assert energies.shape == (4, 2, 5)
    for row, col in np.ndindex(2, 5):
        point = grid[row, col]
        expected = [min(float(((point - other) ** 2).sum()) for other in background)]
        expected += [float(((point - part) ** 2).sum()) for part in parts]
        assert np.allclose(energies[:, row, col], np.array(expected) - max(expected), atol=1e-5)


def test_without_background_clusters_the_background_never_wins() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = normalise(torch.randn(6, 6, 4, generator=generator))
    energies = PartAssigner(torch.randn(2, 4, generator=generator), torch.zeros(0, 4)).energies(grid)
    assert (energies.argmin(0) > 0).all()


def test_a_zero_descriptor_stays_zero() -> None:
    assert torch.equal(normalise(torch.zeros(1, 1, 3)), torch.zeros(1, 1, 3))


def test_a_place_is_an_object_where_its_frame_says_so() -> None:
    # Left the cluster speaks for the background by .3, right for the object.
    gap = torch.where(torch.arange(20) < 10, 0.3, -0.3).expand(12, 20)
    energies = torch.stack([-gap, torch.zeros(12, 20)])
    saliency = torch.zeros(12, 20)
    saliency[2:10, 2:18] = 0.5

    def found(weight: float, neutral: float = 0.5) -> list[list[int]]:
        labels = with_saliency(energies, saliency, weight, neutral).argmin(0)
        return [labels[5, 5:15:9].tolist(), labels[0, 5:15:9].tolist()]

    assert found(0.0) == [[0, 1], [0, 1]]
    assert found(0.4) == [[0, 1], [0, 1]]
    assert found(1.0) == [[1, 1], [0, 0]]
    # What counts is the share of the frame's peak, and the neutral share decides which side a place is on.
    assert found(1.0, neutral=0.9) == [[0, 1], [0, 0]]
    doubled, single = (with_saliency(energies, scale * saliency, 1.0, 0.5) for scale in (2.0, 1.0))
    assert torch.equal(doubled, single)
    assert float(with_saliency(energies, torch.zeros(12, 20), 1.0, 0.5).amax()) == 0.0


def test_saliency_keeps_corners_and_evened_rounds_them() -> None:
    saliency = torch.zeros(12, 20)
    saliency[4:7, 8:11] = 1.0
    equal = torch.zeros(2, 12, 20)
    assert torch.equal(with_saliency(equal, saliency, 1.0, 0.95).argmin(0), (saliency > 0).long())
    rounded = with_saliency(equal, evened(saliency), 1.0, 0.95).argmin(0)
    assert (rounded[4:7, 8:11].tolist(), int(rounded.sum())) == ([[0, 1, 0], [1, 1, 1], [0, 1, 0]], 5)
