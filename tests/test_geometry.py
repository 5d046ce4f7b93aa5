import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.geometry import (
    GridPlace,
    between_patches,
    even,
    grid_size,
    nearest_index,
    resize_labels,
    resize_nearest,
)

sizes = st.tuples(st.integers(16, 90), st.integers(16, 90))


@given(sizes, st.sampled_from([(8, 4), (8, 8), (16, 4), (14, 7), (8, 2)]), sizes)
def test_from_the_grid_to_pixels_and_back(
    size_hw: tuple[int, int], patch_stride: tuple[int, int], target: tuple[int, int]
) -> None:
    patch, stride = patch_stride
    rows, cols = grid_size(size_hw, patch, stride)
    points = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), -1).reshape(-1, 2)
    place = GridPlace(patch, stride, size_hw, target)
    pixels = place.pixels(points)
    assert (pixels > 0).all()
    assert (pixels < np.array(target)[::-1]).all()
    assert np.array_equal(place.positions(pixels), points)


def test_centre_of_the_first_patch() -> None:
    assert GridPlace(8, 4, (24, 32), (48, 64)).pixels(np.array([[0, 1]])).tolist() == [[16.0, 8.0]]


def test_points_outside_are_clamped_to_the_grid() -> None:
    found = GridPlace(8, 4, (24, 32), (24, 32)).positions(np.array([[-50.0, -50.0], [999.0, 999.0]]))
    assert found.tolist() == [[0, 0], [4, 6]]


@given(st.integers(1, 60), st.integers(1, 200))
def test_nearest_index_is_torchs(length: int, target: int) -> None:
    expected = torch.nn.functional.interpolate(torch.arange(length, dtype=torch.float32)[None, None], target)[0, 0]
    assert nearest_index(length, target).tolist() == expected.long().tolist()


def test_resize_nearest_is_torchs_upsample() -> None:
    grid = torch.randn(7, 9, 3)
    expected = torch.nn.Upsample(size=(25, 31))(grid.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert torch.equal(resize_nearest(grid, (25, 31)), expected)


@given(sizes, st.sampled_from([(8, 4), (8, 8), (16, 4), (14, 7)]), st.integers(1, 9))
def test_between_patches_a_plane_stays_a_plane(
    size_hw: tuple[int, int], patch_stride: tuple[int, int], cell: int
) -> None:
    patch, stride = patch_stride
    rows, cols = grid_size(size_hw, patch, stride)
    down, across = (np.arange(count) * stride + patch / 2 for count in (rows, cols))
    plane = torch.from_numpy((2 * down[:, None] - 3 * across + 5).astype(np.float32))
    found = between_patches(plane[None], size_hw, patch, stride, cell)[0]
    assert found.shape == tuple(max(1, round(side / cell)) for side in size_hw)
    # The outermost patches' centres hold beyond them.
    middles = [(np.arange(count) + 0.5) * side / count for side, count in zip(size_hw, found.shape, strict=True)]
    y, x = (np.clip(middle, at[0], at[-1]) for middle, at in zip(middles, (down, across), strict=True))
    assert np.allclose(found, 2 * y[:, None] - 3 * x + 5, atol=1e-3)


def test_between_patches_side_by_side_it_is_torchs_bilinear() -> None:
    grid = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(grid[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(between_patches(grid, (32, 48), 8, 8, 2), expected)


def test_a_picture_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(InputError, match="20x7 pixels is smaller than one patch of 8x8"):
        grid_size((7, 20), 8, 4)


def test_labels_grow_with_smooth_edges() -> None:
    y, x = np.mgrid[:40, :40]
    disc = (((y - 19.5) ** 2 + (x - 19.5) ** 2) < 13**2).astype(np.uint8) * 3
    grown = resize_labels(disc, (400, 400))
    y, x = np.mgrid[:400, :400]
    exact = (((y - 199.5) ** 2 + (x - 199.5) ** 2) < 130**2).astype(np.uint8) * 3
    blocks = disc.repeat(10, 0).repeat(10, 1)
    assert set(np.unique(grown)) == {0, 3}
    assert (grown != exact).sum() < 0.4 * (blocks != exact).sum()


def test_labels_of_the_same_size_are_kept() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (9, 9)).astype(np.uint8)
    assert np.array_equal(resize_labels(labels, (9, 9)), labels)


def test_even() -> None:
    assert [even(length) for length in (1, 2, 3)] == [2, 2, 4]
