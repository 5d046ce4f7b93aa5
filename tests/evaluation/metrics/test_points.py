import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.evaluation.metrics.points import correct_points, landmark_errors, part_centres


def test_the_radius_itself_is_correct() -> None:
    truth = np.zeros((4, 2))
    found = np.array([[3.0, 4.0], [3.0, 4.1], [0, 0], [-5.0, 0]])
    assert correct_points(found, truth, 5.0).tolist() == [True, False, True, True]
    assert correct_points(np.zeros((0, 2)), np.zeros((0, 2)), 5.0).shape == (0,)
    with pytest.raises(ValueError, match="annotated"):
        correct_points(np.zeros((1, 2)), truth, 1)


def test_centres_by_hand_and_of_a_missing_part() -> None:
    labels = np.zeros((4, 6), np.uint8)
    labels[1, 2:4] = 1
    labels[3, 5] = 3
    assert part_centres(labels, 3).tolist() == [[3.0, 1.5], [0.0, 0.0], [5.5, 3.5]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_centres_equal_those_of_scipy(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (12, 15)).astype(np.uint8)
    theirs = ndimage.center_of_mass(np.ones_like(labels), labels, [1, 2, 3])
    assert np.allclose(part_centres(labels, 3), np.array(theirs)[:, ::-1] + 0.5)


def plain_errors(centres, xy, visible, test_centres, test_xy, test_visible):
    """For each landmark: standardisation by hand, then least squares without bias."""
    errors = np.full(test_visible.shape, np.nan)
    for landmark in range(visible.shape[1]):
        x = centres[visible[:, landmark]].reshape(visible[:, landmark].sum(), -1)
        y = xy[visible[:, landmark], landmark]
        x_scale, y_scale = np.where(x.std(0) == 0, 1, x.std(0)), np.where(y.std(0) == 0, 1, y.std(0))
        weights = np.linalg.lstsq((x - x.mean(0)) / x_scale, (y - y.mean(0)) / y_scale, rcond=None)[0]
        for picture in np.flatnonzero(test_visible[:, landmark]):
            found = (test_centres[picture].ravel() - x.mean(0)) / x_scale @ weights * y_scale + y.mean(0)
            errors[picture, landmark] = np.hypot(*(found - test_xy[picture, landmark]))
    return errors


def test_regression_equals_its_plain_twin() -> None:
    rng = np.random.default_rng(3)
    train, test = ((rng.random((n, 3, 2)), rng.random((n, 4, 2)), rng.random((n, 4)) < 0.8) for n in (40, 11))
    errors = landmark_errors(train[0], train[1:], test[0], test[1:])
    assert np.allclose(errors, plain_errors(*train, *test), equal_nan=True)
    assert np.array_equal(np.isnan(errors), ~test[2])


def test_landmarks_that_are_linear_in_the_centres_are_found_exactly() -> None:
    rng = np.random.default_rng(0)
    centres, matrix = rng.random((30, 2, 2)), rng.random((4, 2))
    landmarks = (centres.reshape(30, 4) @ matrix)[:, None] + 0.3
    visible = np.ones((30, 1), bool)
    errors = landmark_errors(centres[:20], (landmarks[:20], visible[:20]), centres[20:], (landmarks[20:], visible[20:]))
    assert np.allclose(errors, 0, atol=1e-9)


def test_a_landmark_that_is_never_visible_has_no_error() -> None:
    centres, xy = np.random.default_rng(0).random((2, 5, 2, 2))
    visible = np.array([[True, False]] * 5)
    errors = landmark_errors(centres, (xy, visible), centres, (xy, np.ones((5, 2), bool)))
    assert np.isnan(errors[:, 1]).all()
    assert np.isfinite(errors[:, 0]).all()
