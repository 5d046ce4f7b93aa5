import numpy as np
import pytest

from pipeline.refine.grabcut import enlarge_mask, refine_mask


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A picture of a disc, and the disc's mask."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :80]
    disc = (x - 40) ** 2 + (y - 30) ** 2 < 20**2
    image = np.where(disc[..., None], (210, 120, 40), (40, 70, 120)) + rng.normal(size=(60, 80, 3)) * 6
    return np.clip(image, 0, 255).astype(np.uint8), disc


def test_a_rough_mask_becomes_the_object(scene: tuple[np.ndarray, np.ndarray]) -> None:
    image, disc = scene
    rough = enlarge_mask(disc[4::10, 4::10], (60, 80))
    found = refine_mask(rough, image)
    assert (rough == disc).mean() < 0.96
    assert (found == disc).mean() > 0.99


def test_the_same_mask_each_time_whatever_came_before(scene: tuple[np.ndarray, np.ndarray]) -> None:
    image, disc = scene
    noise = np.random.default_rng(1).integers(0, 255, image.shape).astype(np.uint8)
    first = refine_mask(disc, noise)
    refine_mask(disc, image)
    assert np.array_equal(refine_mask(disc, noise), first)


@pytest.mark.parametrize("fill", [False, True])
def test_where_it_cannot_run_the_mask_stays(scene: tuple[np.ndarray, np.ndarray], fill: bool) -> None:
    mask = np.full((60, 80), fill)
    assert np.array_equal(refine_mask(mask, scene[0]), mask)


def test_a_mask_without_sure_background_stays(scene: tuple[np.ndarray, np.ndarray]) -> None:
    mask = np.ones((60, 80), dtype=bool)
    mask[30:33, 40:43] = False
    assert np.array_equal(refine_mask(mask, scene[0]), mask)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 40)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    mask = np.zeros(size, dtype=bool)
    mask[0, 0] = True
    assert refine_mask(mask, np.zeros((*size, 3), np.uint8)).shape == size


def test_enlarging_takes_the_cell_at_each_pixels_centre() -> None:
    mask = np.random.default_rng(2).random((5, 7)) > 0.5
    rows = np.floor((np.arange(33) + 0.5) * 5 / 33).astype(int)
    cols = np.floor((np.arange(40) + 0.5) * 7 / 40).astype(int)
    assert np.array_equal(enlarge_mask(mask, (33, 40)), mask[np.ix_(rows, cols)])
