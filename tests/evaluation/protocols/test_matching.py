import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.protocols.matching import nearest_positions, transfer_points
from pipeline.evaluation.protocols.predictors import Variant
from pipeline.geometry import GridPlace


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_nearest_positions_equal_their_plain_twin(points: int, rows: int, cols: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(points, 4, generator=generator, dtype=torch.float64)
    grid = torch.randn(rows, cols, 4, generator=generator, dtype=torch.float64)
    for descriptor, found in zip(descriptors, nearest_positions(descriptors, grid), strict=True):
        similarity = torch.nn.functional.cosine_similarity(grid, descriptor.expand_as(grid), dim=2)
        assert similarity[tuple(found)] == similarity.max()


class Coloured:
    """A picture of 32 x 48 pixels, processed at half its size, with 7 x 11 unique descriptors."""

    place = GridPlace(4, 2, (16, 24), (32, 48))

    def __init__(self, order: np.ndarray) -> None:
        self._grid = torch.eye(77)[torch.from_numpy(order)].reshape(7, 11, 77)

    def grid(self, variant: Variant) -> torch.Tensor:
        return self._grid

    def at(self, variant: Variant, positions_ij: np.ndarray) -> torch.Tensor:
        rows, cols = torch.from_numpy(positions_ij).T
        return self._grid[rows, cols]


def test_points_go_to_the_centre_of_the_matching_patch() -> None:
    variant = Variant(9, "key", True)
    order = np.arange(77)
    source = Coloured(order)
    # The patch at row 2, column 5 has its centre at (12, 6) in the processed picture, (24, 12) in the original.
    points = np.array([[24.0, 12.0], [25.9, 13.9], [0.0, 0.0], [47.0, 31.0]])
    assert transfer_points(source, Coloured(order), variant, points).tolist() == [
        *([[24, 12]] * 2),
        [4, 4],
        [44, 28],
    ]
    mirrored = Coloured(np.arange(77).reshape(7, 11)[:, ::-1].ravel().copy())
    assert transfer_points(source, mirrored, variant, points[:1]).tolist() == [[48 - 24, 12]]
    assert transfer_points(source, mirrored, variant, points[:0]).shape == (0, 2)
