"""What ships beside the weights: the mean key of each region of a body over made-up scenes, and which kinds have it.

Parts begin at these means (`pipeline.cluster.region_prior`), where plain k-means would halve the torso.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.dice import Dice
from pipeline.training.losses import label_patches
from pipeline.training.model import SmallViT
from pipeline.training.scenes import SceneMaker
from pipeline.training.skeletons import REGION_OF, REGIONS
from pipeline.training.species import KINDS

SEED = 424_242
SPECIES, SIDE = 16, 128
"""Species of a batch of scenes, and height and width of the pictures."""
PURE = 0.7
"""Share of a patch that its commonest part must cover for the patch to count."""
FEWEST = 50
"""Patches that a region must show in for a kind to have it; thin stems hardly fill any."""
COMMON = 0.55
"""Share of a kind's species that must have a region for the kind to have it: legs of birds, not wings of insects."""


def region_table(model: SmallViT, batches: int = 24) -> dict[str, Tensor]:
    """Measure the regions on so many batches of scenes.

    Returns:
        `region_keys` [regions, dim], of length 1, or 0 where a region shows nowhere, in the order of an extractor's
        channels; `region_kinds` [kinds, regions], 1 where a kind has a region. No kind has the background.
    """
    means, seen = region_means(model, batches)
    kinds = kind_regions() & (seen >= FEWEST)
    kinds[:, 0] = False
    return {"region_keys": as_descriptors(means, model.shape.heads), "region_kinds": kinds[kinds.any(1)].float()}


@torch.no_grad()
def region_means(model: SmallViT, batches: int) -> tuple[Tensor, Tensor]:
    """Mean direction [regions, dim] of each region's keys, and the number of patches that it was seen in [regions]."""
    maker = SceneMaker(SEED, model.pos_embed.device)
    sums = torch.zeros(len(REGIONS), model.shape.dim, device=model.pos_embed.device)
    seen = torch.zeros(len(REGIONS), dtype=torch.long, device=sums.device)
    for _ in range(batches):
        scenes = maker.draw(SPECIES, (SIDE, SIDE))
        labels = label_patches(scenes, model.shape.patch, model.shape.patch)
        pure = labels.purity > PURE
        regions = labels.part.new_tensor(REGION_OF)[labels.part[pure]]
        sums.index_add_(0, regions, F.normalize(model(scenes.pictures).keys[pure], dim=-1))
        seen += torch.bincount(regions, minlength=len(REGIONS))
    return F.normalize(sums, dim=-1).cpu(), seen.cpu()


def as_descriptors(keys: Tensor, heads: int) -> Tensor:
    """Bring keys [N, dim] from the ViT's order, head by head, to that of descriptors, in which heads alternate."""
    return keys.view(len(keys), heads, -1).transpose(1, 2).flatten(1).contiguous()


def as_keys(descriptors: Tensor, heads: int) -> Tensor:
    """Undo `as_descriptors`."""
    return descriptors.view(len(descriptors), -1, heads).transpose(1, 2).flatten(1).contiguous()


def kind_regions(species: int = 128) -> Tensor:
    """Draw species of each kind and tell which regions most have, bool [kinds, regions]."""
    dice, region_of = Dice(SEED), torch.tensor(REGION_OF)
    rows = []
    for make, _ in KINDS:
        skeleton = make(dice, species)
        bones = torch.zeros(species, len(REGIONS))
        bones.scatter_add_(1, region_of[skeleton.part], (skeleton.radius > 0).float())
        rows.append((bones > 0).float().mean(0) >= COMMON)
    return torch.stack(rows)
