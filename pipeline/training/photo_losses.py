"""Losses on photographs: self-distillation of keys between views, attention and keys told by own masks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.training.losses import TEMPERATURE, attention_divergence, balance
from pipeline.training.model import ViTOutput
from pipeline.training.photos import Photographs, Views, seen_places
from pipeline.training.rng import Rng
from pipeline.training.scenes import Scenes

PHOTO_WEIGHTS = {"photo_saliency": 1.0, "figure": 1.0, "places": 0.3, "kinds": 1.0}
KEY_PROTOTYPES = 192
SHARP = 0.05
"""Temperature of the teacher's assignments of keys."""
OWN = 0.6
"""Minimum cover of the photograph itself in a patch that is compared with the other view."""
GROUNDS = 0.5
"""Share of the scenes whose background is a photograph."""


class PhotoTerms(nn.Module):
    """The losses, with their prototypes; nothing of it is exported."""

    def __init__(self, dim: int, kinds: int) -> None:
        """Build the heads."""
        super().__init__()
        self.keys = nn.Parameter(torch.randn(KEY_PROTOTYPES, dim) / math.sqrt(dim))
        self.kinds = nn.Linear(dim, kinds)

    def forward(
        self, student: ViTOutput, teacher: ViTOutput, first: Views, second: Views, kinds: Tensor, regions: Tensor
    ) -> dict[str, Tensor]:
        """Losses by name, given both networks' outputs of all first views and then all second ones.

        Args:
            student: of 2N views.
            teacher: of the same.
            first: N views.
            second: N views of the same photographs.
            kinds: [N].
            regions: directions [regions, dim] of the scenes' regions, of which the first is the background.
        """
        patch = round(math.sqrt(first.pictures[0, 0].numel() / student.keys.shape[1]))
        figure = torch.cat([F.avg_pool2d(views.figure[:, None], patch).flatten(1) for views in (first, second)])
        trust = ((torch.cat([first.sure, second.sure]) - 0.4) / 0.4).clamp(0, 1)
        return {
            "photo_saliency": _attention_loss(student.attention, figure, trust),
            "figure": _figure_loss(student.keys, figure, trust, regions),
            "places": self._places_loss(student.keys, teacher.keys, first, second, patch),
            "kinds": F.cross_entropy(self.kinds(student.cls), torch.cat([kinds, kinds])),
        }

    def _places_loss(self, student: Tensor, teacher: Tensor, first: Views, second: Views, patch: int) -> Tensor:
        """Keys of one place in two views belong to one prototype (SwAV, for each patch)."""
        count, (height, width) = len(first.pictures), first.pictures.shape[2:]
        grid = (height // patch, width // patch)
        directions = F.normalize(self.keys, dim=-1)
        with torch.no_grad():
            scores = F.normalize(teacher.float(), dim=-1) @ directions.T / SHARP
            targets = balance(scores.flatten(0, 1)).view(*scores.shape)
        guesses = (F.normalize(student.float(), dim=-1) @ directions.T / TEMPERATURE).log_softmax(-1)
        total = guesses.new_zeros(())
        pairs = ((first, second, guesses[:count], targets[count:]), (second, first, guesses[count:], targets[:count]))
        for here, there, guess, target in pairs:
            places, inside = _same_places(here, there, grid, patch)
            maps = target.transpose(1, 2).reshape(count, -1, *grid)
            found = F.grid_sample(maps, places, align_corners=False).flatten(2).transpose(1, 2)
            surprise = -(found * guess).sum(-1)
            total = total + (surprise * inside).sum() / inside.sum().clamp_min(1) / 2
        return total


def with_grounds(scenes: Scenes, photographs: Photographs, rng: Rng) -> Scenes:
    """Scenes, some of them before photographs."""
    count, _, height, width = scenes.pictures.shape
    chosen = rng.chance(GROUNDS, count).nonzero()[:, 0]
    if not len(chosen):
        return scenes
    grounds, _ = photographs.grounds(rng, len(chosen), (height, width))
    cover = F.avg_pool2d((scenes.parts[chosen] > 0).float()[:, None], 3, 1, 1, count_include_pad=False)
    pictures = scenes.pictures.clone()
    pictures[chosen] = torch.lerp(grounds, pictures[chosen], cover)
    return Scenes(pictures, scenes.parts)


def _same_places(here: Views, there: Views, grid: tuple[int, int], patch: int) -> tuple[Tensor, Tensor]:
    """Where the patches of one view lie in the other [N, rows, cols, 2], and which are seen in both [N, patches]."""
    places = seen_places(here.windows, grid)
    half, centre = there.windows[:, None, None, 0], there.windows[:, None, None, 1]
    places = (places - centre) / half
    own = F.avg_pool2d(here.own[:, None], patch).flatten(1) > OWN
    own_there = F.grid_sample(there.own[:, None], places, align_corners=False).flatten(1) > OWN
    return places, (own & own_there & (places.abs().amax(-1) < 1).flatten(1)).float()


def _attention_loss(attention: Tensor, figure: Tensor, trust: Tensor) -> Tensor:
    """Divergence of the attention [N, T] from the figure [N, T], weighted by trust [N]."""
    weight = trust * (figure.sum(1) > 2)
    return (attention_divergence(attention, figure) * weight).sum() / weight.sum().clamp_min(1)


def _figure_loss(keys: Tensor, figure: Tensor, trust: Tensor, regions: Tensor) -> Tensor:
    """Keys of the figure belong to any region but the background, the others to it; both count alike."""
    scores = F.normalize(keys.float(), dim=-1) @ F.normalize(regions, dim=-1).T / TEMPERATURE
    logs = scores.log_softmax(-1)
    ground, any_region = logs[..., 0], logs[..., 1:].logsumexp(-1)
    inside, outside = figure * trust[:, None], (1 - figure) * trust[:, None]
    return (
        -(
            (any_region * inside).sum() / inside.sum().clamp_min(1)
            + (ground * outside).sum() / outside.sum().clamp_min(1)
        )
        / 2
    )
