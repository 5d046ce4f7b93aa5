"""Gives the last block's keys axes in which parts are easy to tell apart, without changing what the ViT computes.

Attention reads keys only through products with queries: a map of the keys is undone by the inverse map of the queries,
and a shift of all keys adds the same to all scores of a row, which softmax ignores. So both are free, and clustering,
which reads the keys themselves, can have those that suit it: a linear discriminant analysis of each head's keys over
made-up scenes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from pipeline.training.losses import label_patches
from pipeline.training.model import Block, SmallViT
from pipeline.training.scenes import SceneMaker
from pipeline.training.skeletons import REGION_OF, REGIONS

SEED = 424_242
PURE = 0.7
FLOOR = 0.05
"""Length that an axis keeps along which parts don't differ; above 0, or the map couldn't be undone."""
SHRINKAGE = 0.02
"""Share of the mean variance that is added to all axes before they are divided by theirs."""


@torch.no_grad()
def shape_keys(model: SmallViT, batches: int = 12, species: int = 16, side: int = 128) -> SmallViT:
    """Give a copy of the ViT with the same CLS attention and output, and keys shaped for clustering."""
    keys, parts = _labelled_keys(model, batches, species, side)
    weight = _balanced_weights(parts)
    shaped = copy.deepcopy(model)
    last = shaped.blocks[-1]
    assert isinstance(last, Block)
    dim, heads = model.shape.dim, model.shape.heads
    size = dim // heads
    matrix, bias = last.attn.qkv.weight.data, last.attn.qkv.bias.data
    for head in range(heads):
        own = keys[:, head * size : (head + 1) * size]
        centre, axes = discriminant_axes(own, parts, weight)
        query, key = slice(head * size, (head + 1) * size), slice(dim + head * size, dim + (head + 1) * size)
        inverse = torch.linalg.inv(axes).T
        matrix[query], bias[query] = inverse @ matrix[query], inverse @ bias[query]
        matrix[key], bias[key] = axes @ matrix[key], axes @ (bias[key] - centre)
    return shaped


def discriminant_axes(keys: Tensor, parts: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Find the centre [C] and the map [C, C] of keys [N, C] after which spread within parts is even.

    An axis is as long as parts differ along it: from `FLOOR`, where they don't, to 1. Weights [N] sum to 1.
    """
    centre = weight @ keys
    mass = torch.zeros(len(REGIONS), device=keys.device).index_add_(0, parts, weight).clamp_min(1e-12)
    means = torch.zeros(len(REGIONS), keys.shape[1], device=keys.device)
    means = means.index_add_(0, parts, keys * weight[:, None]) / mass[:, None]
    inner = keys - means[parts]
    within = inner.T @ (inner * weight[:, None])
    within += SHRINKAGE * within.diagonal().mean() * torch.eye(len(within), device=keys.device)
    values, vectors = torch.linalg.eigh(within)
    whiten = (vectors * values.rsqrt()) @ vectors.T
    offset = (means - centre) @ whiten
    between, turn = torch.linalg.eigh(offset.T @ (offset * mass[:, None]))
    length = FLOOR + (1 - FLOOR) * (between.clamp_min(0) / (between.clamp_min(0) + 1)).sqrt()
    return centre, length[:, None] * turn.T @ whiten


def _labelled_keys(model: SmallViT, batches: int, species: int, side: int) -> tuple[Tensor, Tensor]:
    maker = SceneMaker(SEED, model.pos_embed.device)
    keys, regions = [], []
    for _ in range(batches):
        scenes = maker.draw(species, (side, side))
        labels = label_patches(scenes, model.shape.patch, model.shape.patch)
        pure = labels.purity > PURE
        keys.append(model(scenes.pictures).keys[pure])
        regions.append(labels.part.new_tensor(REGION_OF)[labels.part[pure]])
    return torch.cat(keys), torch.cat(regions)


def _balanced_weights(parts: Tensor) -> Tensor:
    """Weigh figure and ground alike, and the parts of the figure by the root of their number."""
    count = torch.bincount(parts, minlength=len(REGIONS)).float().clamp_min(1)
    share = count.sqrt()
    share[0] = share[1:].sum()
    weight = (share / count)[parts]
    return weight / weight.sum()
