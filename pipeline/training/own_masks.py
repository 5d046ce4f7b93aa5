"""Masks of photographs that the network makes itself, from its attention and from what a kind's pictures share.

Attention over scales and mirror images gives a first mask of each picture. These masks are regressed on the keys of all
pictures of a kind: its object is the same in all of them, their grounds are not, so that chance errors of single masks
go. The agreement of the single maps with the result says how far a mask can be trusted; training weighs by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.training.model import SmallViT

SHORT_SIDES = (96, 144)
"""Pixels; each is read plainly and mirrored."""
RIDGE = 0.01
"""Penalty of the regression, a share of the mean squared length of a key."""
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


@dataclass(frozen=True)
class Seen:
    """What the network makes of a photograph.

    Attributes:
        attention: at each scale, and mirrored, each [rows, cols] at half the photograph's size, of mean 1.
        keys: unit keys at the larger scale, mean of both views, [grid rows, grid cols, channels].
    """

    attention: list[NDArray[np.float32]]
    keys: NDArray[np.float32]


@torch.no_grad()
def see(model: SmallViT, rgb: NDArray[np.uint8]) -> Seen:
    """Look at a photograph at each scale, plainly and mirrored."""
    picture = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255
    height, width = rgb.shape[:2]
    patch = model.config.patch
    maps = []
    for side in SHORT_SIDES:
        scale = side / min(height, width)
        size = (round(height * scale / patch) * patch, round(width * scale / patch) * patch)
        view = F.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
        with torch.autocast(view.device.type, torch.bfloat16):
            output = model(torch.cat([view, view.flip(-1)]))
        grid = output.attention.float().view(2, 1, size[0] // patch, size[1] // patch)
        grid = grid * grid[0].numel()
        grid[1] = grid[1].flip(-1)
        maps += list(F.interpolate(grid, (height // 2, width // 2), mode="bilinear", align_corners=False)[:, 0])
    plain, mirrored = output.keys.float().view(2, *grid.shape[2:], -1)
    keys = F.normalize(plain + mirrored.flip(1), dim=-1)
    return Seen([item.numpy() for item in maps], keys.numpy())


def in_common(seen: Sequence[Seen]) -> list[NDArray[np.float32]]:
    """Regress first masks on the keys of all pictures of a kind: the object's cover, at half each picture's size."""
    rough = [_otsu(np.mean(item.attention, axis=0)).astype(np.float32) for item in seen]
    grids = [item.keys.shape[:2] for item in seen]
    covers = [
        cv2.resize(mask, grid[::-1], interpolation=cv2.INTER_AREA) for mask, grid in zip(rough, grids, strict=True)
    ]
    keys = np.vstack([item.keys.reshape(-1, item.keys.shape[-1]) for item in seen])
    keys = np.hstack([keys, np.ones((len(keys), 1), np.float32)])
    normal = keys.T @ keys + RIDGE * len(keys) * np.eye(keys.shape[1], dtype=np.float32)
    fitted = keys @ np.linalg.solve(normal, keys.T @ np.concatenate([cover.ravel() for cover in covers]))
    parts = np.split(fitted, np.cumsum([cover.size for cover in covers])[:-1])
    return [
        np.clip(cv2.resize(part.reshape(grid), mask.shape[::-1]), 0, 1)
        for part, grid, mask in zip(parts, grids, rough, strict=True)
    ]


def own_mask(attention: Sequence[NDArray[np.float32]], cover: NDArray[np.float32]) -> OwnMask:
    """The mask that the cover of a photograph's object, as its kind tells it, makes by Otsu's threshold."""
    mask = _otsu(cover)
    agreement = float(np.mean([_iou(_otsu(item), mask) for item in attention]))
    trusted = LEAST < float(mask.mean()) < MOST
    return OwnMask((255 * mask).astype(np.uint8), agreement if trusted else 0.0, _box(mask))


def own_masks(model: SmallViT, photographs: Iterable[NDArray[np.uint8]], kinds: Sequence[int]) -> list[OwnMask]:
    """The masks of all photographs, of which those of one kind are next to each other."""
    masks: list[OwnMask] = []
    for _, group in itertools.groupby(zip(kinds, photographs, strict=True), key=lambda pair: pair[0]):
        seen = [see(model, rgb) for _, rgb in group]
        masks += [own_mask(item.attention, cover) for item, cover in zip(seen, in_common(seen), strict=True)]
    return masks


def _otsu(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    grey = np.clip(255 * values / max(float(values.max()), 1e-6), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(grey > threshold)


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
