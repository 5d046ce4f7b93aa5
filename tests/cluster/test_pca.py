from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from pipeline.cluster.pca import Moments, fit_basis, value_range
from pipeline.errors import UsageError


def moments_of(*blocks: np.ndarray) -> Moments:
    moments = Moments(blocks[0].shape[-1])
    for block in blocks:
        moments.add(block)
    return moments


def test_the_goldens_components_up_to_sign(parity_dir: Path) -> None:
    with np.load(parity_dir / "expected.npz") as archive:
        pictures = [archive[f"{name}/descriptors/stride4/layer11/key"] for name in ("cat", "cup")]
        expected = [archive[f"{name}/pca"] for name in ("cat", "cup")]
    basis = fit_basis(moments_of(*pictures), 4)
    found = np.concatenate([basis.project(picture) for picture in pictures])
    golden = np.concatenate([each.reshape(-1, 4) for each in expected])
    signs = np.sign((found * golden).sum(axis=0))
    assert np.abs(found * signs - golden).max() <= 2e-4 * np.abs(golden).max()


@given(st.integers(1, 9), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_blocks_give_what_the_whole_gives(block: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((40, 6)).astype(np.float32) * np.arange(1, 7) + 100
    found = fit_basis(moments_of(*(rows[start : start + block] for start in range(0, 40, block))), 3)
    plain = PCA(3, svd_solver="full").fit(rows.astype(np.float64))
    assert np.allclose(np.abs(found.axes), np.abs(plain.components_), atol=1e-4)
    assert np.allclose(found.explained, plain.explained_variance_ratio_, atol=1e-5)
    assert np.allclose(found.mean, plain.mean_, atol=1e-4)


def test_the_sign_is_fixed_by_the_largest_loading() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    axes = fit_basis(moments_of(rows), 5).axes
    assert (axes[np.arange(5), np.abs(axes).argmax(axis=1)] > 0).all()
    mirrored = fit_basis(moments_of(-rows), 5).axes
    assert np.allclose(axes, mirrored)


def test_grids_keep_their_shape() -> None:
    grid = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)
    assert fit_basis(moments_of(grid), 2).project(grid).shape == (3, 4, 2)


def test_descriptors_that_are_all_alike_have_no_variance() -> None:
    basis = fit_basis(moments_of(np.ones((9, 3), dtype=np.float32)), 2)
    assert np.allclose(basis.explained, 0)
    assert np.allclose(basis.project(np.ones((9, 3), dtype=np.float32)), 0)


@pytest.mark.parametrize("components", [0, 7])
def test_more_components_than_channels_are_refused(components: int) -> None:
    with pytest.raises(UsageError, match="6 channels have 1 to 6"):
        fit_basis(moments_of(np.ones((2, 6), dtype=np.float32)), components)


def test_a_scale_leaves_out_the_odd_values() -> None:
    values = np.concatenate([np.linspace(0, 1, 1000), [50.0]])[:, None].astype(np.float32)
    low, high = value_range(values)
    assert 0 <= low[0] < 0.01
    assert 0.99 < high[0] <= 1
