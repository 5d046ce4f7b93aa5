"""Saliency that a set shares: what single pictures get wrong is put right by the others."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.cluster.feature_cache import CachedFeatures
from pipeline.cluster.place_saliency import SharedSaliency, SharedVoting, fit_shared

GRID = (12, 16)
OBJECT = np.zeros(GRID, dtype=bool)
OBJECT[4:9, 5:11] = True


def entries(misled: int) -> list[CachedFeatures]:
    """Eight pictures of one object before grounds of their own; in the first ones something else is salient."""
    rng = np.random.default_rng(0)
    thing, found = rng.normal(size=16), []
    for number in range(8):
        descriptors = np.where(OBJECT[..., None], thing, rng.normal(size=16)) + 0.3 * rng.normal(size=(*GRID, 16))
        descriptors /= np.linalg.norm(descriptors, axis=-1, keepdims=True)
        seen = np.roll(OBJECT, 5, axis=1) if number < misled else OBJECT
        saliency = np.where(seen, 0.6, 0.1) + 0.05 * rng.random(GRID)
        found.append(CachedFeatures(descriptors.astype(np.float32), saliency.astype(np.float32)))
    return found


def iou(mask: NDArray[np.bool_]) -> float:
    return float((mask & OBJECT).sum() / (mask | OBJECT).sum())


@pytest.mark.parametrize("misled", [0, 1, 2])
def test_a_picture_whose_own_saliency_errs_gets_the_others_object(misled: int) -> None:
    own = entries(misled)
    shared = list(SharedVoting(own, fit_shared(own)))
    assert len(shared) == 8
    for number, (before, after) in enumerate(zip(own, shared, strict=True)):
        assert np.array_equal(before.descriptors, after.descriptors)
        assert after.saliency.shape == GRID
        assert 0 <= after.saliency.min() <= after.saliency.max() <= 1
        assert iou(after.saliency > 0.5) > 0.8
        assert (iou(before.saliency > 0.4) > 0.8) == (number >= misled)


def test_descriptors_alone_say_the_saliency_of_a_picture_that_did_not_join_the_fit() -> None:
    own = entries(0)
    shared = SharedSaliency(torch.from_numpy(fit_shared(own[:-1])))
    assert iou(shared.of(torch.from_numpy(own[-1].descriptors)).numpy() > 0.5) > 0.8
