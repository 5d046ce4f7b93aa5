"""Procedural textures and palettes: spectral noise, stripes, spots, Worley cells, dead leaves.

Natural spectra, occlusion edges and variety are what transfers from synthetic pictures to real ones (Baradad et al.,
"Learning to see by looking at noise"; "Procedural image programs").
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.rng import Rng

TILE = 128
MARGIN = 3
"""Pixels around a tile that repeat its opposite side."""


def texture_bank(rng: Rng, count: int) -> Tensor:
    """Draw grey tiles [count, 2, side, side] in [0, 1] of all kinds, each sharp and smoothed."""
    makers = (spectral_noise, spectral_noise, stripes, spots, cells, dead_leaves)
    shares = [count // len(makers) + (rank < count % len(makers)) for rank in range(len(makers))]
    tiles = torch.cat([make(rng, share) for make, share in zip(makers, shares, strict=True) if share])
    middle = tiles.mean((1, 2), keepdim=True)
    spread = tiles.std((1, 2), keepdim=True).clamp_min(1e-4)
    tiles = ((tiles - middle) / spread * 0.27 + 0.5).clamp(0, 1)
    return pack_tiles(tiles[torch.randperm(count, generator=rng.generator, device=rng.device)])


def pack_tiles(tiles: Tensor) -> Tensor:
    """Make a bank of seamless tiles [count, TILE, TILE]: each with its margin, sharp and smoothed."""
    wide = F.pad(tiles[:, None], (MARGIN + 2,) * 4, mode="circular")
    return torch.cat([wide[..., 2:-2, 2:-2], F.avg_pool2d(wide, 5, 1)], 1)


def spectral_noise(rng: Rng, count: int, slope_low: float = 0.7, slope_high: float = 2.2) -> Tensor:
    """Draw Gaussian noise [count, TILE, TILE] of power-law spectrum with a random slope and random anisotropy."""
    along = torch.fft.fftfreq(TILE, device=rng.device)
    across = along[:, None]
    turn, stretch = rng.uniform(0, math.pi, count, 1, 1), 2 ** rng.uniform(-2.2, 2.2, count, 1, 1)
    x = along * turn.cos() + across * turn.sin()
    y = (across * turn.cos() - along * turn.sin()) * stretch
    radius = (x * x + y * y).sqrt().clamp_min(1 / TILE)
    white = torch.fft.fft2(rng.normal(1.0, count, TILE, TILE))
    noise: Tensor = torch.fft.ifft2(white * radius ** -rng.uniform(slope_low, slope_high, count, 1, 1)).real
    return noise


def stripes(rng: Rng, count: int) -> Tensor:
    """Draw wavy stripes [count, TILE, TILE]."""
    bend = spectral_noise(rng, count, 1.5, 2.5)
    bend = bend / bend.std((1, 2), keepdim=True)
    place = torch.arange(TILE, device=rng.device) / TILE * 2 * math.pi
    waves = rng.integers(2, 12, count, 2, 1, 1).float() * rng.chance(0.7, count, 2, 1, 1)
    phase = waves[:, 0] * place + waves[:, 1] * place[:, None] + bend * rng.uniform(0.3, 2.0, count, 1, 1)
    return (phase.sin() * rng.uniform(1, 5, count, 1, 1)).tanh()


def spots(rng: Rng, count: int) -> Tensor:
    """Draw blotches [count, TILE, TILE]: smoothed noise with a soft threshold."""
    noise = spectral_noise(rng, count, 0.9, 1.6)
    noise = F.avg_pool2d(F.pad(noise[:, None], (3, 3, 3, 3), mode="circular"), 7, 1)[:, 0]
    noise = noise / noise.std((1, 2), keepdim=True)
    return ((noise - rng.uniform(-0.3, 1.2, count, 1, 1)) * rng.uniform(2, 8, count, 1, 1)).tanh()


def cells(rng: Rng, count: int) -> Tensor:
    """Draw scales, pebbles or cracks [count, TILE, TILE]: Worley noise, distances to the nearest random points."""
    points = rng.uniform(0, 1, 2, count, 48, 1, 1)
    place = torch.arange(TILE, device=rng.device) / TILE
    x, y = (place - points[0] + 0.5) % 1 - 0.5, (place[:, None] - points[1] + 0.5) % 1 - 0.5
    nearest = (x * x + y * y).topk(2, dim=1, largest=False).values.sqrt()
    crack = rng.chance(0.5, count, 1, 1)
    return torch.where(crack, (nearest[:, 1] - nearest[:, 0]).clamp_max(0.05) * 3, -nearest[:, 0])


def dead_leaves(rng: Rng, count: int) -> Tensor:
    """Draw the dead leaves model [count, TILE, TILE]: discs of power-law sizes that occlude each other."""
    picture = rng.uniform(0, 1, count, 1, 1).expand(count, TILE, TILE)
    place = torch.arange(TILE, device=rng.device) / TILE
    for _ in range(70):
        at, size = rng.uniform(0, 1, 2, count, 1, 1), 0.03 / rng.uniform(0.12, 1, count, 1, 1)
        x, y = (place - at[0] + 0.5) % 1 - 0.5, (place[:, None] - at[1] + 0.5) % 1 - 0.5
        picture = torch.where(x * x + y * y < size * size, rng.uniform(0, 1, count, 1, 1), picture)
    return picture


def sample_texture(bank: Tensor, tile: Tensor, places: Tensor) -> Tensor:
    """Sample tiles bilinearly at points [B, H, W, 2], one unit a repetition, wrapped; returns [B, H, W].

    Where points lie more than 1.5 texels apart the smoothed tiles are sampled, against aliasing.
    """
    step = (places[:, -1, -1] - places[:, 0, 0]).abs().amax(-1) * TILE / max(places.shape[1:3])
    tiles = bank[tile, (step > 1.5).long()][:, None]
    wrapped = ((places % 1) * TILE + MARGIN) / (TILE + 2 * MARGIN) * 2 - 1
    return F.grid_sample(tiles, wrapped, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]


def draw_palettes(rng: Rng, count: int, colours: int) -> Tensor:
    """Draw random RGB palettes [count, colours, 3] in [0, 1]: mostly muted natural colours, some of any hue."""
    hue = rng.uniform(0, 1, count, 1) + rng.normal(0.06, count, colours)
    earthy = rng.chance(0.6, count, 1)
    hue = torch.where(earthy, 0.04 + 0.3 * (hue % 1), hue)
    saturation = (rng.uniform(0, 1, count, 1) ** 2 + rng.normal(0.1, count, colours)).clamp(0, 0.9)
    saturation = torch.where(rng.chance(0.25, count, 1), saturation * 0.15, saturation)
    value = (rng.uniform(0.05, 0.95, count, 1) + rng.normal(0.18, count, colours)).clamp(0.02, 1)
    offsets = torch.tensor([0.0, 2 / 3, 1 / 3], device=rng.device)
    wheel = (((hue[..., None] + offsets) % 1 * 6 - 3).abs() - 1).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * (1 - wheel))


def mix_palette(palette: Tensor, amount: Tensor) -> Tensor:
    """Interpolate palettes [B, 3, 3] by amounts [B, H, W] in [0, 1] to colours [B, 3, H, W]."""
    low = (amount * 2).clamp(0, 1)[:, None]
    high = (amount * 2 - 1).clamp(0, 1)[:, None]
    first, second, third = (palette[:, rank, :, None, None] for rank in range(3))
    return torch.lerp(torch.lerp(first, second, low), third, high)
