from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.features.extractor import Extractor
from pipeline.features.vit import Tap, ViTConfig
from pipeline.features.weights import load_file
from pipeline.forecast.flops import describe_flops, pass_flops, vote_flops


def counted(work: Callable[[], object]) -> int:
    # torch 2.9's FLOP counter ignores fused attention on the CPU, but counts matrix products.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        work()
    return mode.get_total_flops()


@pytest.mark.parametrize("facet", ["key", "token"])
@pytest.mark.parametrize("layer", [4, 11])
@pytest.mark.parametrize("half_size", [True, False])
@pytest.mark.parametrize("grid", ["overlapping", "interleaved"])
def test_the_count_is_what_torch_counts(tiny_model: Path, facet: str, layer: int, half_size: bool, grid: str) -> None:
    features = FeatureSettings(load_size=32, stride=4, layer=layer, facet=facet, grid=grid)
    extractor = Extractor(load_file(tiny_model), features, SaliencySettings(half_size=half_size), backend="torch")
    rgb = np.zeros((96, 128, 3), np.uint8)
    image = extractor.preprocess(rgb)

    def vote() -> None:
        extractor.extract([image], saliency=not half_size)
        if half_size:
            extractor.saliency_half([rgb])

    assert describe_flops(extractor, image.shape[:2]) == counted(lambda: extractor.extract([image]))
    assert vote_flops(extractor, rgb.shape[:2], attends=True) == counted(vote)
    assert vote_flops(extractor, rgb.shape[:2], attends=False) == describe_flops(extractor, image.shape[:2])


def test_the_papers_model_takes_what_its_shape_says() -> None:
    shape = {"embed_dim": 384, "depth": 12, "heads": 6, "patch_px": 8, "grid_hw": (28, 28), "mlp_dim": 1536}
    config = ViTConfig(**shape, registers=0, qkv_bias=True, layer_scale=False, norm_eps=1e-6)
    whole = pass_flops(config, (224, 398), 4, [Tap(11, "token")], saliency=False, heads=6)
    assert whole / 1e9 == pytest.approx(767, rel=0.01)
    keys = pass_flops(config, (224, 398), 4, [Tap(11, "key")], saliency=False, heads=6)
    assert keys / whole == pytest.approx(11 / 12, rel=0.01)
