"""Region prior exported with the weights: mean key of each body region, and kinds that have it.

k-means for the parts starts at these means (`pipeline.cluster.region_prior`); without them it would split the torso.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.losses import label_patches
from pipeline.training.model import SmallViT
from pipeline.training.rng import Rng
from pipeline.training.scenes import SceneMaker
from pipeline.training.skeletons import REGION_OF, REGIONS
from pipeline.training.species import KINDS

SEED = 424_242
KIND_SPECIES = 128
"""Species of each kind that are looked at for its regions."""
SPECIES, SIDE = 16, 128
"""Species in a batch of scenes, and height and width of the pictures."""
PURE = 0.7
"""Minimum area share of a patch's largest part for the patch to count."""
FEWEST = 50
"""Minimum number of patches of a region; excludes thin stems, which hardly fill any."""
COMMON = 0.55
"""Minimum share of a kind's species that have a region: includes legs of birds, excludes wings of insects."""


def region_table(model: SmallViT, batches: int = 24) -> dict[str, Tensor]:
    """Measure the region prior on `batches` batches of scenes.

    Returns:
        `region_keys` [regions, dim]: unit vectors, or zeros for a region that never shows, with channels in the
        extractor's order; `region_kinds` [kinds, regions]: 1 where a kind has a region, always 0 for the background.
    """
    means, seen = region_means(model, batches)
    kinds = kind_regions() & (seen >= FEWEST)
    kinds[:, 0] = False
    return {"region_keys": as_descriptors(means, model.config.heads), "region_kinds": kinds[kinds.any(1)].float()}


@torch.no_grad()
def region_means(model: SmallViT, batches: int) -> tuple[Tensor, Tensor]:
    """Mean direction of each region's keys [regions, dim], and its number of patches [regions]."""
    maker = SceneMaker(SEED, model.pos_embed.device)
    sums = torch.zeros(len(REGIONS), model.config.dim, device=model.pos_embed.device)
    seen = torch.zeros(len(REGIONS), dtype=torch.long, device=sums.device)
    for _ in range(batches):
        scenes = maker.draw(SPECIES, (SIDE, SIDE))
        labels = label_patches(scenes, model.config.patch, model.config.patch)
        pure = labels.purity > PURE
        regions = labels.part.new_tensor(REGION_OF)[labels.part[pure]]
        sums.index_add_(0, regions, F.normalize(model(scenes.pictures).keys[pure], dim=-1))
        seen += torch.bincount(regions, minlength=len(REGIONS))
    return F.normalize(sums, dim=-1).cpu(), seen.cpu()


def as_descriptors(keys: Tensor, heads: int) -> Tensor:
    """Reorder the channels of keys [N, dim] from head-major to the descriptors' order, with heads the fast axis."""
    return keys.view(len(keys), heads, -1).transpose(1, 2).flatten(1).contiguous()


def as_keys(descriptors: Tensor, heads: int) -> Tensor:
    """Undo `as_descriptors`."""
    return descriptors.view(len(descriptors), -1, heads).transpose(1, 2).flatten(1).contiguous()


def kind_regions() -> Tensor:
    """Return which regions most species of each kind have, bool [kinds, regions]."""
    rng, region_of = Rng(SEED), torch.tensor(REGION_OF)
    rows = []
    for make, _ in KINDS:
        skeleton = make(rng, KIND_SPECIES)
        bones = torch.zeros(KIND_SPECIES, len(REGIONS))
        bones.scatter_add_(1, region_of[skeleton.part], (skeleton.radius > 0).float())
        rows.append((bones > 0).float().mean(0) >= COMMON)
    return torch.stack(rows)
