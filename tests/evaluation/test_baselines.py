import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.baselines import activation_saliency, threshold_mass


def test_mass_by_hand() -> None:
    saliency = np.array([[0.1, 0.2], [0.4, 0.3]])
    assert threshold_mass(saliency, 0.5).tolist() == [[False, False], [True, True]]
    assert threshold_mass(saliency, 0.39).tolist() == [[False, False], [True, False]]
    assert threshold_mass(saliency, 0.95).all()
    assert not threshold_mass(np.zeros((2, 2))).any()


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.integers(0, 9).map(float)), st.floats(0.05, 0.95))
def test_the_mask_holds_the_mass_and_nothing_smaller_does(saliency: np.ndarray, kept: float) -> None:
    mask = threshold_mass(saliency, kept)
    if saliency.sum() == 0:
        assert not mask.any()
        return
    assert saliency[mask].sum() >= kept * saliency.sum() - 1e-9
    assert saliency[mask].sum() - saliency[mask].min() <= kept * saliency.sum() + 1e-9
    assert saliency[~mask].max(initial=0) <= saliency[mask].min()


def test_activation_is_the_mean_over_channels_from_zero() -> None:
    features = np.array([[[1.0, 3.0], [2.0, 6.0]]])
    assert activation_saliency(features).tolist() == [[0.0, 2.0]]
