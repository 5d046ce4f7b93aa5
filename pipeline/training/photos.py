"""Photographs for training: views of them with known places, and their objects pasted on other photographs.

A folder holds one folder of pictures a kind; its name is the kind. The pictures have no masks: `own_masks` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.training.own_masks import OwnMask
from pipeline.training.rng import Rng
from pipeline.training.scenes import expose

PASTED = 0.5
"""Share of the second views that show the object before another photograph."""
SURE = 0.6
"""Minimum agreement of an object's mask for it to be pasted: a bad cut would teach the shape of the cut."""
GROUND_TRIES = 4
"""Crops of photographs that a background is chosen from: the one with the least of its own object."""


@dataclass(frozen=True)
class Views:
    """One view of each of N photographs.

    pictures [N, 3, H, W] in [0, 1]; figure [N, H, W], cover of the object by its own mask; sure [N], the masks'
    agreement; windows [N, 2, 2], half sizes (x and y, negative where mirrored) and centre in the photograph, whose
    sides are at -1 and 1; own [N, H, W], 1 where the photograph itself is seen, 0 where another's ground is.
    """

    pictures: Tensor
    figure: Tensor
    sure: Tensor
    windows: Tensor
    own: Tensor


class Photographs:
    """All pictures of a folder in memory, with their kinds and, once made, their masks."""

    def __init__(self, folder: Path) -> None:
        """Read every picture."""
        self.files = sorted(folder.glob("*/*.jpg"))
        if not self.files:
            raise ValueError(f"no pictures in '{folder}'; expected one folder of .jpg files a kind")
        names = sorted({file.parent.name for file in self.files})
        self.kinds = len(names)
        self.kind = torch.tensor([names.index(file.parent.name) for file in self.files])
        self.pixels = [_read(file) for file in self.files]
        self.masks: list[OwnMask] = []
        self.turn = -1
        """Round of training that the masks are of."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.files)

    def draw(self, rng: Rng, count: int, size_hw: tuple[int, int]) -> tuple[Tensor, Views, Views]:
        """Two views of each of `count` photographs; the second ones partly pasted on other photographs.

        Returns:
            Kinds [count], first views, second views.
        """
        which = rng.integers(0, len(self), count)
        views = [self._views(rng, which, size_hw, pasted) for pasted in (0.0, PASTED)]
        return self.kind[which], views[0], views[1]

    def grounds(self, rng: Rng, count: int, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Crops of photographs that show little of their object: pictures [count, 3, H, W], its cover [count, H, W]."""
        found = [self._ground(rng, size_hw) for _ in range(count)]
        return torch.stack([picture for picture, _ in found]), torch.stack([cover for _, cover in found])

    def _views(self, rng: Rng, which: Tensor, size_hw: tuple[int, int], pasted: float) -> Views:
        rows = [self._view(rng, int(number), size_hw, float(rng.uniform(0, 1)) < pasted) for number in which]
        pictures, figure, sure, windows, own = (torch.stack(column) for column in zip(*rows, strict=True))
        return Views(expose(rng, pictures, 0.3), figure, sure, windows, own)

    def _view(self, rng: Rng, number: int, size_hw: tuple[int, int], pasted: bool) -> tuple[Tensor, ...]:
        mask, photo_hw = self.masks[number], self.pixels[number].shape[:2]
        sure = torch.tensor(mask.agreement)
        if pasted and mask.agreement >= SURE:
            window = _around_object(rng, mask, photo_hw, size_hw)
            picture, cover = self._sample(number, window, size_hw)
            cover = cover * (seen_places(window, size_hw).abs().amax(-1) < 1)
            ground, other = self._ground(rng, size_hw)
            return torch.lerp(ground, picture, cover), cover + other * (1 - cover), sure, window, cover
        window = _crop(rng, photo_hw, size_hw)
        picture, cover = self._sample(number, window, size_hw)
        return picture, cover, sure, window, torch.ones_like(cover)

    def _ground(self, rng: Rng, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        numbers = [int(number) for number in rng.integers(0, len(self), GROUND_TRIES)]
        crops = [_crop(rng, self.pixels[number].shape[:2], size_hw, 0.12, 0.6) for number in numbers]
        places = [seen_places(crop, (12, 12)) for crop in crops]
        least = int(np.argmin([float(self._cover(*pair).mean()) for pair in zip(numbers, places, strict=True)]))
        return self._sample(numbers[least], crops[least], size_hw)

    def _sample(self, number: int, window: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        places = seen_places(window, size_hw)
        pixels = torch.from_numpy(self.pixels[number].copy()).permute(2, 0, 1)[None].float() / 255
        picture = F.grid_sample(pixels, places[None], padding_mode="reflection", align_corners=False)[0]
        return picture, self._cover(number, places)

    def _cover(self, number: int, places: Tensor) -> Tensor:
        mask = torch.from_numpy(self.masks[number].cover)[None, None].float() / 255
        cover: Tensor = F.grid_sample(mask, places[None], padding_mode="reflection", align_corners=False)[0, 0]
        return cover


def _read(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def _crop(
    rng: Rng, photo_hw: tuple[int, ...], size_hw: tuple[int, int], least: float = 0.25, most: float = 1.0
) -> Tensor:
    """Window [2, 2] of a view that shows a random part of the photograph, which may reach a little beyond its edge.

    `least` and `most` bound the share of the photograph's area; the window's shape is the view's.
    """
    height, width = photo_hw[:2]
    aspect = size_hw[1] / size_hw[0] * float(2 ** rng.uniform(-0.25, 0.25))
    area = height * width * float(rng.uniform(least, most))
    tall = min((area / aspect) ** 0.5, 1.05 * height, 1.05 * width / aspect)
    half = torch.tensor([tall * aspect / width, tall / height])
    room = (1.05 - half).clamp_min(0)
    return _window(rng, half, (2 * rng.uniform(0, 1, 2) - 1) * room)


def _around_object(rng: Rng, mask: OwnMask, photo_hw: tuple[int, ...], size_hw: tuple[int, int]) -> Tensor:
    """Window of a view in which the object has a random size and lies anywhere."""
    left, top, right, bottom = mask.box
    size = max((right - left) / 2 * photo_hw[1] / size_hw[1], (bottom - top) / 2 * photo_hw[0] / size_hw[0])
    scale = size / float(rng.uniform(0.3, 0.9))
    half = torch.tensor([scale * size_hw[1] / photo_hw[1], scale * size_hw[0] / photo_hw[0]])
    centre = torch.tensor([(left + right) / 2, (top + bottom) / 2])
    extent = torch.tensor([(right - left) / 2, (bottom - top) / 2])
    room = (half - 0.8 * extent).clamp_min(0)
    return _window(rng, half, centre + (2 * rng.uniform(0, 1, 2) - 1) * room)


def _window(rng: Rng, half: Tensor, centre: Tensor) -> Tensor:
    """A window [2, 2], mirrored half of the time."""
    mirror = torch.tensor([1.0 if bool(rng.chance(0.5, 1)) else -1.0, 1.0])
    return torch.stack((half * mirror, centre))


def seen_places(window: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Where in their photographs a view's cells lie: windows [..., 2, 2] to x and y [..., rows, cols, 2]."""
    axes = [(2 * torch.arange(count) + 1) / count - 1 for count in size_hw]
    rows, cols = torch.meshgrid(*axes, indexing="ij")
    half, centre = window[..., None, None, 0, :], window[..., None, None, 1, :]
    return torch.stack((cols, rows), -1) * half + centre
