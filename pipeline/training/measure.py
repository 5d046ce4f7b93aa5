"""Measures taken while training: figure and parts on scenes of a seed of their own. Knows no real clips."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.losses import PatchLabels, label_patches
from pipeline.training.model import Reading, SmallViT
from pipeline.training.scenes import SceneMaker, Scenes

HELD_OUT_SEED = 987_654
SPECIES, SIDE = 24, 96


@cache
def held_out_scenes(device: torch.device) -> Scenes:
    """Draw the scenes that are measured on, from a seed of their own."""
    return SceneMaker(HELD_OUT_SEED, device).draw(SPECIES, (SIDE, SIDE))


@torch.no_grad()
def measure_scenes(model: SmallViT, half: bool = True) -> dict[str, float]:
    """Give `figure_j`, the J of saliency above half its maximum, and `match`, the share of patches whose nearest key in
    the other individual of the species is of the same part.
    """
    device = model.pos_embed.device
    scenes = held_out_scenes(device)
    with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
        reading = model(scenes.pictures)
    labels = label_patches(scenes, model.shape.patch, model.shape.patch)
    return {"figure_j": round(figure_j(reading, labels), 4), "match": round(match_share(reading, labels), 4)}


def figure_j(reading: Reading, labels: PatchLabels) -> float:
    """Mean intersection over union of salient patches and patches that are mostly figure."""
    salient = reading.attention > 0.5 * reading.attention.amax(1, keepdim=True)
    figure = labels.shares[..., 0] < 0.5
    union = (salient | figure).sum(1)
    return float(((salient & figure).sum(1) / union.clamp_min(1)).mean())


def match_share(reading: Reading, labels: PatchLabels) -> float:
    """Share of figure patches whose nearest neighbour among all keys of the partner's picture is of their part."""
    keys = F.normalize(reading.keys.float(), dim=-1)
    half = len(keys) // 2
    nearest = (keys @ keys.roll(half, 0).transpose(1, 2)).argmax(-1)
    found: Tensor = torch.gather(labels.part.roll(half, 0), 1, nearest)
    figure = labels.part > 0
    return float((found == labels.part)[figure].float().mean())
