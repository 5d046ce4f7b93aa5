"""A dense grid of descriptors from several shifted passes at the patch's own stride, interleaved.

Each pass sees the picture shifted by a multiple of the stride, and as many tokens as the ViT was trained on; their
grids interleave to the dense one. With s passes along each side attention costs s^2 times less. The paper's own
computation lets all overlapping patches attend to each other: keys are near those, not equal to them.

The passes see one picture: a patch has the position embedding of its place in the picture, and their saliency is
stretched together. What a pass's descriptors gather from the pass's own patches drifts away from the others' from layer
to layer; it changes slowly over the picture, so each pass's local means are brought to those of all. Each of these
would show as a checkerboard.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.features.vit import Backbone, BackboneOutput, Reading, RunBlocks, View, stretch
from pipeline.geometry import grid_size

LOCAL_CELLS = 5
"""Side of the square of a pass's own patches whose mean descriptor is compared with the other passes'."""


def run_interleaved(
    backbone: Backbone, pixels: Tensor, stride_px: int, reading: Reading, run_blocks: RunBlocks | None = None
) -> BackboneOutput:
    """As a call of the backbone; the class token is the mean of the passes' ones.

    Raises:
        InputError: the picture is smaller than a patch.
        UsageError: a layer, stride or head doesn't exist.
    """
    backbone.check(reading, stride_px)
    patch_px = backbone.config.patch_px
    rows, cols = grid_size((pixels.shape[2], pixels.shape[3]), patch_px, stride_px)
    shifts = shifts_px((pixels.shape[2], pixels.shape[3]), patch_px, stride_px)
    if len(shifts) == 1:
        whole: BackboneOutput = backbone(pixels, patch_px, reading, run_blocks)
        return whole
    covered = ((rows - 1) * stride_px + patch_px, (cols - 1) * stride_px + patch_px)
    parts = [(pixels[:, :, down:, right:], View((down, right), covered)) for down, right in shifts]
    passes = backbone.passes(parts, patch_px, reading, run_blocks)
    starts = [(down // stride_px, right // stride_px) for down, right in shifts]
    grid = _Grid(rows, cols, patch_px // stride_px, starts)
    facets = {tap: grid.tokens([found.facets.pop(tap) for found in passes]) for tap in reading.taps}
    # A row sums to one over its own patches, of which a shifted pass has fewer.
    maps = [found.saliency * found.saliency[0].numel() for found in passes if found.saliency is not None]
    stretched = stretch(grid.woven(maps).flatten(1)).reshape(-1, rows, cols) if maps else None
    return BackboneOutput(facets, stretched, (rows, cols))


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
        return torch.cat([classes, agreed(self.woven(patches), self.step).flatten(1, 2)], dim=1)

    def woven(self, passes: list[Tensor]) -> Tensor:
        """Grids [batch, rows, cols, ...] of each pass as the dense one."""
        first = passes[0]
        whole = first.new_empty((first.shape[0], self.rows, self.cols, *first.shape[3:]))
        for (down, right), grid in zip(self.shifts, passes, strict=True):
            whole[:, down :: self.step, right :: self.step] = grid
        return whole


def agreed(grid: Tensor, step: int) -> Tensor:
    """A woven grid whose passes have equal local means.

    Args:
        grid: [batch, rows, cols, channels], woven of `step` passes along each side.
        step: distance of neighbours of one pass.

    Returns:
        The same shape.
    """
    channels_first = grid.permute(0, 3, 1, 2)
    wanted = _local_means(channels_first, LOCAL_CELLS * step // 2 * 2 + 1)
    found = channels_first.clone()
    for down, right in product(range(step), range(step)):
        own = channels_first[:, :, down::step, right::step]
        if own.numel():
            found[:, :, down::step, right::step] += wanted[:, :, down::step, right::step] - _local_means(
                own, LOCAL_CELLS
            )
    return found.permute(0, 2, 3, 1)


def _local_means(maps: Tensor, side: int) -> Tensor:
    """Means of [batch, channels, rows, cols] over squares, of what of them lies inside."""
    for kernel in ((side, 1), (1, side)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        maps = F.avg_pool2d(maps, kernel, 1, padding, count_include_pad=False)
    return maps
