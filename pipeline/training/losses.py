"""Losses: supervised contrast and prototypes on keys, figure-ground on CLS attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.training.model import ViTOutput
from pipeline.training.rng import Rng
from pipeline.training.scenes import Scenes
from pipeline.training.skeletons import PARTS, REGION_OF, REGIONS

TEMPERATURE = 0.1
POINTS_FIGURE, POINTS_GROUND = 640, 320


@dataclass(frozen=True)
class PatchLabels:
    """Labels of T patches a picture: area shares of all parts [B, T, parts]; id and share of the largest [B, T]."""

    shares: Tensor
    part: Tensor
    purity: Tensor


def label_patches(scenes: Scenes, patch: int, stride: int) -> PatchLabels:
    """Pool part maps to the ViT's patches."""
    one_hot = F.one_hot(scenes.parts, len(PARTS)).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(one_hot, patch, stride).flatten(2).transpose(1, 2)
    purity, part = shares.max(-1)
    return PatchLabels(shares, part, purity)


def saliency_loss(output: ViTOutput, labels: PatchLabels) -> Tensor:
    """KL divergence, in nats, of the CLS attention from a uniform distribution over the figure's patches."""
    figure = 1 - labels.shares[..., 0]
    return (attention_divergence(output.attention, figure) * (figure.sum(1) > 1)).mean()


def attention_divergence(attention: Tensor, figure: Tensor) -> Tensor:
    """KL divergence [B], in nats, of attentions [B, T] from an even spread over figures of given cover [B, T]."""
    target = figure / figure.sum(1, keepdim=True).clamp_min(1e-6)
    surprise = target * (target.clamp_min(1e-6).log() - attention.clamp_min(1e-6).log())
    return surprise.sum(1)


def contrast_loss(keys: Tensor, labels: PatchLabels, rng: Rng) -> Tensor:
    """Supervised contrastive loss: keys [B, T, dim] of one region attract over all pictures, all others repel.

    Regions are weighted by `balanced_mean`, so that small ones count too.
    """
    picture, patch = _pick_points(labels, rng)
    points = F.normalize(keys[picture, patch].float(), dim=-1)
    region = labels.part.new_tensor(REGION_OF)[labels.part[picture, patch]]
    scores = points @ points.T / TEMPERATURE
    scores.fill_diagonal_(-1e4)
    same = (region[:, None] == region).float()
    same.fill_diagonal_(0)
    total = same.sum(1)
    each = -(same * (scores - scores.logsumexp(1, keepdim=True))).sum(1) / total.clamp_min(1)
    return balanced_mean(each, region, (total > 0).float())


def balanced_mean(values: Tensor, region: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of values [N]; a region counts by the square root of its total weight, so small ones matter."""
    mass = torch.zeros(len(REGIONS), device=values.device).index_add_(0, region, weight)
    share = weight * mass.clamp_min(1e-6).rsqrt()[region]
    return (share * values).sum() / share.sum().clamp_min(1e-6)


def _pick_points(labels: PatchLabels, rng: Rng) -> tuple[Tensor, Tensor]:
    """Sample patches that show mostly one part, up to fixed numbers of figure and ground; picture and patch indices."""
    luck = torch.rand(labels.part.shape, generator=rng.generator, device=rng.device)
    chosen = []
    for figure, number in ((True, POINTS_FIGURE), (False, POINTS_GROUND)):
        fit = ((labels.part > 0) == figure) & (labels.purity > (0.5 if figure else 0.95))
        order = torch.where(fit, luck, 2.0).flatten()
        chosen.append(order.argsort()[: min(number, int(fit.sum()))])
    flat = torch.cat(chosen)
    return flat // labels.part.shape[1], flat % labels.part.shape[1]


class PartPrototypes(nn.Module):
    """Classifier of regions with one prototype each; stabilises early training and isn't exported."""

    def __init__(self, dim: int) -> None:
        """Build it."""
        super().__init__()
        # Of norm about 1, so that the optimiser rotates them within hundreds of steps.
        self.directions = nn.Parameter(torch.randn(len(REGIONS), dim) / math.sqrt(dim))

    @torch.no_grad()
    def begin_at(self, means: Tensor) -> None:
        """Start from a trained network's mean keys [regions, dim]; rows of zeros are skipped."""
        known = means.norm(dim=-1) > 0
        self.directions[known] = F.normalize(means[known], dim=-1)

    def forward(self, keys: Tensor, labels: PatchLabels) -> Tensor:
        """Return the cross-entropy between the regions' area shares in each patch and the predicted ones."""
        scores = F.normalize(keys.float(), dim=-1) @ F.normalize(self.directions, dim=-1).T / TEMPERATURE
        membership = F.one_hot(labels.part.new_tensor(REGION_OF), len(REGIONS)).float()
        shares = labels.shares @ membership
        surprise: Tensor = -(shares * scores.log_softmax(-1)).sum(-1)
        return balanced_mean(surprise.flatten(), shares.argmax(-1).flatten(), torch.ones_like(surprise).flatten())


def balance(scores: Tensor, rounds: int = 3) -> Tensor:
    """Sinkhorn-Knopp: turn scores [N, K] into probabilities over K whose sums over the batch are equal for all k."""
    logs = scores
    for _ in range(rounds):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs.exp()
