"""The interleaved grid equals single passes over shifted pictures, position by position."""

from functools import partial

import numpy as np
import pytest
import torch

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.errors import UsageError
from pipeline.features.extractor import Extractor
from pipeline.features.interleaved_grid import agreed, run_interleaved
from pipeline.features.vit import Reading, Tap, View
from pipeline.features.weights import load_file

TAPS = (Tap(11, "key"), Tap(5, "token"))
READING = Reading(TAPS, saliency=True)


@pytest.fixture(scope="module")
def backbone(tiny_model):
    return load_file(tiny_model).backbone


def pixels(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [4, 2])
def test_each_position_is_that_of_the_pass_that_sees_it(backbone, stride):
    x = pixels(37, 50)
    found = run_interleaved(backbone, x, stride, READING)
    rows, cols = found.grid_hw
    assert (rows, cols) == (1 + (37 - 8) // stride, 1 + (50 - 8) // stride)
    step = 8 // stride
    covered = (rows - 1) * stride + 8, (cols - 1) * stride + 8
    attention = torch.zeros(2, rows, cols)
    woven = {tap: torch.zeros(2, rows, cols, found.facets[tap].shape[2]) for tap in TAPS}
    classes = {tap: [] for tap in TAPS}
    for down in range(step):
        for right in range(step):
            start = down * stride, right * stride
            part = x[:, :, start[0] :, start[1] :], View(start, covered)
            (alone,) = backbone.passes([part], 8, READING)
            for tap in TAPS:
                classes[tap].append(alone.facets[tap][:, 0])
            attention[:, down::step, right::step] = alone.saliency * alone.saliency[0].numel()
            for tap in TAPS:
                grid = alone.facets[tap][:, 1:].unflatten(1, alone.grid_hw)
                woven[tap][:, down::step, right::step] = grid
    low, high = attention.amin((1, 2), keepdim=True), attention.amax((1, 2), keepdim=True)
    assert torch.allclose(found.saliency, (attention - low) / (high - low))
    for tap in TAPS:
        assert torch.allclose(found.facets[tap][:, 0], torch.stack(classes[tap]).mean(0), atol=1e-6)
        assert torch.equal(found.facets[tap][:, 1:], agreed(woven[tap], step).flatten(1, 2))


@pytest.mark.parametrize("step", [2, 4])
def test_passes_are_brought_to_one_local_mean(step):
    rows, cols = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    smooth = torch.stack([torch.sin(rows / 20), torch.cos(cols / 24)], -1)[None]
    offsets = torch.randn(step, step, 2, generator=torch.Generator().manual_seed(0)).repeat(40 // step, 56 // step, 1)
    drift = offsets * (1 + rows[..., None] / 40)
    found = agreed(smooth + drift, step)
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert (found - smooth - drift.mean((0, 1)))[inside].std() < 0.15 * drift.std()
    # Passes that agree stay as they are, and so does detail.
    detail = torch.randn(1, 40, 56, 2, generator=torch.Generator().manual_seed(1))
    assert (agreed(smooth, step) - smooth)[inside].abs().max() < 0.015 * step
    assert (agreed(detail, step) - detail).std() < 0.35


@pytest.mark.parametrize("size_hw", [(8, 8), (9, 40), (13, 8)])
def test_pictures_hardly_larger_than_a_patch(backbone, size_hw):
    found = run_interleaved(backbone, pixels(*size_hw), 2, Reading(TAPS[:1]))
    whole = backbone(pixels(*size_hw), 2, Reading(TAPS[:1]))
    assert found.grid_hw == whole.grid_hw
    assert found.facets[TAPS[0]].shape == whole.facets[TAPS[0]].shape
    assert torch.isfinite(found.facets[TAPS[0]]).all()


def test_at_the_native_stride_it_is_the_one_pass(backbone):
    found, whole = (run(pixels(32, 48), 8, READING) for run in (partial(run_interleaved, backbone), backbone))
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
