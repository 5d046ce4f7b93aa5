"""Position embeddings and rotary angles (RoPE) on a grid of overlapping patches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROTARY_TEMPERATURE = 100.0
"""Base of the geometric row of rotary periods (DINOv3, arXiv 2508.10104)."""

Rotary = tuple[Tensor, Tensor]
"""Sine and cosine, each [patches, head channels]."""


def interpolate_positions(
    positions: Tensor, trained_hw: tuple[int, int], grid_hw: tuple[int, int], size_hw: tuple[int, int]
) -> Tensor:
    """Bring learnt position embeddings to a grid of overlapping patches, as the paper's code does it.

    Args:
        positions: [trained rows * trained columns, channels].
        trained_hw: rows and columns of the grid that they were trained on.
        grid_hw: rows and columns wanted.
        size_hw: height and width in pixels of the picture.

    Returns:
        [rows * cols, channels].
    """
    # The published code leaves the table alone only where the picture has the trained shape too.
    same_shape = size_hw[0] * trained_hw[1] == size_hw[1] * trained_hw[0]
    if grid_hw == trained_hw and same_shape:
        return positions
    table = positions.reshape(1, *trained_hw, -1).permute(0, 3, 1, 2)
    # A tenth of a cell is added so that rounding down can't lose the last row; it shifts the sampling
    # points, so it belongs to the result.
    scale = ((grid_hw[0] + 0.1) / trained_hw[0], (grid_hw[1] + 0.1) / trained_hw[1])
    table = F.interpolate(table, scale_factor=scale, mode="bicubic", align_corners=False, recompute_scale_factor=False)
    return table.flatten(2).transpose(1, 2)[0]


def positions_at(positions: Tensor, trained_hw: tuple[int, int], places: tuple[Tensor, Tensor]) -> Tensor:
    """Learnt position embeddings at any places of the picture, bicubically.

    Args:
        positions: [trained rows * trained columns, channels].
        trained_hw: rows and columns of the grid that they were trained on.
        places: centres of rows [rows] and columns [cols], from 0 to 1 over the picture.

    Returns:
        [rows * cols, channels].
    """
    table = positions.reshape(1, *trained_hw, -1).permute(0, 3, 1, 2)
    rows, cols = torch.meshgrid(*(2 * each.to(table.device) - 1 for each in places), indexing="ij")
    where = torch.stack((cols, rows), dim=-1)[None].to(table.dtype)
    found = F.grid_sample(table, where, mode="bicubic", padding_mode="border", align_corners=False)
    return found.flatten(2).transpose(1, 2)[0]


def rotary_angles(places: tuple[Tensor, Tensor], head_dim: int, device: torch.device) -> Rotary:
    """Sine and cosine of DINOv3's rotary embedding at the centres of patches.

    A patch's coordinate is its centre in the area that patches cover, from -1 to 1; at the native stride that is what
    the model was trained with, and below it the patches in between get coordinates in between.

    Args:
        places: centres of rows [rows] and columns [cols], from 0 to 1.
        head_dim: channels of a head.
        device: of the result.

    Returns:
        Two float32 [rows * cols, head_dim].
    """
    axes = [2 * each - 1 for each in places]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)
    periods = ROTARY_TEMPERATURE ** (4 * torch.arange(head_dim // 4, dtype=torch.float32) / head_dim)
    angles = (2 * math.pi * coordinates[:, :, None] / periods).flatten(1).repeat(1, 2).to(device)
    return angles.sin(), angles.cos()


def rotate(heads: Tensor, rotary: Rotary | None, prefix: int) -> Tensor:
    """Turn the patches' queries or keys by their rotary angles; the first `prefix` tokens have no place.

    Args:
        heads: [batch, heads, tokens, head channels].
        rotary: the angles, or None for a model without them.
        prefix: tokens before the first patch.
    """
    if rotary is None:
        return heads
    sine, cosine = rotary
    patches = heads[:, :, prefix:]
    first, second = patches.chunk(2, dim=-1)
    turned = patches * cosine + torch.cat((-second, first), dim=-1) * sine
    return torch.cat((heads[:, :, :prefix], turned.to(heads.dtype)), dim=2)
