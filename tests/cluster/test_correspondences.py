from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cluster import correspondences as module
from pipeline.cluster.correspondences import nearest_both_ways, spread_pairs

BINNED_TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def goldens(parity_dir: Path) -> dict[str, np.ndarray]:
    with np.load(parity_dir / "expected.npz") as archive:
        return {name: archive[name] for name in archive.files if name.startswith("pair/") or "log_bin" in name}


def plain_neighbours(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second))
    similarity = first @ second.T
    return similarity.argmax(1), similarity.max(1), similarity.argmax(0)


def random_rows(seed: int, rows: int, channels: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, channels)).astype(np.float32)


def test_the_goldens_pair(goldens: dict[str, np.ndarray]) -> None:
    cat, cup = (
        torch.from_numpy(goldens[f"{name}/log_bin/stride4/layer9/key"].astype(np.float32)) for name in ("cat", "cup")
    )
    found = nearest_both_ways(cat, cup)
    assert np.mean(found.forward == goldens["pair/nn_1"]) >= 0.995
    assert np.mean(found.backward == goldens["pair/nn_2"]) >= 0.995
    assert np.mean(found.best_buddies == goldens["pair/best_buddies"]) >= 0.995
    assert abs(found.forward_similarity[0] - goldens["pair/similarity_row0"].max()) <= BINNED_TOLERANCE


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_blocks_find_what_the_whole_matrix_holds(n: int, m: int, block: int, seed: int) -> None:
    first, second = random_rows(seed, n), random_rows(seed + 1, m)
    found = nearest_both_ways(torch.from_numpy(first), torch.from_numpy(second), block)
    forward, similarity, backward = plain_neighbours(first, second)
    assert np.array_equal(found.forward, forward)
    assert np.array_equal(found.backward, backward)
    assert np.allclose(found.forward_similarity, similarity, atol=1e-5)
    buddies = [i for i in range(n) if backward[forward[i]] == i]
    assert np.flatnonzero(found.best_buddies).tolist() == buddies


def test_every_descriptor_is_its_own_best_buddy_whatever_its_length() -> None:
    rows = random_rows(0, 30)
    found = nearest_both_ways(torch.from_numpy(rows), torch.from_numpy(rows * np.linspace(0.1, 9, 30)[:, None]).float())
    assert np.array_equal(found.forward, np.arange(30))
    assert found.best_buddies.all()


def test_of_equal_ones_the_first_is_taken_across_blocks() -> None:
    same = torch.ones(5, 3)
    found = nearest_both_ways(same, same, block_rows=2)
    assert found.forward.tolist() == [0] * 5
    assert found.backward.tolist() == [0] * 5


def test_one_pair_of_each_cluster_the_most_salient() -> None:
    centres = np.eye(3, 8, dtype=np.float32)
    noise = random_rows(1, 60, 8) * 0.01
    pairs = np.repeat(centres, 20, axis=0) + noise
    saliency = np.random.default_rng(2).random(60).astype(np.float32)
    chosen = spread_pairs(pairs, pairs, saliency, 3, seed=0)
    assert sorted(chosen.tolist()) == [20 * part + saliency[20 * part : 20 * part + 20].argmax() for part in range(3)]
    assert (np.diff(saliency[chosen]) <= 0).all()


def test_pairs_that_are_alike_do_no_harm() -> None:
    same = np.ones((20, 4), dtype=np.float32)
    chosen = spread_pairs(same, same, np.linspace(0, 1, 20, dtype=np.float32), 5, seed=0)
    assert chosen[0] == 19
    assert len(set(chosen.tolist())) == len(chosen) <= 5
    nothing = np.zeros((20, 4), dtype=np.float32)
    assert len(spread_pairs(nothing, nothing, np.zeros(20, dtype=np.float32), 5, seed=0)) <= 5


def test_compact_points_have_the_same_distances() -> None:
    points = random_rows(5, 30, 200)
    compact = module.compact_points(points)
    assert compact.shape == (30, 30)
    expected = ((points[:, None] - points[None]) ** 2).sum(-1)
    found = ((compact[:, None] - compact[None]) ** 2).sum(-1)
    assert np.allclose(found, expected + 2e-3 * (1 - np.eye(30)), rtol=1e-4, atol=1e-4)


def test_of_very_many_pairs_all_have_their_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = np.repeat(np.eye(3, 8, dtype=np.float32), 20, axis=0) + random_rows(1, 60, 8) * 0.01
    saliency = np.random.default_rng(2).random(60).astype(np.float32)
    whole = spread_pairs(pairs, pairs, saliency, 3, seed=0)
    monkeypatch.setattr(module, "MOST_FITTED", 13)
    assert np.array_equal(spread_pairs(pairs, pairs, saliency, 3, seed=0), whole)
