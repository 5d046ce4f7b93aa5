"""Shading of bodies: texture, countershading, light from the height map, cast shadows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.bodies import Surface, pixel_places
from pipeline.training.rng import Rng
from pipeline.training.skeletons import PARTS
from pipeline.training.textures import draw_palettes, mix_palette, sample_texture


@dataclass(frozen=True)
class Coat:
    """Colours of N bodies.

    tile [N, 2], scale [N, 2], offset [N, 2, 2] and contrast [N, 2] of two textures; palette [N, 3, 3]; tint of each
    part [N, parts, 3]; belly [N]: how much lighter the underside is (countershading).
    """

    tile: Tensor
    scale: Tensor
    offset: Tensor
    palette: Tensor
    tint: Tensor
    contrast: Tensor
    belly: Tensor


@dataclass(frozen=True)
class Light:
    """Light of N scenes: direction towards it [N, 3], ambient share [N], specular gloss [N], shadow darkness [N]."""

    direction: Tensor
    ambient: Tensor
    gloss: Tensor
    shadow: Tensor


def draw_coat(rng: Rng, count: int, tiles: int) -> Coat:
    """Draw random coats: plain or patterned fur, scales, paint."""
    patchy = rng.chance(0.5, count, 1, 1)
    tint = 1 + rng.normal(0.35, count, len(PARTS), 1) * patchy + rng.normal(0.1, count, len(PARTS), 3) * patchy
    return Coat(
        tile=rng.integers(0, tiles, count, 2),
        scale=torch.stack([rng.uniform(0.4, 1.6, count), rng.uniform(1.0, 3.0, count)], 1),
        offset=rng.uniform(0, 1, count, 2, 2),
        palette=draw_palettes(rng, count, 3),
        tint=tint.clamp(0.3, 1.8),
        contrast=rng.uniform(0, 1, count, 2),
        belly=rng.uniform(-0.4, 0.8, count),
    )


def draw_light(rng: Rng, count: int) -> Light:
    """Draw random lights: mostly from above, from any side, hard or soft."""
    aim = torch.stack([rng.uniform(-1, 1, count), -rng.uniform(0.1, 1.2, count), rng.uniform(0.3, 1.3, count)], -1)
    return Light(
        F.normalize(aim, dim=-1),
        rng.uniform(0.25, 1.15, count).clamp_max(1),
        rng.uniform(0, 0.4, count) ** 2,
        rng.uniform(0, 0.7, count),
    )


def paint_bodies(surface: Surface, coat: Coat, light: Light, bank: Tensor) -> Tensor:
    """Return the textured and lit bodies [N, 3, H, W]."""
    amounts = []
    for layer in range(2):
        places = surface.rest * coat.scale[:, layer, None, None, None] + coat.offset[:, layer, None, None]
        value = sample_texture(bank, coat.tile[:, layer], places)
        amounts.append((value - 0.5) * coat.contrast[:, layer, None, None])
    below = surface.rest[..., 1].clamp(-0.5, 0.5)
    amount = (0.5 + amounts[0] * 1.4 + below * coat.belly[:, None, None]).clamp(0, 1)
    colour = mix_palette(coat.palette, amount) * (1 + 0.7 * amounts[1])[:, None]
    tint = torch.gather(coat.tint, 1, surface.part.flatten(1)[..., None].expand(-1, -1, 3))
    colour = colour * tint.view(*surface.part.shape, 3).permute(0, 3, 1, 2)
    shade, shine = _shade(surface.height + 0.006 * amounts[1], light)
    return (colour * shade[:, None] + shine[:, None]).clamp(0, 1)


def _shade(height: Tensor, light: Light) -> tuple[Tensor, Tensor]:
    """Return diffuse and specular light [N, H, W] on a height map in picture units."""
    pixel = 2 / height.shape[1]
    padded = F.pad(height[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    slope_x = ((padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / (2 * pixel)).clamp(-3, 3)
    slope_y = ((padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / (2 * pixel)).clamp(-3, 3)
    normal = F.normalize(torch.stack([-slope_x, -slope_y, torch.ones_like(height)], -1), dim=-1)
    facing = (normal * light.direction[:, None, None]).sum(-1).clamp_min(0)
    ambient = light.ambient[:, None, None] * (0.75 + 0.25 * normal[..., 2])
    return ambient + (1.15 - light.ambient[:, None, None]) * facing, light.gloss[:, None, None] * facing**24


def cast_shadow(cover: Tensor, light: Light, ground: Tensor) -> Tensor:
    """Project each body's alpha onto the ground line [N] as a soft shadow; returns its darkness [N, H, W]."""
    rows, columns = cover.shape[1:]
    places = pixel_places((rows, columns), cover.device).expand(len(cover), -1, -1, -1)
    squash, lean = 0.3, -0.8 * light.direction[:, 0, None, None]
    rise = (ground[:, None, None] - places[..., 1]) / squash
    source = torch.stack([(places[..., 0] - lean * rise) * rows / columns, ground[:, None, None] - rise], -1)
    soft = F.avg_pool2d(cover[:, None], 5, 1, 2)
    laid = F.grid_sample(soft, source, padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(laid, 5, 1, 2)[:, 0] * light.shadow[:, None, None]
