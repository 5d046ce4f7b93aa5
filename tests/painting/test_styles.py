import numpy as np
import pytest

from pipeline.painting.palettes import davis_palette, part_colors
from pipeline.painting.styles import paint

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
LABELS = np.zeros((40, 60), dtype=np.uint8)
LABELS[10:30, 10:30] = 1
LABELS[10:30, 30:50] = 2
COLORS = part_colors(2)


def test_overlay_blends_parts_and_leaves_the_background() -> None:
    painted = paint(RGB, LABELS, COLORS, "overlay", 0.5)
    assert np.array_equal(painted[LABELS == 0], RGB[LABELS == 0])
    expected = RGB[LABELS == 1].astype(float) / 2 + COLORS[0].astype(float) / 2
    assert np.abs(painted[LABELS == 1] - expected).max() <= 1
    assert np.array_equal(paint(RGB, LABELS, COLORS, "overlay", 0.0), RGB)
    assert np.array_equal(paint(RGB, LABELS, COLORS, "overlay", 1.0)[LABELS == 2][0], COLORS[1])


@pytest.mark.parametrize("plain", ["", "1"], ids=["compiled", "plain"])
@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9])
def test_an_overlay_is_rounded_to_the_nearest_grey_level(
    alpha: float, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDPARTS_PLAIN", plain)
    labels = RNG.integers(0, 256, LABELS.shape, dtype=np.uint8)
    colors = RNG.integers(0, 256, (255, 3), dtype=np.uint8)
    weight = round(alpha * 256)
    mixed = (RGB.astype(int) * (256 - weight) + np.vstack([[[0, 0, 0]], colors])[labels] * weight) / 256
    expected = np.where(labels[..., None] > 0, np.floor(mixed + 0.5), RGB)
    assert np.array_equal(paint(RGB, labels, colors, "overlay", alpha), expected)
    assert np.array_equal(paint(RGB[:, ::-1], labels[:, ::-1], colors, "overlay", alpha), expected[:, ::-1])


def test_parts_are_flat_colours_on_black() -> None:
    painted = paint(RGB, LABELS, COLORS, "parts")
    assert {tuple(color) for color in painted.reshape(-1, 3).tolist()} == {(0, 0, 0), *map(tuple, COLORS.tolist())}


def test_cutout_shows_the_object_on_a_checkerboard() -> None:
    painted = paint(RGB, LABELS, COLORS, "cutout")
    assert np.array_equal(painted[LABELS > 0], RGB[LABELS > 0])
    assert set(np.unique(painted[LABELS == 0])) == {204, 255}


def test_outline_paints_borders_only() -> None:
    painted = paint(RGB, LABELS, COLORS, "outline")
    changed = (painted != RGB).any(axis=2)
    assert changed[10, 20]
    assert not changed[20, 20]
    assert not changed[LABELS == 0].any()


def test_side_by_side_is_twice_as_wide() -> None:
    painted = paint(RGB, LABELS, COLORS, "side-by-side")
    assert np.array_equal(painted[:, :60], RGB)
    assert np.array_equal(painted[:, 60:], paint(RGB, LABELS, COLORS))


@pytest.mark.parametrize("name", ["vivid", "pastel", "davis", "colorblind"])
def test_colours_differ_and_do_not_depend_on_how_many_there_are(name: str) -> None:
    few, many = part_colors(3, name), part_colors(30, name)  # type: ignore[arg-type]
    assert np.array_equal(few, many[:3])
    assert len(np.unique(many, axis=0)) == 30
    assert part_colors(255, name).shape == (255, 3)  # type: ignore[arg-type]


def test_davis_palette_is_the_published_one() -> None:
    def plain(index: int) -> list[int]:
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        return colour

    assert davis_palette().tolist() == [plain(index) for index in range(256)]
