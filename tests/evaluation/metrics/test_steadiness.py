import math

import cv2
import numpy as np
import pytest

from pipeline.evaluation.metrics.steadiness import IdentityMeter, Steadiness, SteadinessMeter, count_switches


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """A picture with texture everywhere for optical flow, larger than the frames cropped from it."""
    noise = np.random.default_rng(0).integers(0, 256, (140, 180, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)


def frames(texture: np.ndarray, labels: np.ndarray, shifts: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    windows = [(slice(20 + 2 * s, 110 + 2 * s), slice(20 + s, 140 + s)) for s in shifts]
    return [(texture[window].copy(), labels[window].copy()) for window in windows]


def measure(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Steadiness:
    meter = SteadinessMeter()
    for rgb, labels in pairs:
        meter.add(rgb, labels)
    return meter.result()


@pytest.fixture(scope="module")
def parts(texture: np.ndarray) -> np.ndarray:
    labels = np.zeros(texture.shape[:2], np.uint8)
    labels[40:100, 40:90] = 1
    labels[40:100, 90:130] = 2
    return labels


def test_labels_that_move_with_the_picture_are_steady(texture: np.ndarray, parts: np.ndarray) -> None:
    moving = measure(frames(texture, parts, [0, 2, 4, 6]))
    assert moving.flicker < 0.01
    assert moving.switches_per_100_frames == 0
    # Labels that stay in place while the picture moves flicker at their edges.
    still = [(rgb, parts[20:110, 20:140]) for rgb, _ in frames(texture, parts, [0, 2, 4, 6])]
    assert measure(still).flicker > 3 * moving.flicker


def test_what_comes_into_sight_is_not_followed(texture: np.ndarray) -> None:
    pairs = []
    for shift in (0, 8, 16, 24):
        rgb, labels = texture[:90, :120].copy(), np.ones((90, 120), np.uint8)
        rgb[20:70, 20 + shift : 70 + shift] = texture[90:140, 120:170]
        labels[20:70, 20 + shift : 70 + shift] = 2
        pairs.append((rgb, labels))
    # The square uncovers 8 columns of 50 rows a frame; these are occluded before, so they aren't compared.
    assert measure(pairs).flicker < 0.5 * (8 * 50) / (90 * 120)


def test_flicker_of_a_still_picture_is_the_share_of_changed_pixels(texture: np.ndarray) -> None:
    rgb = texture[:90, :120].copy()
    labels = np.zeros((90, 120), np.uint8)
    changed = labels.copy()
    changed[:9] = 1
    found = measure([(rgb, labels), (rgb, changed), (rgb, changed)])
    assert found.flicker == pytest.approx(0.1 / 2)
    assert found.switches_per_100_frames == 0


def test_swapped_names_are_switches(texture: np.ndarray, parts: np.ndarray) -> None:
    rgb, labels = frames(texture, parts, [0])[0]
    swapped = np.array([0, 2, 1], np.uint8)[labels]
    found = measure([(rgb, labels), (rgb, swapped), (rgb, swapped), (rgb, labels), (rgb, labels)])
    assert found.switches_per_100_frames == pytest.approx(100 * 4 / 4)
    assert found.flicker == pytest.approx((labels > 0).mean() / 2)


def test_background_and_tiny_parts_don_t_switch() -> None:
    before = np.array([1] * 30 + [2] * 2 + [3] * 10, np.uint8)
    after = np.array([0] * 30 + [1] * 2 + [3] * 5 + [1] * 5, np.uint8)
    # Part 1 became background; part 2 has two pixels, fewer than three; part 3 is a tie.
    table = np.zeros((4, 4), np.int64)
    np.add.at(table, (before, after), 1)
    assert count_switches(table, 3000) == 0
    assert count_switches(table, 2000) == 1
    assert count_switches(np.zeros((4, 4), np.int64), 2000) == 0


def test_one_frame_or_none_has_no_steadiness(texture: np.ndarray) -> None:
    for pairs in ([], [(texture, np.zeros(texture.shape[:2], np.uint8))]):
        found = measure(pairs)
        assert math.isnan(found.flicker)
        assert math.isnan(found.switches_per_100_frames)


def test_labels_of_another_size_are_refused(texture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels"):
        SteadinessMeter().add(texture, np.zeros((3, 3), np.uint8))


def test_identities_are_counted_against_the_last_name() -> None:
    meter = IdentityMeter()
    for partner in ({1: 1, 2: 2}, {1: 1}, {1: 2, 2: 2}, {1: 2, 2: 1}, {}):
        meter.add(partner)
    # Part 1 switches once; part 2 keeps its match over a frame without it, and switches once.
    assert meter.switches_per_100_frames() == pytest.approx(100 * 2 / 4)
    assert math.isnan(IdentityMeter().switches_per_100_frames())
