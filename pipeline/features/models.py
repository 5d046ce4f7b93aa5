"""The registry of models: names, timm's names, normalisation, saliency heads."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from pipeline.errors import UsageError

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF: Triple = (0.5, 0.5, 0.5)

PAPER_HEADS = (0, 2, 4, 5)
"""Heads of the last block that the paper's code averages; it names them for `dino_vits8` alone."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry of the registry.

    Attributes:
        timm_name: architecture and tag of pretrained weights in timm.
        patch_px: side of a patch in pixels.
        mean: of the red, green and blue channel of the training pictures, 0..1.
        std: their standard deviations, 0..1.
        saliency_heads: heads that the saliency averages; None: all.
    """

    timm_name: str
    patch_px: int
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    saliency_heads: tuple[int, ...] | None = None


MODELS: dict[str, ModelSpec] = {
    "dino_vits8": ModelSpec("vit_small_patch8_224.dino", 8, saliency_heads=PAPER_HEADS),
    "dino_vits16": ModelSpec("vit_small_patch16_224.dino", 16),
    "dino_vitb8": ModelSpec("vit_base_patch8_224.dino", 8),
    "dino_vitb16": ModelSpec("vit_base_patch16_224.dino", 16),
    "dinov2_vits14": ModelSpec("vit_small_patch14_dinov2.lvd142m", 14),
    "dinov2_vitb14": ModelSpec("vit_base_patch14_dinov2.lvd142m", 14),
    "dinov2_vitl14": ModelSpec("vit_large_patch14_dinov2.lvd142m", 14),
    "dinov2_vits14_reg": ModelSpec("vit_small_patch14_reg4_dinov2.lvd142m", 14),
    "dinov2_vitb14_reg": ModelSpec("vit_base_patch14_reg4_dinov2.lvd142m", 14),
    "dinov2_vitl14_reg": ModelSpec("vit_large_patch14_reg4_dinov2.lvd142m", 14),
    "dinov3_vits16": ModelSpec("vit_small_patch16_dinov3.lvd1689m", 16),
    "dinov3_vitb16": ModelSpec("vit_base_patch16_dinov3.lvd1689m", 16),
    "vit_small_patch16_224": ModelSpec("vit_small_patch16_224.augreg_in21k_ft_in1k", 16, HALF, HALF),
}
"""Every model that can be asked for by name."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What a model is, for a run's record and for a codebook to be held against.

    Attributes:
        name: the registry's name, or the file's.
        fingerprint: SHA-256, in hexadecimal, over the names and bytes of all parameters.
        patch_px: side of a patch in pixels.
        heads: heads of each block's attention.
        embed_dim: channels of a token.
        depth: number of blocks.
        grid_hw: rows and columns of the trained position embedding; None for rotary angles.
        mean: of the channels of the training pictures, 0..1.
        std: their standard deviations, 0..1.
        saliency_heads: heads that the saliency averages; None: all.
        notes: what a reader of the run's record should know, one sentence each.
    """

    name: str
    fingerprint: str
    patch_px: int
    heads: int
    embed_dim: int
    depth: int
    grid_hw: tuple[int, int] | None
    mean: Triple
    std: Triple
    saliency_heads: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


def find_spec(name: str) -> ModelSpec:
    """The registry's entry of that name.

    Raises:
        UsageError: there is none; with the nearest name and all names.
    """
    if name in MODELS:
        return MODELS[name]
    nearest = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.0)[0]
    raise UsageError(
        f"there is no model named '{name}'; did you mean '{nearest}'? Give auto, one of "
        f"{', '.join(MODELS)}, or the path of a .safetensors or .pth file"
    )
