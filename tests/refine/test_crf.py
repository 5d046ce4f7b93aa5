import numpy as np
import pytest

from pipeline.config import CrfSettings
from pipeline.refine.crf import refine_labels


def plain_mean_field(unary: np.ndarray, image: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Dense mean field over all pairs of pixels, with symmetrically normalised kernels."""
    labels, height, width = unary.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    colour = image.reshape(-1, 3).astype(float)
    space = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    tint = ((colour[:, None] - colour) ** 2).sum(2)
    kernels = []
    for weight, exponent in (
        (settings.gaussian_weight, space / settings.gaussian_sxy**2),
        (settings.bilateral_weight, space / settings.bilateral_sxy**2 + tint / settings.bilateral_srgb**2),
    ):
        kernel = np.exp(-exponent / 2)
        scale = 1 / np.sqrt(kernel.sum(1))
        kernels.append(weight * scale[:, None] * kernel * scale)
    flat = unary.reshape(labels, -1).T.astype(float)
    field = np.exp(-flat) / np.exp(-flat).sum(1, keepdims=True)
    for _ in range(settings.iterations):
        energy = flat - sum(kernel @ field for kernel in kernels)
        energy -= energy.min(1, keepdims=True)
        field = np.exp(-energy) / np.exp(-energy).sum(1, keepdims=True)
    return field.argmax(1).reshape(height, width)


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = np.full((24, 32, 3), 60, dtype=np.uint8)
    image[5:19, 9:25] = (200, 120, 40)
    image = np.clip(image + rng.normal(size=image.shape) * 3, 0, 255).astype(np.uint8)
    unary = rng.normal(size=(3, 6, 8)).astype(np.float32) * 0.1
    unary[1, 1:5, 2:6] -= 0.4
    unary[0, [0, 5]] -= 0.4
    return unary - unary.max(0), image


def test_labels_equal_the_definition(scene: tuple[np.ndarray, np.ndarray]) -> None:
    unary, image = scene
    settings = CrfSettings(gaussian_weight=3, bilateral_weight=6, iterations=5)
    expected = plain_mean_field(unary.repeat(4, 1).repeat(4, 2), image, settings)
    found = refine_labels(unary, image, settings)
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() > 0.98


def test_labels_follow_the_edges_of_the_picture(scene: tuple[np.ndarray, np.ndarray]) -> None:
    unary, image = scene
    rough = refine_labels(unary, image, CrfSettings(iterations=0))
    fine = refine_labels(unary, image, CrfSettings(gaussian_weight=3, bilateral_weight=10))
    box = np.zeros((24, 32), dtype=bool)
    box[5:19, 9:25] = True
    assert ((fine == 1) == box).mean() > ((rough == 1) == box).mean()


def test_no_iterations_is_the_lowest_energy(scene: tuple[np.ndarray, np.ndarray]) -> None:
    unary, image = scene
    found = refine_labels(unary, image, CrfSettings(iterations=0))
    assert np.array_equal(found, unary.argmin(0).repeat(4, 0).repeat(4, 1))


def test_one_part_and_a_tiny_picture() -> None:
    assert refine_labels(np.zeros((2, 1, 1), np.float32), np.zeros((1, 1, 3), np.uint8), CrfSettings()).shape == (1, 1)
