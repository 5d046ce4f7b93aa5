"""Backgrounds and occluders of synthetic scenes: layers of textured shapes; Gaussian blur."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.rng import Rng
from pipeline.training.textures import draw_palettes, mix_palette, sample_texture

BACK_LAYERS = 9


@dataclass(frozen=True)
class Layers:
    """Textured shapes of N scenes with L layers each, back to front.

    form [N, L]: 0 the whole picture, 1 the half-plane below a line, 2 an ellipse, 3 a box. Its centre [N, L, 2], half
    sides [N, L, 2] and edge softness [N, L] are in picture units, its turn [N, L] in radians. Each layer has two
    textures: tile [N, L, 2], scale [N, L, 2], offset [N, L, 2, 2], contrast [N, L, 2]; both are stretched by
    stretch [N, L] vertically and coloured by palette [N, L, 3, 3].
    """

    form: Tensor
    centre: Tensor
    half: Tensor
    turn: Tensor
    softness: Tensor
    tile: Tensor
    scale: Tensor
    offset: Tensor
    stretch: Tensor
    palette: Tensor
    contrast: Tensor

    def __len__(self) -> int:
        """Return the number of layers."""
        return self.form.shape[1]


def draw_backgrounds(rng: Rng, count: int, tiles: int, aspect: float, horizon: Tensor) -> Layers:
    """Draw random backgrounds: sky or wall, often a ground below the horizon [N], and shapes of power-law sizes."""
    layers = BACK_LAYERS
    u = rng.uniform
    form = rng.integers(2, 4, count, layers)
    form[:, 0] = 0
    form[:, 1] = torch.where(rng.chance(0.8, count), 1, form[:, 1])
    centre = torch.stack([u(-1.2, 1.2, count, layers) * aspect, u(-1.1, 1.1, count, layers)], -1)
    centre[:, 1, 1] = torch.where(form[:, 1] == 1, horizon, centre[:, 1, 1])
    size = 0.12 / u(0.1, 1, count, layers, 1)
    half = (size * 2 ** rng.normal(0.9, count, layers, 2)).clamp(0.02, 2)
    turn = rng.normal(0.15, count, layers)
    turn = torch.where(rng.chance(0.4, count, layers), u(0, 3.14, count, layers), turn)
    turn[:, 1] = torch.where(form[:, 1] == 1, turn[:, 1] * 0.2, turn[:, 1])
    mood = draw_palettes(rng, count, 2).mean(1)[:, None, None]
    palette = torch.lerp(
        draw_palettes(rng, count * layers, 3).view(count, layers, 3, 3), mood, u(0.0, 0.7, count, 1, 1, 1)
    )
    stretch = 2 ** rng.normal(1.0, count, layers)
    stretch[:, 1] = torch.where(form[:, 1] == 1, u(1.5, 5, count), stretch[:, 1])
    return Layers(
        form, centre, half, turn, u(0.005, 0.08, count, layers) * rng.chance(0.6, count, layers),
        rng.integers(0, tiles, count, layers, 2),
        torch.stack([u(0.2, 1.0, count, layers), u(0.6, 3.0, count, layers)], -1),
        u(0, 1, count, layers, 2, 2), stretch, palette, u(0.2, 1, count, layers, 2),
    )  # fmt: skip


def draw_occluders(rng: Rng, count: int, tiles: int, aspect: float, share: float) -> Layers:
    """Draw random posts, twigs and leaves that occlude the bodies in a share of the scenes (size -1 in others)."""
    layers = draw_backgrounds(rng, count, tiles, aspect, torch.zeros(count, device=rng.device))
    kept = {name: value[:, -3:] for name, value in vars(layers).items()}
    slim = torch.stack([rng.uniform(0.02, 0.1, count, 3), rng.uniform(0.2, 1.5, count, 3)], -1)
    present = rng.chance(share, count, 1, 1) & rng.chance(0.6, count, 3, 1)
    kept["half"] = torch.where(present, slim, -1.0)
    kept["turn"] = rng.normal(0.25, count, 3)
    return Layers(**kept)


def layer_cover(layers: Layers, rank: int, places: Tensor) -> Tensor:
    """Return a layer's alpha in [0, 1] at points [N, H, W, 2]; [N, H, W]."""
    x = places[..., 0] - layers.centre[:, rank, 0, None, None]
    y = places[..., 1] - layers.centre[:, rank, 1, None, None]
    cos, sin = layers.turn[:, rank].cos()[:, None, None], layers.turn[:, rank].sin()[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    half_x, half_y = layers.half[:, rank, 0, None, None], layers.half[:, rank, 1, None, None]
    least = torch.minimum(half_x, half_y)
    ellipse = least * (1 - ((along / half_x) ** 2 + (across / half_y) ** 2).sqrt())
    box = torch.minimum(half_x - along.abs(), half_y - across.abs())
    form = layers.form[:, rank, None, None]
    inward = torch.where(form == 0, 1.0, torch.where(form == 1, across, torch.where(form == 2, ellipse, box)))
    soft = layers.softness[:, rank, None, None] + 2 / places.shape[1]
    return (inward / soft + 0.5).clamp(0, 1) * ((half_x > 0) | (form < 2))


def paint_layer(layers: Layers, rank: int, places: Tensor, bank: Tensor) -> Tensor:
    """Return a layer's colours at points [N, H, W, 2]; [N, 3, H, W]."""
    squeeze = torch.stack([torch.ones_like(layers.stretch[:, rank]), layers.stretch[:, rank]], -1)[:, None, None]
    values = []
    for which in range(2):
        spots = (
            places * squeeze * layers.scale[:, rank, which, None, None, None]
            + layers.offset[:, rank, which, None, None]
        )
        values.append(
            (sample_texture(bank, layers.tile[:, rank, which], spots) - 0.5)
            * layers.contrast[:, rank, which, None, None]
        )
    colour = mix_palette(layers.palette[:, rank], (0.5 + values[0]).clamp(0, 1))
    return (colour * (1 + 0.8 * values[1])[:, None]).clamp(0, 1)


def paint_layers(layers: Layers, places: Tensor, bank: Tensor) -> Tensor:
    """Alpha-blend all layers at points [N, H, W, 2]; [N, 3, H, W]."""
    picture = paint_layer(layers, 0, places, bank)
    for rank in range(1, len(layers)):
        cover = layer_cover(layers, rank, places)[:, None]
        picture = torch.lerp(picture, paint_layer(layers, rank, places, bank), cover)
    return picture


def blur(picture: Tensor, deviation: Tensor) -> Tensor:
    """Blur pictures [N, C, H, W] with Gaussians of standard deviations [N] in pixels (up to about 2.5)."""
    count, channels = picture.shape[:2]
    offsets = torch.arange(-4, 5, device=picture.device)
    kernel = torch.exp(-(offsets**2) / (2 * deviation[:, None].clamp_min(0.05) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = F.pad(picture.reshape(1, count * channels, *picture.shape[2:]), (4, 4, 4, 4), mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None], groups=count * channels)
    return F.conv2d(flat, kernel[:, None, :, None], groups=count * channels).view_as(picture)
