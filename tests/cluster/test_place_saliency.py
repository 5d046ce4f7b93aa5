"""Saliency that the frames of an input share: what single frames get wrong is put right by the others."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.place_saliency import SharedSaliency, SharedVoting, fit_shared, shared_of

GRID = (12, 16)
OBJECT = np.zeros(GRID, dtype=bool)
OBJECT[4:9, 5:11] = True


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with FeatureCache(tmp_path) as opened:
        yield opened


def show(cache: FeatureCache, number: int, misled: int, seed: int = 0, frames: int = 8) -> None:
    """Frames of one object before grounds of their own; in the first `misled` ones something else is salient."""
    rng = np.random.default_rng(seed)
    thing = rng.normal(size=16)
    for frame in range(frames):
        descriptors = np.where(OBJECT[..., None], thing, rng.normal(size=16)) + 0.3 * rng.normal(size=(*GRID, 16))
        descriptors /= np.linalg.norm(descriptors, axis=-1, keepdims=True)
        seen = np.roll(OBJECT, 5, axis=1) if frame < misled else OBJECT
        saliency = np.where(seen, 0.6, 0.1) + 0.05 * rng.random(GRID)
        cache.put((number, frame), descriptors.astype(np.float32), saliency.astype(np.float32), frame)


def iou(mask: NDArray[np.bool_]) -> float:
    return float((mask & OBJECT).sum() / (mask | OBJECT).sum())


@pytest.mark.parametrize("misled", [0, 1, 2])
def test_a_frame_whose_own_saliency_errs_gets_the_others_object(cache: FeatureCache, misled: int) -> None:
    show(cache, 0, misled)
    shared = list(SharedVoting(cache, fit_shared(cache)))
    assert len(shared) == 8
    for number, (before, after) in enumerate(zip(cache, shared, strict=True)):
        assert np.array_equal(before.descriptors, after.descriptors)
        assert after.saliency.shape == GRID
        assert 0 <= after.saliency.min() <= after.saliency.max() <= 1
        assert iou(after.saliency > 0.5) > 0.8
        assert (iou(before.saliency > 0.4) > 0.8) == (number >= misled)


def test_each_input_has_its_own_and_an_unknown_one_that_of_all(cache: FeatureCache) -> None:
    show(cache, 1, 0, seed=1)
    alone = fit_shared(cache)
    assert alone.shape == (1, 17)
    show(cache, 3, 0, seed=3)
    tables = fit_shared(cache)
    assert tables.shape == (5, 17)
    assert np.array_equal(tables[2], alone[0])
    assert not np.array_equal(tables[2], tables[4])
    for unseen in (None, 0, 2, 9):
        assert np.array_equal(shared_of(tables, unseen).numpy(), tables[0])
    # A frame votes by what its own input shares.
    for (number, _), entry in zip([key for key, _ in cache.items()], SharedVoting(cache, tables), strict=True):
        own = SharedSaliency(shared_of(tables, number)).of(torch.from_numpy(entry.descriptors)).numpy()
        assert np.array_equal(entry.saliency, own)


def test_descriptors_alone_say_the_saliency_of_a_frame_that_did_not_join_the_fit(cache: FeatureCache) -> None:
    show(cache, 0, 0)
    later = cache.get((0, 7))
    cache.drop((0, 7))
    shared = SharedSaliency(shared_of(fit_shared(cache), None))
    assert iou(shared.of(torch.from_numpy(later.descriptors)).numpy() > 0.5) > 0.8
