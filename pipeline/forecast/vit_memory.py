"""Memory of the ViT beside its parameters: activations in torch, compiled graphs with OpenVINO."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import accumulate

import torch

from pipeline.features.extractor import Extractor
from pipeline.features.interleaved_grid import pass_sizes
from pipeline.features.openvino_backbone import KEPT_BYTES, KEPT_SHAPES, graph_bytes
from pipeline.geometry import grid_size

DROPPED_SHARE = 1.5
"""Memory of graphs where some are dropped for others, as a multiple of those kept: not all of it comes back."""

ACTIVATION_SHARE = 1.5
"""Memory of one pass through torch as a multiple of one block's tensors."""


def vit_bytes(extractor: Extractor, size_hws: Collection[tuple[int, int]]) -> float:
    """Memory that the ViT takes beside its parameters for frames of some processed sizes; none on CUDA.

    OpenVINO has one compiled graph for each number of tokens, with a copy of the weights; the largest are kept.
    """
    config = extractor.backbone.config
    passes = [_pass_tokens(extractor, size_hw) for size_hw in size_hws]
    described = {tokens for each in passes for tokens in each}
    if extractor.device.type != "cpu" or not described:
        return 0.0
    if extractor.backend == "torch":
        return ACTIVATION_SHARE * config.token_bytes * max(described)
    # Saliency has graphs of its own: of the half-size picture, or of the same passes.
    halves = {_tokens(extractor, (rows // 2, cols // 2), config.patch_px) for rows, cols in size_hws}
    kept = sorted([*described, *(halves if extractor.half_size else described)], reverse=True)
    streams = min(torch.get_num_threads(), max(map(len, passes)))
    held = list(accumulate(graph_bytes(config, extractor.dtype, tokens, streams) for tokens in kept))
    most = max([*held[:KEPT_SHAPES], *(total for total in held if total <= KEPT_BYTES)])
    return most * (DROPPED_SHARE if most < held[-1] else 1)


def _pass_tokens(extractor: Extractor, size_hw: tuple[int, int]) -> list[int]:
    """Number of tokens of each pass of a frame."""
    patch_px, stride_px = extractor.identity.patch_px, extractor.settings.stride
    if extractor.settings.grid != "interleaved":
        return [_tokens(extractor, size_hw, stride_px)]
    return [_tokens(extractor, size, patch_px) for size in pass_sizes(size_hw, patch_px, stride_px)]


def _tokens(extractor: Extractor, size_hw: tuple[int, int], stride_px: int) -> int:
    patch_px = extractor.identity.patch_px
    height, width = (max(side, patch_px) for side in size_hw)
    return math.prod(grid_size((height, width), patch_px, stride_px)) + extractor.backbone.config.prefix
