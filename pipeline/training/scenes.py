"""Synthetic scenes with exact part labels, on which the bundled backbone is trained.

Each species is drawn as two individuals that differ in build, pose, coat, light and background, so that training can
match equal parts of different appearance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.training.backgrounds import blur, draw_backgrounds, draw_occluders, layer_cover, paint_layer, paint_layers
from pipeline.training.bodies import Limbs, draw_bodies, fit_into_picture, pixel_places, random_pose
from pipeline.training.rng import Rng
from pipeline.training.shading import cast_shadow, draw_coat, draw_light, paint_bodies
from pipeline.training.skeletons import Skeleton
from pipeline.training.species import draw_species
from pipeline.training.textures import texture_bank

BANK_TILES = 384


@dataclass(frozen=True)
class Scenes:
    """2N pictures; picture i and picture N + i show individuals of one species.

    pictures [2N, 3, H, W] float in [0, 1]; parts [2N, H, W] int64 ids of `skeletons.PARTS`, 0 background.
    """

    pictures: Tensor
    parts: Tensor


class SceneMaker:
    """Draws batches of scenes; the seed decides the texture bank and `rng`, which may be replaced."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        """Draw the texture bank."""
        self.rng = Rng(seed, device)
        self.bank = texture_bank(self.rng, BANK_TILES)

    def draw(self, species: int, size_hw: tuple[int, int], ease: float = 0.0) -> Scenes:
        """Draw two individuals of each species; `ease` 1 gives clear pictures, 0 the hardest."""
        skeleton = draw_species(self.rng, species)
        twice = skeleton.take(torch.arange(2 * species, device=self.rng.device) % species)
        return draw_scenes(self.rng, self.bank, twice, size_hw, ease)


def draw_scenes(rng: Rng, bank: Tensor, skeleton: Skeleton, size_hw: tuple[int, int], ease: float) -> Scenes:
    """Draw each body in a scene of its own."""
    count, aspect = len(skeleton), size_hw[1] / size_hw[0]
    limbs = _place(rng, random_pose(rng, _vary(rng, skeleton)), aspect)
    surface = draw_bodies(skeleton, limbs, size_hw)
    ground = _lowest(limbs, skeleton)
    light = draw_light(rng, count)
    places = pixel_places(size_hw, rng.device).expand(count, -1, -1, -1)
    horizon = ground - rng.uniform(0.0, 1.2, count)
    back = paint_layers(draw_backgrounds(rng, count, len(bank), aspect, horizon), places, bank)
    back = back * (1 - cast_shadow(surface.cover, light, ground))[:, None]
    back = blur(back, rng.uniform(0, 2.2, count) * rng.chance(0.3 + 0.5 * ease, count))
    figure = paint_bodies(surface, draw_coat(rng, count, len(bank)), light, bank)
    picture = torch.lerp(back, figure, surface.cover[:, None])
    occluders = draw_occluders(rng, count, len(bank), aspect, 0.25 * (1 - ease))
    parts = surface.part
    for rank in range(len(occluders)):
        cover = layer_cover(occluders, rank, places)
        picture = torch.lerp(picture, paint_layer(occluders, rank, places, bank), cover[:, None])
        parts = torch.where(cover > 0.5, 0, parts)
    return Scenes(expose(rng, picture, ease), parts)


def _vary(rng: Rng, skeleton: Skeleton) -> Skeleton:
    """Vary the lengths of individuals' bones."""
    return replace(skeleton, length=skeleton.length * (1 + rng.normal(0.08, *skeleton.length.shape)).clamp(0.7, 1.3))


def _place(rng: Rng, limbs: Limbs, aspect: float) -> Limbs:
    count = len(limbs.radius)
    fill = torch.where(rng.chance(0.15, count), rng.uniform(0.9, 1.4, count), rng.uniform(0.42, 0.95, count))
    centre = rng.normal(0.22, count, 2) * torch.tensor([aspect, 1.0], device=rng.device)
    squeeze = rng.uniform(0.55, 1.15, count).clamp_max(1)
    return fit_into_picture(limbs, fill, centre.clamp(-0.6, 0.6), rng.chance(0.5, count), squeeze, aspect)


def _lowest(limbs: Limbs, skeleton: Skeleton) -> Tensor:
    alive = skeleton.radius > 0
    return torch.where(alive, torch.maximum(limbs.start[..., 1], limbs.end[..., 1]) + limbs.tip, -torch.inf).amax(1)


def expose(rng: Rng, picture: Tensor, ease: float) -> Tensor:
    """Camera augmentation: focus, exposure, white balance, saturation, contrast, noise."""
    count = len(picture)
    u = rng.uniform
    picture = blur(picture, u(0, 1.1, count) * rng.chance(0.5, count))
    gamma, gain = (
        2 ** u(-0.5, 0.5, count, 1, 1, 1),
        u(0.7, 1.25, count, 1, 1, 1) * (1 + rng.normal(0.05, count, 3, 1, 1)),
    )
    picture = (picture.clamp_min(1e-4) ** gamma) * gain
    grey = picture.mean(1, keepdim=True)
    picture = torch.lerp(grey, picture, torch.where(rng.chance(0.07, count, 1, 1, 1), 0.0, u(0.5, 1.2, count, 1, 1, 1)))
    middle = picture.mean((1, 2, 3), keepdim=True)
    picture = torch.lerp(middle, picture, u(0.7, 1.2, count, 1, 1, 1))
    noise = rng.normal(1.0, *picture.shape) * u(0, 0.035, count, 1, 1, 1) * (1 - 0.5 * ease)
    return (picture + noise).clamp(0, 1)
