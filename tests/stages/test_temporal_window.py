"""Energies over a window of frames: what moves is averaged with itself, and nothing outside of the window counts."""

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from pipeline.features.flow import find_track, find_tracks
from pipeline.records import EnergyMap, Frame
from pipeline.stages.temporal_window import steady

STEP_PX = 2
"""That the camera pans from frame to frame."""
CELL_PX = 4


def picture(index: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (64, 160, 3), dtype=np.uint8)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(scene[:, STEP_PX * index : STEP_PX * index + 96])


def panned(frames: int, noise: float = 0.0, first: int = 0) -> list[EnergyMap]:
    """Two labels, whose border moves with the picture, and noise that is another in each frame."""
    found = []
    for index in range(frames):
        columns = np.arange(24) * CELL_PX + CELL_PX / 2 + STEP_PX * index
        clean = np.broadcast_to(np.tanh((columns - 70) / 10), (16, 24))
        noisy = clean + noise * np.random.default_rng(index).normal(size=clean.shape)
        energies = torch.from_numpy(np.stack([noisy, -noisy]).astype(np.float32))
        found.append(EnergyMap(Frame(index, index, Fraction(1), picture(index)), picture(index), energies))
    return found[first:]


def errors(items: Sequence[EnergyMap]) -> float:
    clean = panned(len(items))
    inside = slice(4, -4)
    each = [(a.energies - b.energies)[:, inside, inside].abs().mean() for a, b in zip(items, clean, strict=True)]
    return float(np.mean(each))


def test_noise_is_averaged_along_the_motion() -> None:
    noisy = panned(9, noise=0.5)
    assert errors(list(steady(iter(noisy), 3, pixels=False))) < 0.65 * errors(noisy)
    # Without noise a border that moves by half a cell a frame stays where it is.
    assert errors(list(steady(iter(panned(9)), 3, pixels=False))) < 0.05


@pytest.mark.parametrize("size_hw", [(64, 96), (66, 97)])
def test_what_stands_still_stays_where_it_is(size_hw: tuple[int, int]) -> None:
    # Followed over a long window, even a tenth of a cell in each frame would become a whole one.
    image = np.ascontiguousarray(cv2.resize(picture(0), size_hw[::-1]))
    edge = np.broadcast_to(np.tanh((np.arange(24) - 11.5) / 2), (16, 24))
    energies = torch.from_numpy(np.stack([edge, -edge]).astype(np.float32))
    still = [EnergyMap(Frame(index, index, Fraction(1), image), image, energies) for index in range(25)]
    for item in steady(iter(still), 12, pixels=False):
        torch.testing.assert_close(item.energies, energies, atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [1, 3, 12])
def test_a_frame_depends_on_its_window_alone(window: int) -> None:
    whole = list(steady(iter(panned(9, noise=0.5)), window, pixels=False))
    assert [item.frame.index for item in whole] == list(range(9))
    late = list(steady(iter(panned(9, noise=0.5, first=2)), window, pixels=False))
    assert [item.frame.index for item in late] == list(range(2, 9))
    for one, other in zip(whole[2 + window :], late[window:], strict=True):
        assert torch.equal(one.energies, other.energies)
    cut = list(steady(iter(panned(7, noise=0.5)), window, pixels=False))
    for one, other in zip(whole[: max(0, 7 - window)], cut, strict=False):
        assert torch.equal(one.energies, other.energies)
    assert window > 6 or not torch.equal(whole[6 - window + 1].energies, cut[6 - window + 1].energies)


def test_a_cut_is_not_averaged_over() -> None:
    items = panned(6)
    turned = [EnergyMap(item.frame, item.image[::-1, ::-1].copy(), -item.energies) for item in items[3:]]
    found = list(steady(iter([*items[:3], *turned]), 2, pixels=False))
    for item, energies in zip(found, [*items[:3], *turned], strict=True):
        assert float((item.energies - energies.energies).abs().mean()) < 0.12


def test_grids_and_pixels_mix_between_key_frames() -> None:
    items = panned(5)
    mixed = [
        item
        if item.frame.index % 2 == 0
        else EnergyMap(item.frame, item.image, item.energies.repeat_interleave(4, 1).repeat_interleave(4, 2))
        for item in items
    ]
    found = list(steady(iter(mixed), 2, pixels=True))
    assert {tuple(item.energies.shape) for item in found} == {(2, 64, 96)}
    assert float((found[2].energies.argmin(0)[::4, ::4] != items[2].energies.argmin(0)).float().mean()) < 0.08


def test_both_tracks_of_a_pair_are_those_of_each_alone() -> None:
    forth, back = find_tracks(picture(0), picture(1))
    for found, expected in ((forth, find_track(picture(0), picture(1))), (back, find_track(picture(1), picture(0)))):
        assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in ("x", "y", "trust"))
