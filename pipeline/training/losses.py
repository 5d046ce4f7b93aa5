"""What the backbone is trained for: parts in the keys, figure against ground in the CLS attention, agreement of CLS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.training.dice import Dice
from pipeline.training.model import Reading
from pipeline.training.scenes import Scenes
from pipeline.training.skeletons import PARTS, REGION_OF, REGIONS

TEMPERATURE = 0.1
POINTS_FIGURE, POINTS_GROUND = 640, 320


@dataclass(frozen=True)
class PatchLabels:
    """What each patch shows: shares of the parts [B, T, parts]; the commonest: id, share, place [B, T]."""

    shares: Tensor
    part: Tensor
    purity: Tensor
    along: Tensor


def label_patches(scenes: Scenes, patch: int, stride: int) -> PatchLabels:
    """Count the parts in each patch of the grid that the ViT sees."""
    one_hot = F.one_hot(scenes.parts, len(PARTS)).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(one_hot, patch, stride).flatten(2).transpose(1, 2)
    along = F.avg_pool2d(one_hot * scenes.skin[..., 0][:, None], patch, stride).flatten(2).transpose(1, 2)
    purity, part = shares.max(-1)
    along = torch.gather(along, 2, part[..., None])[..., 0] / purity.clamp_min(1e-6)
    return PatchLabels(shares, part, purity, along)


def saliency_loss(reading: Reading, labels: PatchLabels) -> Tensor:
    """Ask for CLS attention that is even over the figure and nil on the ground (nats above the least)."""
    figure = 1 - labels.shares[..., 0]
    total = figure.sum(1, keepdim=True)
    target = figure / total.clamp_min(1e-6)
    surprise = target * (target.clamp_min(1e-6).log() - reading.attention.clamp_min(1e-6).log())
    return (surprise.sum(1) * (total[:, 0] > 1)).mean()


def contrast_loss(keys: Tensor, labels: PatchLabels, dice: Dice) -> Tensor:
    """Draw keys [B, T, dim] of one region together over species, individuals, poses and coats, and all others apart.

    Supervised contrast, in which every region counts alike however few patches it has.
    """
    picture, patch = _pick_points(labels, dice)
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
    """Mean of values [N] in which regions count by the root of their weights [N]: few but small parts aren't lost."""
    mass = torch.zeros(len(REGIONS), device=values.device).index_add_(0, region, weight)
    share = weight * mass.clamp_min(1e-6).rsqrt()[region]
    return (share * values).sum() / share.sum().clamp_min(1e-6)


def _pick_points(labels: PatchLabels, dice: Dice) -> tuple[Tensor, Tensor]:
    """Pick pure patches, figure and ground in fixed numbers at most; gives picture and patch indices."""
    luck = torch.rand(labels.part.shape, generator=dice.generator, device=dice.device)
    chosen = []
    for figure, number in ((True, POINTS_FIGURE), (False, POINTS_GROUND)):
        fit = ((labels.part > 0) == figure) & (labels.purity > (0.5 if figure else 0.95))
        order = torch.where(fit, luck, 2.0).flatten()
        chosen.append(order.argsort()[: min(number, int(fit.sum()))])
    flat = torch.cat(chosen)
    return flat // labels.part.shape[1], flat % labels.part.shape[1]


class PartPrototypes(nn.Module):
    """One direction per region; steadies the contrast early on, and is thrown away after training."""

    def __init__(self, dim: int) -> None:
        """Build it."""
        super().__init__()
        # Of about length 1, so that the optimiser turns them within hundreds of steps.
        self.directions = nn.Parameter(torch.randn(len(REGIONS), dim) / math.sqrt(dim))

    @torch.no_grad()
    def begin_at(self, means: Tensor) -> None:
        """Start from the mean keys [regions, dim] of a network that tells regions apart; rows of 0 say nothing."""
        known = means.norm(dim=-1) > 0
        self.directions[known] = F.normalize(means[known], dim=-1)

    def forward(self, keys: Tensor, labels: PatchLabels) -> Tensor:
        """Give the cross-entropy of the regions' shares in each patch."""
        scores = F.normalize(keys.float(), dim=-1) @ F.normalize(self.directions, dim=-1).T / TEMPERATURE
        membership = F.one_hot(labels.part.new_tensor(REGION_OF), len(REGIONS)).float()
        shares = labels.shares @ membership
        surprise: Tensor = -(shares * scores.log_softmax(-1)).sum(-1)
        return balanced_mean(surprise.flatten(), shares.argmax(-1).flatten(), torch.ones_like(surprise).flatten())


class Distillation(nn.Module):
    """DINO's loss between the CLS tokens of two individuals: the student's guess against the slow teacher's.

    The teacher's answers are balanced over the batch by Sinkhorn-Knopp, which needs no running centre.
    """

    def __init__(self, dim: int, prototypes: int = 128) -> None:
        """Build the two heads."""
        super().__init__()
        self.student = nn.Sequential(nn.Linear(dim, 256), nn.GELU(), nn.Linear(256, prototypes))
        self.teacher = nn.Sequential(nn.Linear(dim, 256), nn.GELU(), nn.Linear(256, prototypes)).requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare student's and teacher's CLS [2N, dim], each individual with the other of its species."""
        with torch.no_grad():
            target = balance(self.teacher(teacher.float()) / 0.1).roll(len(teacher) // 2, 0)
        guess: Tensor = (self.student(student.float()) / 0.1).log_softmax(-1)
        return -(target * guess).sum(-1).mean()


def balance(scores: Tensor, rounds: int = 3) -> Tensor:
    """Turn scores [N, K] into shares that sum to 1 over K while every k is used alike over the batch."""
    logs = scores
    for _ in range(rounds):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs.exp()
