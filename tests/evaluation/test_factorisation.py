import numpy as np
import pytest

from pipeline.evaluation.factorisation import coefficients, factorise


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of an object of two parts on an empty ground, [12, 16, 10], and its labels."""
    truth = np.zeros((12, 16), dtype=np.int64)
    truth[3:9, 4:8], truth[3:9, 8:12] = 1, 2
    base = np.zeros((3, 10))
    base[0, 9], base[1, :4], base[2, 2:6] = 0.05, 1, 1
    noise = rng.normal(size=(12, 16, 10)) * 0.005
    return (base[truth] + noise).astype(np.float32), truth


def test_parts_of_an_object_on_an_empty_ground_are_found() -> None:
    descriptors, truth = scene(np.random.default_rng(0))
    factors = factorise(descriptors.reshape(-1, 10), 2, seed=0)
    energies = factors.energies(descriptors)
    labels = energies.argmin(axis=0)
    assert np.array_equal(labels > 0, truth > 0)
    assert len(np.unique(labels[truth == 1])) == len(np.unique(labels[truth == 2])) == 1
    assert labels[5, 5] != labels[5, 10]
    assert set(np.unique(energies[1:].argmin(axis=0))) == {0, 1}
    assert np.array_equal(energies, factorise(descriptors.reshape(-1, 10), 2, seed=0).energies(descriptors))


def test_coefficients_are_not_negative_and_make_up_the_descriptors() -> None:
    rng = np.random.default_rng(1)
    factors, shares = rng.uniform(size=(3, 8)).astype(np.float32), rng.uniform(size=(20, 3)).astype(np.float32)
    found = coefficients(shares @ factors, factors)
    assert found.min() >= 0
    assert found @ factors == pytest.approx(shares @ factors, abs=1e-2)
