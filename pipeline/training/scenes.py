"""Batches of made-up scenes with exact parts: what the bundled backbone is trained on.

Two individuals of each species are drawn, of other build in pose, coat, light and place, so that the same part of
both is known to belong together whatever it looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training.bodies import Limbs, Surface, draw_bodies, fit_into_picture, pixel_places, random_pose
from pipeline.training.dice import Dice
from pipeline.training.grounds import blur, draw_grounds, draw_occluders, layer_cover, paint_grounds, paint_layer
from pipeline.training.shading import cast_shadow, draw_coat, draw_light, paint_bodies
from pipeline.training.skeletons import Skeleton
from pipeline.training.species import draw_species
from pipeline.training.textures import texture_bank

BANK_TILES = 384


@dataclass(frozen=True)
class Scenes:
    """2N pictures; picture i and picture N + i show individuals of one species.

    pictures [2N, 3, H, W] float in [0, 1]; parts [2N, H, W] int64 ids of `skeletons.PARTS`, 0 background; bones
    [2N, H, W] int64; skin [2N, H, W, 2]: along the bone (0..1) and across it (-1..1), valid where parts > 0.
    """

    pictures: Tensor
    parts: Tensor
    bones: Tensor
    skin: Tensor


class SceneMaker:
    """Draws batches of scenes; the seed gives the bank of textures and the dice, which may be replaced."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        """Draw the bank of textures."""
        self.dice = Dice(seed, device)
        self.bank = texture_bank(self.dice, BANK_TILES)

    def draw(self, species: int, size_hw: tuple[int, int], ease: float = 0.0) -> Scenes:
        """Draw two individuals of each of so many species; ease 1 gives clear pictures, 0 the hardest."""
        skeleton = draw_species(self.dice, species)
        twice = skeleton.take(torch.arange(2 * species, device=self.dice.device) % species)
        return draw_scenes(self.dice, self.bank, twice, size_hw, ease)


def draw_scenes(dice: Dice, bank: Tensor, skeleton: Skeleton, size_hw: tuple[int, int], ease: float) -> Scenes:
    """Draw each body once, in a scene of its own."""
    count, aspect = len(skeleton), size_hw[1] / size_hw[0]
    limbs = _place(dice, random_pose(dice, _vary(dice, skeleton)), aspect)
    surface = draw_bodies(skeleton, limbs, size_hw)
    ground = _lowest(limbs, skeleton)
    light = draw_light(dice, count)
    places = pixel_places(size_hw, dice.device).expand(count, -1, -1, -1)
    horizon = ground - dice.uniform(0.0, 1.2, count)
    back = paint_grounds(draw_grounds(dice, count, len(bank), aspect, horizon), places, bank)
    back = back * (1 - cast_shadow(surface.cover, light, ground))[:, None]
    back = blur(back, dice.uniform(0, 2.2, count) * dice.chance(0.3 + 0.5 * ease, count))
    figure = paint_bodies(surface, draw_coat(dice, count, len(bank)), light, bank)
    picture = torch.lerp(back, figure, surface.cover[:, None])
    occluders = draw_occluders(dice, count, len(bank), aspect, 0.25 * (1 - ease))
    parts = surface.part
    for rank in range(len(occluders)):
        cover = layer_cover(occluders, rank, places)
        picture = torch.lerp(picture, paint_layer(occluders, rank, places, bank), cover[:, None])
        parts = torch.where(cover > 0.5, 0, parts)
    return Scenes(_expose(dice, picture, ease), parts, surface.bone, surface.skin)


def _vary(dice: Dice, skeleton: Skeleton) -> Skeleton:
    """Change the build of individuals a little; the drawing needs the species' own radii only for proportion."""
    fields = dict(vars(skeleton))
    fields["length"] = skeleton.length * (1 + dice.normal(0.08, *skeleton.length.shape)).clamp(0.7, 1.3)
    return Skeleton(**fields)


def _place(dice: Dice, limbs: Limbs, aspect: float) -> Limbs:
    count = len(limbs.radius)
    fill = torch.where(dice.chance(0.15, count), dice.uniform(0.9, 1.4, count), dice.uniform(0.42, 0.95, count))
    centre = dice.normal(0.22, count, 2) * torch.tensor([aspect, 1.0], device=dice.device)
    squeeze = dice.uniform(0.55, 1.15, count).clamp_max(1)
    return fit_into_picture(limbs, fill, centre.clamp(-0.6, 0.6), dice.chance(0.5, count), squeeze, aspect)


def _lowest(limbs: Limbs, skeleton: Skeleton) -> Tensor:
    alive = skeleton.radius > 0
    return torch.where(alive, torch.maximum(limbs.start[..., 1], limbs.end[..., 1]) + limbs.tip, -torch.inf).amax(1)


def _expose(dice: Dice, picture: Tensor, ease: float) -> Tensor:
    """Do to the picture what a camera does: focus, exposure, white balance, contrast, noise."""
    count = len(picture)
    u = dice.uniform
    picture = blur(picture, u(0, 1.1, count) * dice.chance(0.5, count))
    gamma, gain = (
        2 ** u(-0.5, 0.5, count, 1, 1, 1),
        u(0.7, 1.25, count, 1, 1, 1) * (1 + dice.normal(0.05, count, 3, 1, 1)),
    )
    picture = (picture.clamp_min(1e-4) ** gamma) * gain
    grey = picture.mean(1, keepdim=True)
    picture = torch.lerp(
        grey, picture, torch.where(dice.chance(0.07, count, 1, 1, 1), 0.0, u(0.5, 1.2, count, 1, 1, 1))
    )
    middle = picture.mean((1, 2, 3), keepdim=True)
    picture = torch.lerp(middle, picture, u(0.7, 1.2, count, 1, 1, 1))
    noise = dice.normal(1.0, *picture.shape) * u(0, 0.035, count, 1, 1, 1) * (1 - 0.5 * ease)
    return (picture + noise).clamp(0, 1)


__all__ = ["SceneMaker", "Scenes", "Surface", "draw_scenes"]
