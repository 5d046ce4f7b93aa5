from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.evaluation.metrics.davis import (
    boundary_map,
    boundary_radius,
    boundary_similarity,
    match_proposals,
    sequence_statistics,
)
from pipeline.evaluation.metrics.masks import jaccard

Mask = NDArray[np.bool_]


def plain_boundary(mask: Mask) -> Mask:
    """Boundary map pixel by pixel, with the picture padded by its last row and column."""
    grown = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = grown[:-1, :-1]
    return (here != grown[:-1, 1:]) | (here != grown[1:, :-1]) | (here != grown[1:, 1:])


def plain_similarity(predicted: Mask, truth: Mask) -> float:
    """Boundary F by pairwise distances of boundary pixels instead of dilation."""
    found, wanted = plain_boundary(predicted), plain_boundary(truth)
    if not found.any() and not wanted.any():
        return 1.0
    if not found.any() or not wanted.any():
        return 0.0
    reach = np.ceil(0.008 * np.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    precision = np.mean(ndimage.distance_transform_edt(~wanted)[found] <= reach)
    recall = np.mean(ndimage.distance_transform_edt(~found)[wanted] <= reach)
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def plain_jaccard(predicted: Mask, truth: Mask) -> float:
    ours, theirs = (set(np.flatnonzero(mask).tolist()) for mask in (predicted, truth))
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


PERTURBATIONS = {
    "shifted": lambda mask: np.roll(mask, (11, -7), (0, 1)),
    "dilated": lambda mask: ndimage.binary_dilation(mask, iterations=9),
    "eroded": lambda mask: ndimage.binary_erosion(mask, iterations=4),
    "cut": lambda mask: mask & (np.arange(mask.shape[1]) < mask.shape[1] // 2),
    "mirrored": lambda mask: mask[:, ::-1],
    "empty": np.zeros_like,
    "full": np.ones_like,
    "equal": lambda mask: mask,
}


@pytest.mark.parametrize("sequence", ["dog", "camel", "blackswan", "goat"])
def test_real_annotations_agree_with_an_independent_computation(shared_dir: Path, sequence: str) -> None:
    files = sorted((shared_dir / "clips" / "davis" / "Annotations" / sequence).glob("*.png"))
    values = []
    for file, perturb in zip(files[:: max(1, len(files) // 8)], PERTURBATIONS.values(), strict=False):
        truth = np.array(Image.open(file)) > 0
        predicted = perturb(truth)
        assert jaccard(predicted, truth) == pytest.approx(plain_jaccard(predicted, truth), abs=1e-6)
        assert boundary_similarity(predicted, truth) == pytest.approx(plain_similarity(predicted, truth), abs=1e-6)
        values.append(boundary_similarity(predicted, truth))
    assert len(values) == len(PERTURBATIONS)
    assert values[-1] == 1
    assert 0 < values[0] < 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 260), st.integers(0, 10**6), st.floats(0, 1))
def test_random_masks_agree_with_the_plain_twins(height: int, width: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, 2, 2)) < share
    predicted, truth = (np.kron(mask, np.ones((20, 130), bool))[:height, :width] for mask in coarse)
    assert np.array_equal(boundary_map(truth), plain_boundary(truth))
    assert boundary_similarity(predicted, truth) == pytest.approx(plain_similarity(predicted, truth), abs=1e-12)


def test_boundary_by_hand() -> None:
    mask = np.zeros((4, 4), bool)
    mask[2:, 2:] = True
    expected = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]], bool)
    assert np.array_equal(boundary_map(mask), expected)


def test_a_shift_within_the_radius_is_perfect_and_beyond_it_is_not() -> None:
    truth = np.zeros((100, 100), bool)
    truth[30:60, 30:60] = True
    radius = boundary_radius((100, 100))
    assert radius == 2  # 0.008 x 141.4 = 1.13, rounded up
    assert boundary_similarity(np.roll(truth, radius, 1), truth) == 1
    assert boundary_similarity(np.roll(truth, radius + 1, 1), truth) < 1


def test_empty_masks() -> None:
    empty, some = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    some[5:10, 5:10] = True
    assert boundary_similarity(empty, empty) == 1
    assert boundary_similarity(some, empty) == boundary_similarity(empty, some) == 0


def test_statistics_by_hand() -> None:
    # Nine values: the bins 0-2, 2-4, 4-6, 6-8 share their borders.
    values = np.array([0.9, 0.8, 0.7, 0.5, 0.6, 0.5, 0.4, 0.3, 0.2])
    found = sequence_statistics(values)
    assert found.mean == pytest.approx(4.9 / 9)
    assert found.recall == pytest.approx(4 / 9)  # 0.5 itself doesn't count
    assert found.decay == pytest.approx(0.8 - 0.3)
    # Borders between frames are rounded: 1, 3.25, 5.5, 7.75, 10 become 1, 3, 6, 8, 10.
    assert sequence_statistics(np.arange(10.0)).decay == pytest.approx((0 + 1 + 2) / 3 - (7 + 8 + 9) / 3)


@settings(deadline=None)
@given(st.integers(1, 700))
def test_decay_takes_the_first_and_last_quarter_of_a_sequence_of_any_length(length: int) -> None:
    values = np.random.default_rng(length).random(length)
    borders = [int(np.floor(1 + part * (length - 1) / 4 + 0.5 + 1e-10)) for part in range(5)]
    # Halves are rounded to even, as in numpy.
    exact = [1 + part * (length - 1) / 4 for part in range(5)]
    borders = [round(value) if value % 1 != 0.5 else border for value, border in zip(exact, borders, strict=True)]
    first, last = values[borders[0] - 1 : borders[1]], values[borders[3] - 1 : borders[4]]
    assert sequence_statistics(values).decay == pytest.approx(first.mean() - last.mean())


def test_no_frame_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="one frame"):
        sequence_statistics(np.zeros(0))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2), st.integers(0, 999))
def test_matching_finds_the_best_of_all_assignments(objects: int, more: int, seed: int) -> None:
    region, boundary = np.random.default_rng(seed).random((2, objects + more, objects, 5))
    proposals, numbers = match_proposals(region, boundary)
    assert numbers.tolist() == list(range(objects))
    quality = (region.mean(2) + boundary.mean(2)) / 2
    best = max(
        sum(quality[proposal, number] for number, proposal in enumerate(chosen))
        for chosen in permutations(range(objects + more), objects)
    )
    assert quality[proposals, numbers].sum() == pytest.approx(best)


def test_fewer_proposals_than_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="1 proposals for 2 objects"):
        match_proposals(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)))
