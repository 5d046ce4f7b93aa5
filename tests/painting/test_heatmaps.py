import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry import GridPlace, grid_size
from pipeline.painting.heatmaps import color_map, grey_map, heat_colors, heat_map, spread_map, to_levels


@given(st.integers(16, 60), st.integers(16, 60), st.sampled_from([2, 4, 8]))
@settings(max_examples=30, deadline=None)
def test_a_value_stands_at_its_patchs_centre(height: int, width: int, stride: int) -> None:
    place = GridPlace(8, stride, (height, width), (height * 4, width * 4))
    rows, cols = grid_size((height, width), 8, stride)
    values = np.random.default_rng(0).random((rows, cols)).astype(np.float32)
    spread = spread_map(values, place)
    assert spread.shape == place.size_hw
    positions = np.stack(np.divmod(np.arange(rows * cols), cols), axis=1)
    # A patch centre lies at the corner of four pixels; inside, where the map is linear, their mean is its value.
    x, y = place.pixels(positions).astype(int).T
    around = (spread[y, x] + spread[y - 1, x] + spread[y, x - 1] + spread[y - 1, x - 1]) / 4
    inside = np.isclose(around, values.ravel(), atol=0.26)
    assert inside.all()
    assert np.array_equal(place.positions(place.pixels(positions)), positions)


def test_a_slope_stays_a_slope_and_goes_on_flat_at_the_rim() -> None:
    place = GridPlace(8, 4, (24, 40), (24, 40))
    values = np.tile(np.arange(9, dtype=np.float32), (5, 1))
    row = spread_map(values, place)[10]
    assert np.allclose(row[4:36], (np.arange(4, 36) + 0.5 - 4) / 4, atol=1e-6)
    assert (row[:3] == 0).all()
    assert (row[37:] == 8).all()


def test_levels_clip_and_a_flat_map_is_dark() -> None:
    assert to_levels(np.array([-1.0, 0.0, 0.5, 1.0, 2.0], np.float32), 0.0, 1.0).tolist() == [0, 0, 128, 255, 255]
    assert not to_levels(np.full(3, 7.0, np.float32), 7.0, 7.0).any()


def test_grey_and_colours() -> None:
    place = GridPlace(8, 8, (16, 16), (20, 30))
    values = np.random.default_rng(1).random((2, 2, 3)).astype(np.float32)
    grey = grey_map(values[..., 0], place, 0.0, 1.0)
    color = color_map(values, place, [0, 0, 0], [1, 1, 1])
    assert grey.shape == color.shape == (20, 30, 3)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.array_equal(color[..., 0], grey[..., 0])
    assert np.array_equal(color_map(values, place, [0, 0, 0], [1, 1, 2])[0, 0, :2], color[0, 0, :2])


def test_heat_goes_from_blue_to_red_over_the_picture() -> None:
    colors = heat_colors().astype(int)
    assert colors[40, 2] > colors[40, 0]
    assert colors[230, 0] > colors[230, 2]
    place = GridPlace(8, 8, (16, 16), (16, 16))
    rgb = np.full((16, 16, 3), 100, dtype=np.uint8)
    values = np.array([[0, 1], [0, 1]], dtype=np.float32)
    assert np.array_equal(heat_map(rgb, values, place, 0, 1, alpha=0.0), rgb)
    solid = heat_map(rgb, values, place, 0, 1, alpha=1.0)
    assert np.array_equal(solid[0, -1], colors[255])


def test_bands_join_to_the_picture_that_is_painted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    place = GridPlace(8, 4, (40, 64), (53, 87))
    values = random.random((9, 15, 3), dtype=np.float32)
    rgb = random.integers(0, 256, (53, 87, 3), dtype=np.uint8)

    def paint() -> list[np.ndarray]:
        flat = values[..., 0]
        return [grey_map(flat, place, 0, 1), color_map(values, place, 0, 1), heat_map(rgb, flat, place, 0, 1)]

    whole = paint()
    assert np.array_equal(whole[1], to_levels(spread_map(values, place), 0, 1))
    for pixels in (1, 87 * 7):
        monkeypatch.setattr("pipeline.painting.heatmaps.BAND_PX", pixels)
        assert all(np.array_equal(one, other) for one, other in zip(paint(), whole, strict=True))


def test_thumbnails_are_bounded_both_ways() -> None:
    assert GridPlace(8, 4, (224, 224), (1000, 500)).at_height(100).size_hw == (100, 50)
    assert GridPlace(8, 4, (224, 2240), (100, 1000)).at_height(100).size_hw == (20, 200)
