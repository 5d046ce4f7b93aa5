"""How many floating-point operations a pass through a ViT takes, counted from its shape.

A product and its sum are two operations. Counted are the matrix products, of which attention is two; norms,
activations and softmax are some thousandths of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.features.extractor import Extractor
from pipeline.features.interleaved_grid import pass_sizes
from pipeline.features.vit import Tap, ViTConfig
from pipeline.geometry import grid_size


def pass_flops(
    config: ViTConfig, size_hw: tuple[int, int], stride_px: int, taps: Sequence[Tap], *, saliency: bool, heads: int
) -> int:
    """Operations of one picture's pass that ends behind the last block that is read.

    Args:
        config: the ViT's shape.
        size_hw: height and width of the picture.
        stride_px: distance of neighbouring patches.
        taps: what is read.
        saliency: whether the class token's attention in the last block is read too.
        heads: heads that the saliency averages.

    Raises:
        InputError: the picture is smaller than a patch.
    """
    rows, cols = grid_size(size_hw, config.patch_px, stride_px)
    tokens, width = rows * cols + config.prefix, config.embed_dim
    last = config.depth - 1 if saliency else -1
    stop = max([tap.layer for tap in taps] + [last], default=-1)
    total = 2 * rows * cols * 3 * config.patch_px**2 * width
    for layer in range(stop + 1):
        facets = {tap.facet for tap in taps if tap.layer == layer}
        if layer < stop or "token" in facets:
            total += _block_flops(config, tokens)
        else:
            projected = facets | ({"key"} if layer == last else set())
            total += 2 * tokens * width * width * len(projected)
            if layer == last and "query" not in facets:
                total += 2 * width * width
        if layer == last:
            total += 2 * tokens * config.head_dim * heads
    return total


def vote_flops(extractor: Extractor, source_hw: tuple[int, int], *, attends: bool) -> int:
    """Operations of the descriptors and, where it is of attention, the saliency of one frame that the fit samples.

    The size is that of the source's frame. Saliency of motion costs none of these operations.
    """
    height, width = extractor.settings.processed_size(source_hw)
    if not (attends and extractor.half_size):
        return describe_flops(extractor, (height, width), saliency=attends)
    config, heads = extractor.backbone.config, _heads(extractor)
    half = pass_flops(config, (height // 2, width // 2), config.patch_px, [], saliency=True, heads=heads)
    return describe_flops(extractor, (height, width)) + half


def describe_flops(extractor: Extractor, size_hw: tuple[int, int], *, saliency: bool = False) -> int:
    """Operations of the descriptors of one frame of that processed size, and of its saliency in the same passes."""
    config, stride = extractor.backbone.config, extractor.settings.stride
    sizes = [size_hw]
    if extractor.settings.grid == "interleaved":
        sizes = pass_sizes(size_hw, config.patch_px, stride)
        stride = config.patch_px
    heads = _heads(extractor)
    return sum(pass_flops(config, size, stride, [extractor.tap], saliency=saliency, heads=heads) for size in sizes)


def _heads(extractor: Extractor) -> int:
    return extractor.backbone.config.heads if extractor.heads is None else len(extractor.heads)


def _block_flops(config: ViTConfig, tokens: int) -> int:
    """Queries, keys and values; both products of the attention; its projection; the MLP."""
    width = config.embed_dim
    return 2 * tokens * (4 * width * width + 2 * width * config.mlp_dim) + 4 * tokens * tokens * width
