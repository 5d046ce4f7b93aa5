"""Validation during training: saliency IoU and nearest-key accuracy on held-out scenes."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.losses import PatchLabels, label_patches
from pipeline.training.model import SmallViT, ViTOutput
from pipeline.training.scenes import SceneMaker, Scenes

HELD_OUT_SEED = 987_654
SPECIES, SIDE = 24, 96


@cache
def held_out_scenes(device: torch.device) -> Scenes:
    """Draw the validation scenes; training never uses their seed."""
    return SceneMaker(HELD_OUT_SEED, device).draw(SPECIES, (SIDE, SIDE))


@torch.no_grad()
def validate(model: SmallViT, half: bool = True) -> dict[str, float]:
    """Return `figure_j`, see `figure_j`, and `match`, see `match_share`."""
    device = model.pos_embed.device
    scenes = held_out_scenes(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        output = model(scenes.pictures)
    labels = label_patches(scenes, model.config.patch, model.config.patch)
    return {"figure_j": round(figure_j(output, labels), 4), "match": round(match_share(output, labels), 4)}


def figure_j(output: ViTOutput, labels: PatchLabels) -> float:
    """Mean IoU of salient patches (attention above half its maximum) and patches that are mostly figure."""
    salient = output.attention > 0.5 * output.attention.amax(1, keepdim=True)
    figure = labels.shares[..., 0] < 0.5
    union = (salient | figure).sum(1)
    return float(((salient & figure).sum(1) / union.clamp_min(1)).mean())


def match_share(output: ViTOutput, labels: PatchLabels) -> float:
    """Share of figure patches whose nearest key in the picture of the other individual belongs to the same part."""
    keys = F.normalize(output.keys.float(), dim=-1)
    half = len(keys) // 2
    nearest = (keys @ keys.roll(half, 0).transpose(1, 2)).argmax(-1)
    found: Tensor = torch.gather(labels.part.roll(half, 0), 1, nearest)
    figure = labels.part > 0
    return float((found == labels.part)[figure].float().mean())
