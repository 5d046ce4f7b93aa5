import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from sklearn.metrics import accuracy_score

from pipeline.evaluation.metrics.masks import jaccard, precision


def random_masks(seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((7, 9)) < share, rng.random((7, 9)) < 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 1))
def test_jaccard_and_precision_equal_other_libraries(seed: int, share: float) -> None:
    predicted, truth = random_masks(seed, share)
    encoded = [coco.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in (predicted, truth)]
    assert jaccard(predicted, truth) == pytest.approx(coco.iou(encoded[:1], encoded[1:], [0])[0, 0], abs=1e-12)
    assert precision(predicted, truth) == pytest.approx(accuracy_score(truth.ravel(), predicted.ravel()), abs=1e-12)


def test_values_by_hand() -> None:
    predicted = np.array([[1, 1, 0, 0]], bool)
    truth = np.array([[0, 1, 1, 0]], bool)
    assert jaccard(predicted, truth) == pytest.approx(1 / 3)
    assert precision(predicted, truth) == pytest.approx(1 / 2)
    ignored = np.array([[1, 0, 0, 0]], bool)
    assert jaccard(predicted, truth, ignored) == pytest.approx(1 / 2)
    assert precision(predicted, truth, ignored) == pytest.approx(2 / 3)


def test_empty_masks() -> None:
    empty, full = np.zeros((2, 2), bool), np.ones((2, 2), bool)
    assert jaccard(empty, empty) == 1
    assert jaccard(full, empty) == jaccard(empty, full) == 0
    assert jaccard(full, full, ignored=full) == 1
    assert math.isnan(precision(full, full, ignored=full))


def test_masks_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="different size"):
        jaccard(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="different size"):
        precision(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
