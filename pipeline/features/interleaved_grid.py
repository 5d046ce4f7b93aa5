"""A dense grid of descriptors from several shifted passes at the patch's own stride, interleaved.

Each pass sees the picture shifted by a multiple of the stride, and as many tokens as the ViT was trained on; their
grids interleave to the dense one. With s passes along each side attention costs s^2 times less. The paper's own
computation lets all overlapping patches attend to each other: keys are near those, not equal to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from pipeline.features.vit import Backbone, BackboneOutput, RunBlocks, Tap
from pipeline.geometry import grid_size


def run_interleaved(
    backbone: Backbone,
    pixels: Tensor,
    stride_px: int,
    taps: Sequence[Tap],
    *,
    saliency: bool = False,
    saliency_heads: Sequence[int] | None = None,
    run_blocks: RunBlocks | None = None,
) -> BackboneOutput:
    """As a call of the backbone; the class token is the mean of the passes' ones.

    Raises:
        InputError: the picture is smaller than a patch.
        UsageError: a layer, stride or head doesn't exist.
    """
    backbone.check(taps, stride_px, saliency_heads)
    patch_px = backbone.config.patch_px
    rows, cols = grid_size((pixels.shape[2], pixels.shape[3]), patch_px, stride_px)
    shifts = shifts_px((pixels.shape[2], pixels.shape[3]), patch_px, stride_px)
    passes = [
        backbone(
            pixels[:, :, down:, right:],
            patch_px,
            taps,
            saliency=saliency,
            saliency_heads=saliency_heads,
            run_blocks=run_blocks,
        )
        for down, right in shifts
    ]
    starts = [(down // stride_px, right // stride_px) for down, right in shifts]
    grid = _Grid(rows, cols, patch_px // stride_px, starts)
    facets = {tap: grid.tokens([found.facets.pop(tap) for found in passes]) for tap in dict.fromkeys(taps)}
    maps = [found.saliency for found in passes if found.saliency is not None]
    return BackboneOutput(facets, grid.woven(maps) if maps else None, (rows, cols))


def shifts_px(size_hw: tuple[int, int], patch_px: int, stride_px: int) -> list[tuple[int, int]]:
    """By how many pixels down and right each pass sees the picture shifted.

    >>> shifts_px((32, 32), patch_px=8, stride_px=4)
    [(0, 0), (0, 4), (4, 0), (4, 4)]
    """
    # In a picture that is hardly larger than a patch some shifts leave no whole one.
    rows, cols = (min(side, patch_px // stride_px) for side in grid_size(size_hw, patch_px, stride_px))
    return [(row * stride_px, col * stride_px) for row, col in product(range(rows), range(cols))]


def pass_sizes(size_hw: tuple[int, int], patch_px: int, stride_px: int) -> list[tuple[int, int]]:
    """Height and width of the picture that each pass sees."""
    return [(size_hw[0] - down, size_hw[1] - right) for down, right in shifts_px(size_hw, patch_px, stride_px)]


@dataclass(frozen=True, slots=True)
class _Grid:
    """A dense grid, and where in it the grids of the passes lie."""

    rows: int
    cols: int
    step: int
    shifts: list[tuple[int, int]]

    def tokens(self, passes: list[Tensor]) -> Tensor:
        """Tokens [batch, 1 + n, channels] of each pass as those of the dense grid."""
        batch, _, channels = passes[0].shape
        patches = [
            tokens[:, 1:].reshape(batch, -1, len(range(right, self.cols, self.step)), channels)
            for (_, right), tokens in zip(self.shifts, passes, strict=True)
        ]
        classes = torch.stack([tokens[:, :1] for tokens in passes]).mean(dim=0)
        return torch.cat([classes, self.woven(patches).flatten(1, 2)], dim=1)

    def woven(self, passes: list[Tensor]) -> Tensor:
        """Grids [batch, rows, cols, ...] of each pass as the dense one."""
        first = passes[0]
        whole = first.new_empty((first.shape[0], self.rows, self.cols, *first.shape[3:]))
        for (down, right), grid in zip(self.shifts, passes, strict=True):
            whole[:, down :: self.step, right :: self.step] = grid
        return whole
