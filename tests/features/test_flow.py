"""Optical flow between frames: displacement, forward-backward check, warping."""

import cv2
import numpy as np
import pytest

from pipeline.features.flow import LOST_TRUST, Track, blend, find_track, lost_share

HEIGHT, WIDTH = 60, 80


def texture(seed: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)


def still(trust: float) -> Track:
    rows, cols = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return Track(cols, rows, np.full((HEIGHT, WIDTH), trust, np.float32))


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 4)])
def test_a_camera_that_moves_is_followed(right: int, down: int) -> None:
    scene = texture(0, (HEIGHT + 20, WIDTH + 20))
    first = np.ascontiguousarray(scene[10 : 10 + HEIGHT, 10 : 10 + WIDTH])
    second = np.ascontiguousarray(scene[10 + down : 10 + down + HEIGHT, 10 + right : 10 + right + WIDTH])
    track = find_track(second, first)
    inner = (slice(8, -8), slice(8, -8))
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    assert np.abs(track.x - cols - right)[inner].max() < 0.5
    assert np.abs(track.y - rows - down)[inner].max() < 0.5
    assert track.trust[inner].min() > 0.5
    # Pixels that enter at the picture's edge have no match in the other frame.
    outside = track.x > WIDTH if right > 0 else track.x < -1
    assert outside.any()
    assert (track.trust[outside] == 0).all()
    carried = track.carry(first.transpose(2, 0, 1).astype(np.float32)).transpose(1, 2, 0)
    assert np.abs(carried - second)[inner].mean() < 3


def test_what_was_hidden_is_not_trusted() -> None:
    ground, figure = texture(1), texture(2, (24, 24))
    first, second = ground.copy(), ground.copy()
    first[18:42, 10:34] = figure
    second[18:42, 22:46] = figure
    track = find_track(second, first)
    uncovered = np.zeros((HEIGHT, WIDTH), bool)
    uncovered[20:40, 12:20] = True
    far = np.zeros_like(uncovered)
    far[:, 60:] = True
    assert (track.trust[uncovered] < LOST_TRUST).mean() > 0.8
    assert (track.trust[far] > 0.5).all()


def test_a_cut_is_lost_and_a_still_scene_is_not() -> None:
    cut, same = find_track(texture(3), texture(4)), find_track(texture(3), texture(3))
    assert lost_share(cut, cut) > 0.5
    assert lost_share(cut, same) == 0
    assert np.abs(same.trust - 1).max() < 1e-3


def test_the_trusted_frame_decides_and_of_two_the_nearer_one() -> None:
    low, high = np.zeros((2, HEIGHT, WIDTH), np.float32), np.ones((2, HEIGHT, WIDTH), np.float32)
    assert blend(still(1), still(1), (low, high), 0.25) == pytest.approx(0.25, abs=1e-6)
    assert blend(still(0), still(1), (low, high), 0.25).min() > 0.99
    assert blend(still(1), still(0), (low, high), 0.75).max() < 0.01
    assert blend(still(0), still(0), (low, high), 0.25) == pytest.approx(0.25, abs=1e-6)
