"""The interleaved grid equals single passes over shifted pictures, position by position."""

import numpy as np
import pytest
import torch

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.errors import UsageError
from pipeline.features.extractor import Extractor
from pipeline.features.interleaved_grid import run_interleaved
from pipeline.features.vit import Tap
from pipeline.features.weights import load_file

TAPS = [Tap(11, "key"), Tap(5, "token")]


@pytest.fixture(scope="module")
def backbone(tiny_model):
    return load_file(tiny_model).backbone


def pixels(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [4, 2])
def test_each_position_is_that_of_the_pass_that_sees_it(backbone, stride):
    x = pixels(37, 50)
    found = run_interleaved(backbone, x, stride, TAPS, saliency=True)
    rows, cols = found.grid_hw
    assert (rows, cols) == (1 + (37 - 8) // stride, 1 + (50 - 8) // stride)
    step = 8 // stride
    classes = {tap: [] for tap in TAPS}
    for down in range(step):
        for right in range(step):
            alone = backbone(x[:, :, down * stride :, right * stride :], 8, TAPS, saliency=True)
            for row in range(down, rows, step):
                for col in range(right, cols, step):
                    there = (row // step) * alone.grid_hw[1] + col // step
                    for tap in TAPS:
                        expected = alone.facets[tap][:, 1 + there]
                        assert torch.equal(found.facets[tap][:, 1 + row * cols + col], expected)
                    assert torch.equal(found.saliency[:, row, col], alone.saliency[:, row // step, col // step])
            for tap in TAPS:
                classes[tap].append(alone.facets[tap][:, 0])
    for tap in TAPS:
        assert torch.allclose(found.facets[tap][:, 0], torch.stack(classes[tap]).mean(0), atol=1e-6)


@pytest.mark.parametrize("size_hw", [(8, 8), (9, 40), (13, 8)])
def test_pictures_hardly_larger_than_a_patch(backbone, size_hw):
    found = run_interleaved(backbone, pixels(*size_hw), 2, TAPS[:1])
    whole = backbone(pixels(*size_hw), 2, TAPS[:1])
    assert found.grid_hw == whole.grid_hw
    assert found.facets[TAPS[0]].shape == whole.facets[TAPS[0]].shape
    assert torch.isfinite(found.facets[TAPS[0]]).all()


def test_at_the_native_stride_it_is_the_one_pass(backbone):
    found, whole = run_interleaved(backbone, pixels(32, 48), 8, TAPS), backbone(pixels(32, 48), 8, TAPS)
    for tap in TAPS:
        assert torch.equal(found.facets[tap], whole.facets[tap])


def test_interleaved_and_half_precise_descriptors_are_near_the_exact_ones(tiny_model):
    model, rng = load_file(tiny_model), np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)

    def described(**features):
        extractor = Extractor(model, FeatureSettings(load_size=48, **features), SaliencySettings())
        return torch.nn.functional.normalize(extractor.extract([image]).descriptors, dim=-1)

    exact = described()
    similarity = {
        name: float((described(**values) * exact).sum(-1).mean())
        for name, values in {
            "half": {"precision": "bfloat16"},
            "woven": {"grid": "interleaved"},
        }.items()
    }
    assert similarity["half"] > 0.999
    assert 0.5 < similarity["woven"] < 1
    assert not torch.equal(described(precision="bfloat16"), exact)


def test_float16_is_refused_on_the_cpu(tiny_model):
    with pytest.raises(UsageError, match="float16 is for CUDA; give bfloat16"):
        Extractor(load_file(tiny_model), FeatureSettings(precision="float16"), SaliencySettings())
