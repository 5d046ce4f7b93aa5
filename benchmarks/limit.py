"""The machine's speed limit (roofline) for given settings: the ViT's arithmetic and the CRF.

It counts the FLOPs of the ViT's linear layers and attention, the half-size pass for saliency included, and divides them
by measured rates. Each matrix product and the attention are timed on their own, at their shapes and precision, by the
fastest of torch, oneDNN (as a 1x1 convolution) and OpenVINO. The CRF is timed as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import Settings
from pipeline.features.openvino_graph import import_openvino, open_core
from pipeline.features.vit import ViTConfig
from pipeline.geometry import grid_size
from pipeline.refine.crf import refine_labels


@dataclass(frozen=True, slots=True)
class Limit:
    """Lower bound of a frame's time.

    Attributes:
        product_gflop: GFLOP of the linear layers per frame.
        attention_gflop: GFLOP of the attention per frame.
        product_rate: GFLOP/s of the linear layers at their shapes.
        attention_rate: GFLOP/s of the attention.
        crf_s: seconds of the CRF per frame.
    """

    product_gflop: float
    attention_gflop: float
    product_rate: float
    attention_rate: float
    crf_s: float

    @property
    def vit_s(self) -> float:
        """Seconds of the ViT per frame."""
        return self.product_gflop / self.product_rate + self.attention_gflop / self.attention_rate

    @property
    def frame_s(self) -> float:
        """Seconds of ViT and CRF per frame."""
        return self.vit_s + self.crf_s

    def between(self, other: Limit) -> Limit:
        """The limit at the mean of two measured rates for the same work."""
        return Limit(
            self.product_gflop,
            self.attention_gflop,
            harmonic_mean([self.product_rate, other.product_rate]),
            harmonic_mean([self.attention_rate, other.attention_rate]),
            (self.crf_s + other.crf_s) / 2,
        )


def measure_limit(config: ViTConfig, settings: Settings, size_hw: tuple[int, int], frames: int) -> Limit:
    """Count and time the arithmetic of a run on `frames` frames of a processed size."""
    tokens, share = tokens_of(config, settings, size_hw)
    passes = [(count, share) for count in tokens] + saliency_passes(config, settings, size_hw, frames)
    dtype = torch.bfloat16 if settings.features.precision == "bfloat16" else torch.float32
    width, blocks = config.embed_dim, settings.features.layer
    # Of the last block only the keys are computed.
    shapes = [(width, 3 * width), (width, width), (width, config.mlp_dim), (config.mlp_dim, width)]
    repeated = 2.0 * blocks * sum(inputs * outputs for inputs, outputs in shapes) + 2.0 * width * width
    patch = 2.0 * 3 * config.patch_px**2 * width
    pairs = 4.0 * blocks * width
    with torch.inference_mode():
        spent = [_product_s(tokens[0], inputs, outputs, dtype) for inputs, outputs in shapes]
        rate = 2.0 * tokens[0] * sum(inputs * outputs for inputs, outputs in shapes) / sum(spent)
        attending = 4.0 * tokens[0] ** 2 * width / _attention_s(tokens[0], config, dtype)
    return Limit(
        sum(share * count for count, share in passes) * (repeated + patch) / 1e9,
        sum(share * count**2 for count, share in passes) * pairs / 1e9,
        rate / 1e9,
        attending / 1e9,
        _crf_s(settings, size_hw, grid_size(size_hw, config.patch_px, settings.features.stride)),
    )


def tokens_of(config: ViTConfig, settings: Settings, size_hw: tuple[int, int]) -> tuple[list[int], float]:
    """Tokens of each ViT pass over a frame, and the share of frames that are key frames."""
    stride, patch = settings.features.stride, config.patch_px
    rows, cols = grid_size(size_hw, patch, stride)
    share = 1 / settings.keyframes.interval
    if settings.features.grid != "interleaved":
        return [rows * cols + config.prefix], share
    step = patch // stride
    split = [[len(range(first, length, step)) for first in range(min(length, step))] for length in (rows, cols)]
    return [down * right + config.prefix for down in split[0] for right in split[1]], share


def saliency_passes(
    config: ViTConfig, settings: Settings, size_hw: tuple[int, int], frames: int
) -> list[tuple[int, float]]:
    """Tokens of the half-size pass for saliency, and the share of frames that need it; empty if none do."""
    if not settings.saliency.half_size or settings.saliency.source == "motion":
        return []
    rows, cols = grid_size((size_hw[0] // 2, size_hw[1] // 2), config.patch_px, config.patch_px)
    sampled = min(settings.cluster.frames, -(-frames // settings.keyframes.interval))
    return [(rows * cols + config.prefix, sampled / frames)]


def _product_s(tokens: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    layer, x = nn.Linear(inputs, outputs), torch.randn(1, tokens, inputs)
    weight, bias, lower = layer.weight.to(dtype), layer.bias.to(dtype), x.to(dtype)
    picture, filters = lower.reshape(1, tokens, 1, inputs).permute(0, 3, 1, 2), weight[:, :, None, None]
    ways: list[Callable[[], object]] = [
        lambda: F.linear(lower, weight, bias),
        lambda: F.conv2d(picture, filters, bias),
    ]
    return fastest([*ways, *_by_openvino(lambda ops, given: _linear_node(ops, given, layer), [x], dtype)])


def _attention_s(tokens: int, config: ViTConfig, dtype: torch.dtype) -> float:
    parts = torch.randn(1, tokens, 3, config.heads, config.head_dim).permute(2, 0, 3, 1, 4).contiguous()
    query, key, value = parts
    ways = _by_openvino(lambda ops, given: ops.scaled_dot_product_attention(*given), list(parts), dtype)
    return fastest([lambda: F.scaled_dot_product_attention(query, key, value), *ways])


def _linear_node(ops: Any, given: Sequence[Any], layer: nn.Linear) -> Any:
    weight, bias = (ops.constant(each.detach().numpy()) for each in (layer.weight, layer.bias))
    return ops.add(ops.matmul(given[0], weight, False, True), bias)


def _by_openvino(
    build: Callable[[Any, Sequence[Any]], Any], inputs: Sequence[Tensor], dtype: torch.dtype
) -> list[Callable[[], object]]:
    """An OpenVINO model of what `build` makes of operators and input nodes, to call; empty if not installed."""
    try:
        openvino = import_openvino()
    except (ImportError, OSError):
        return []
    ops = openvino.opset13
    nodes = [ops.parameter(list(each.shape), np.float32) for each in inputs]
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    graph = openvino.Model([build(ops, nodes)], nodes)
    request = open_core().compile_model(graph, "CPU", options).create_infer_request()
    arrays = [each.numpy() for each in inputs]
    return [lambda: request.infer(arrays, share_inputs=True, share_outputs=True)]


def _crf_s(settings: Settings, size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> float:
    random = np.random.default_rng(0)
    energies = random.normal(size=(settings.cluster.parts + 1, *grid_hw)).astype(np.float32)
    # Smooth like a photograph: with noise every pixel would occupy lattice points of its own.
    coarse = torch.from_numpy(random.uniform(0, 255, (1, 3, 12, 20)).astype(np.float32))
    smooth = F.interpolate(coarse, size=size_hw, mode="bicubic")[0].permute(1, 2, 0)
    picture = np.clip(smooth.numpy() + random.normal(size=(*size_hw, 3)) * 3, 0, 255).astype(np.uint8)
    return fastest([lambda: refine_labels(energies, picture, settings.crf)])


def fastest(ways: Iterable[Callable[[], object]], turns: int = 5) -> float:
    """Seconds of the fastest function, each the best of some turns after a warm-up.

    Measured as CPU seconds over the number of threads: the wall time on an otherwise idle machine.
    """
    best = []
    for way in ways:
        way()
        spent = []
        for _ in range(turns):
            start = time.process_time()
            way()
            spent.append(time.process_time() - start)
        best.append(min(spent))
    return min(best) / torch.get_num_threads()
