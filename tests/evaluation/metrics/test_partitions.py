import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from pipeline.evaluation.metrics.partitions import best_permutation, contingency, partition_scores


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_scores_equal_those_of_scikit_learn(points: int, true: int, predicted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, true, points), rng.integers(0, predicted, points)
    table = contingency(truth, found, (true, predicted))
    theirs = contingency_matrix(truth, found)
    assert np.array_equal(table[table.sum(1) > 0][:, table.sum(0) > 0], theirs)
    scores = partition_scores(table)
    assert scores.nmi == pytest.approx(normalized_mutual_info_score(truth, found), abs=1e-9)
    assert scores.ari == pytest.approx(adjusted_rand_score(truth, found), abs=1e-9)


def test_scores_of_a_table_by_hand() -> None:
    # Two true parts of two points each, one point misassigned.
    scores = partition_scores(np.array([[2, 0], [1, 1]]))
    # Of 6 pairs, 1 is together in both, 2 in the truth, 3 in the prediction: (1 - 1) / (2.5 - 1).
    assert scores.ari == pytest.approx(0)
    mutual = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    entropies = math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert scores.nmi == pytest.approx(mutual / (sum(entropies) / 2))


def test_counts_beyond_64_bits_when_multiplied() -> None:
    small = np.array([[40, 3], [5, 60]])
    # With equal proportions ARI converges for large n; n ** 4 would overflow 64 bits.
    large, larger = (partition_scores(small * factor) for factor in (10**9, 10**10))
    assert large.ari == pytest.approx(larger.ari, abs=1e-9)
    assert 0.5 < large.ari < 1
    assert large.nmi == pytest.approx(partition_scores(small).nmi, abs=1e-9)


def test_one_block_and_no_point() -> None:
    assert partition_scores(np.array([[5]])).nmi == 1
    assert partition_scores(np.array([[5]])).ari == 1
    nothing = partition_scores(np.zeros((2, 2), np.int64))
    assert math.isnan(nothing.nmi)
    assert math.isnan(nothing.ari)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_the_best_permutation_is_the_best_of_all(true: int, predicted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, true + 1, 80), rng.integers(0, predicted + 1, 80)
    parts = [part for part in range(1, true + 1) if (truth == part).any()]
    names = [*range(1, predicted + 1), *[-1] * true]

    def iou(part: int, name: int) -> float:
        union = np.sum((truth == part) | (found == name))
        return float(np.sum((truth == part) & (found == name)) / union)

    best = max(
        sum(iou(part, name) for part, name in zip(parts, chosen, strict=True)) / len(parts)
        for chosen in permutations(names, len(parts))
    )
    assert best_permutation(contingency(truth, found, (true + 1, predicted + 1))).mean_iou == pytest.approx(best)


def test_permutation_by_hand() -> None:
    truth = np.array([[0, 1, 1, 2, 2, 2]])
    found = np.array([[0, 2, 2, 1, 1, 0]])
    scores = best_permutation(contingency(truth, found, (3, 3)))
    assert scores.mean_iou == pytest.approx((1 + 2 / 3) / 2)
    assert scores.partner == {1: 2, 2: 1}


def test_a_single_predicted_part_serves_one_true_part() -> None:
    truth = np.array([1, 1, 2, 2])
    scores = best_permutation(contingency(truth, np.ones(4, np.int64), (3, 2)))
    assert scores.mean_iou == pytest.approx(0.5 / 2)
    assert len(scores.partner) == 1


def test_without_a_true_part_there_is_no_iou() -> None:
    assert math.isnan(best_permutation(contingency(np.zeros(3, int), np.ones(3, int), (2, 2))).mean_iou)


def test_bad_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="different size"):
        contingency(np.zeros(3, int), np.zeros(4, int), (1, 1))
    with pytest.raises(ValueError, match="outside"):
        contingency(np.array([0, 2]), np.array([0, 0]), (2, 1))
    with pytest.raises(ValueError, match="outside"):
        contingency(np.array([0, 0]), np.array([0, -1]), (2, 1))
