"""Masks of photographs that the network makes itself: its attention over scales and mirror images, cut by GrabCut.

The agreement of the single maps with the result says how far a mask can be trusted; training weighs by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.training.model import SmallViT

SHORT_SIDES = (96, 144)
"""Pixels; each is read plainly and mirrored."""
ROUNDS = 3
"""Of GrabCut."""
LEAST, MOST = 0.02, 0.8
"""Share of the picture that an object covers; a mask beyond is given no trust."""


@dataclass(frozen=True)
class OwnMask:
    """A mask at half the photograph's size.

    Attributes:
        cover: uint8 [rows, cols], 255 in the object.
        agreement: 0 to 1, mean IoU of the single maps' masks and the result.
        box: left, top, right, bottom of the object, from -1 to 1.
    """

    cover: NDArray[np.uint8]
    agreement: float
    box: tuple[float, float, float, float]


@torch.no_grad()
def attention_maps(model: SmallViT, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Attention at each scale, and mirrored, each [rows, cols] at half the photograph's size, of mean 1."""
    picture = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255
    height, width = rgb.shape[:2]
    patch = model.config.patch
    maps = []
    for side in SHORT_SIDES:
        scale = side / min(height, width)
        size = (round(height * scale / patch) * patch, round(width * scale / patch) * patch)
        view = F.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
        with torch.autocast(view.device.type, torch.bfloat16):
            found = model(torch.cat([view, view.flip(-1)])).attention.float()
        grid = found.view(2, 1, size[0] // patch, size[1] // patch) * found.shape[1]
        grid[1] = grid[1].flip(-1)
        maps += list(F.interpolate(grid, (height // 2, width // 2), mode="bilinear", align_corners=False)[:, 0])
    return [item.numpy() for item in maps]


def own_mask(maps: list[NDArray[np.float32]], rgb: NDArray[np.uint8]) -> OwnMask:
    """The mask that a photograph's maps and colours make."""
    small = cv2.resize(rgb, maps[0].shape[::-1], interpolation=cv2.INTER_AREA)
    guesses = [_otsu(item) for item in maps]
    mean = np.mean(maps, axis=0)
    rough = _otsu(mean)
    cut = _grabcut(small, rough, mean)
    mask = cut if _iou(cut, rough) > 0.5 else rough
    share = float(mask.mean())
    agreement = float(np.mean([_iou(guess, mask) for guess in guesses])) if LEAST < share < MOST else 0.0
    return OwnMask((255 * mask).astype(np.uint8), agreement, _box(mask))


def own_masks(model: SmallViT, photographs: Iterable[NDArray[np.uint8]]) -> list[OwnMask]:
    """The masks of all photographs."""
    return [own_mask(attention_maps(model, rgb), rgb) for rgb in photographs]


def _otsu(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    grey = np.clip(255 * values / max(float(values.max()), 1e-6), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(grey > threshold)


def _grabcut(rgb: NDArray[np.uint8], rough: NDArray[np.bool_], mean: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Cut along edges; what is far below or above the threshold stays."""
    inner, outer = mean[rough], mean[~rough]
    if not inner.size or not outer.size:
        return rough
    state = np.where(rough, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    state[mean > np.quantile(inner, 0.7)] = cv2.GC_FGD
    state[mean < np.quantile(outer, 0.3)] = cv2.GC_BGD
    if len(np.unique(state)) < 4:
        return rough
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(rgb, state, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return (-1.0, -1.0, 1.0, 1.0)
    height, width = mask.shape
    edges = (cols[0] / width, rows[0] / height, (cols[-1] + 1) / width, (rows[-1] + 1) / height)
    left, top, right, bottom = (float(2 * edge - 1) for edge in edges)
    return left, top, right, bottom
