"""The paper's method without optimisations: the baseline for speed and labels.

    python -m benchmarks.paper CLIP -o LABELS.npy --model FILE --config FILE --frames N

One frame at a time, all blocks, full attention matrices, a second pass for saliency, all descriptors in memory.
Weights, decoding and settings are the program's. Only for ViTs with the architecture of DINO's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks import densecrf
from pipeline.config import Settings, load_settings, with_values
from pipeline.features.vit import Backbone, Block
from pipeline.features.weights import Model, resolve_model
from pipeline.media.inputs import resolve_inputs

Floats = NDArray[np.float32]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PaperViT:
    """A ViT as the paper's code runs it."""

    model: Model

    @property
    def backbone(self) -> Backbone:
        """Modules with the weights."""
        return self.model.backbone

    def run(self, picture: Rgb, stride: int, layer: int) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Keys [n, channels] of block `layer`, the last block's CLS attention [heads, n], and the grid's size."""
        config, keys = self.backbone.config, torch.empty(0)
        x, grid_hw = self._embed(picture, stride)
        for number, block in enumerate(self.backbone.blocks):
            assert isinstance(block, Block)
            qkv = _linear(block.attn.qkv, block.norm1(x)).reshape(len(x), 3, config.heads, -1).permute(1, 2, 0, 3)
            query, key, value = qkv
            attention = (query @ key.transpose(-2, -1) * config.head_dim**-0.5).softmax(dim=-1)
            x = x + _linear(block.attn.proj, (attention @ value).transpose(0, 1).flatten(1))
            x = x + block.mlp(block.norm2(x))
            if number == layer:
                keys = key.permute(1, 2, 0).flatten(1)
        return keys[1:], attention[:, 0, 1:], grid_hw

    def _embed(self, picture: Rgb, stride: int) -> tuple[Tensor, tuple[int, int]]:
        mean, std = torch.tensor(self.model.identity.mean), torch.tensor(self.model.identity.std)
        pixels = ((torch.from_numpy(picture) / 255 - mean) / std).permute(2, 0, 1)[None]
        projection = self.backbone.patch_embed["proj"]
        assert isinstance(projection, torch.nn.Conv2d)
        patches = F.conv2d(pixels, projection.weight, projection.bias, stride=stride)
        grid_hw = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)[0] + self._positions(grid_hw, picture.shape[:2])
        return torch.cat([self.backbone.cls_token[0], tokens]), grid_hw

    def _positions(self, grid_hw: tuple[int, int], size_hw: tuple[int, ...]) -> Tensor:
        rows, cols = self.backbone.config.grid_hw or (1, 1)
        table = self.backbone.pos_embed.reshape(1, rows, cols, -1).permute(0, 3, 1, 2)
        if grid_hw != (rows, cols) or size_hw[0] * cols != size_hw[1] * rows:
            scale = ((grid_hw[0] + 0.1) / rows, (grid_hw[1] + 0.1) / cols)
            table = F.interpolate(table, scale_factor=scale, mode="bicubic")
        return table.flatten(2).transpose(1, 2)[0]


def _linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def segment(pictures: list[Rgb], settings: Settings) -> NDArray[np.uint8]:
    """Label maps of a clip's frames, uint8 [frame, row, column]."""
    vit = PaperViT(resolve_model(settings.model))
    features = settings.features
    images = [resize(picture, features.load_size or min(picture.shape[:2])) for picture in pictures]
    grids, saliency = [], []
    for picture, image in zip(pictures, images, strict=True):
        keys, _, grid_hw = vit.run(image, features.stride, features.layer)
        grids.append(F.normalize(keys, dim=-1).numpy())
        saliency.append(_saliency(vit, picture, image, grid_hw))
    parts, background = fit(grids, saliency, settings)
    energies = [_energies(grid, parts, background).reshape(-1, *grid_hw) for grid in grids]
    return np.stack([_refine(each, image, settings) for each, image in zip(energies, images, strict=True)])


def _saliency(vit: PaperViT, picture: Rgb, image: Rgb, grid_hw: tuple[int, int]) -> Floats:
    """CLS attention on the half-size picture without overlapping patches, upsampled by nearest neighbour, [n]."""
    config, heads = vit.backbone.config, vit.model.identity.saliency_heads
    half = np.array(
        Image.fromarray(picture).resize((image.shape[1] // 2, image.shape[0] // 2), Image.Resampling.LANCZOS)
    )
    _, attention, low_hw = vit.run(half, config.patch_px, config.depth - 1)
    row = attention[list(heads or range(config.heads))].mean(0)
    low = ((row - row.min()) / (row.max() - row.min())).reshape(low_hw).numpy()
    return np.asarray(Image.fromarray(low).resize(grid_hw[::-1], Image.Resampling.NEAREST)).ravel()


def fit(grids: list[Floats], saliency: list[Floats], settings: Settings) -> tuple[Floats, Floats]:
    """Centroids of the parts, and of the background clusters, fitted on all frames."""
    cluster, rule = settings.cluster, settings.saliency
    sample, everything = np.concatenate([grid[:: cluster.sample_interval] for grid in grids]), np.concatenate(grids)
    previous = np.inf
    for k in range(1, cluster.max_clusters + 1):
        kmeans = _kmeans(sample, k, settings)
        squared, labels = kmeans.index.search(everything, 1)
        if cluster.elbow is not None and k > 1 and squared.mean() > cluster.elbow * previous:
            break
        previous = float(squared.mean())
    by_frame = np.split(labels.ravel(), np.cumsum([len(grid) for grid in grids])[:-1])
    means = np.array(
        [
            [values[mine == c].mean() if (mine == c).any() else 0.0 for c in range(k)]
            for mine, values in zip(by_frame, saliency, strict=True)
        ]
    )
    salient = (means > rule.threshold).sum(0) >= np.ceil(len(grids) * rule.votes)
    if not salient.any():
        salient = means.mean(0) == means.mean(0).max()
    foreground = np.concatenate(
        [grid[salient[mine]][:: cluster.sample_interval] for grid, mine in zip(grids, by_frame, strict=True)]
    )
    return np.asarray(_kmeans(foreground, cluster.parts, settings).centroids), np.asarray(kmeans.centroids)[~salient]


def _kmeans(sample: Floats, k: int, settings: Settings) -> faiss.Kmeans:
    cluster = settings.cluster
    kmeans = faiss.Kmeans(
        sample.shape[1],
        k,
        niter=cluster.iterations,
        nredo=cluster.restarts,
        seed=settings.run.seed,
        max_points_per_centroid=len(sample),
        min_points_per_centroid=1,
    )
    kmeans.train(np.ascontiguousarray(sample))
    return kmeans


def _energies(grid: Floats, parts: Floats, background: Floats) -> Floats:
    """Unary energies [1 + parts, n]: squared distances to the nearest background centroid and to each part."""
    to_parts = ((grid[None] - parts[:, None]) ** 2).sum(-1)
    to_background = ((grid[None] - background[:, None]) ** 2).sum(-1).min(0, keepdims=True, initial=4.0)
    energies = np.concatenate([to_background, to_parts])
    return np.asarray(energies - energies.max(0), dtype=np.float32)


def _refine(energies: Floats, image: Rgb, settings: Settings) -> NDArray[np.uint8]:
    unary = F.interpolate(torch.from_numpy(energies)[None], size=image.shape[:2], mode="nearest")[0].numpy()
    return densecrf.infer_labels(unary, image, settings.crf)


def resize(picture: Rgb, short_side: int) -> Rgb:
    """Resize a picture to a short side (Lanczos), with the other side rounded down as in the paper's code."""
    height, width = picture.shape[:2]
    size = (short_side, short_side * width // height) if height < width else (short_side * height // width, short_side)
    return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS))


def main() -> None:
    """Segment the first frames of a clip and write the label maps."""
    parser = argparse.ArgumentParser(description="Run the paper's method on the first frames of a clip.")
    parser.add_argument("clip")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    settings = with_values(load_settings(options.config), {"model": options.model})
    source = resolve_inputs([options.clip], fps=settings.input.fps)[0]
    pictures = [frame.rgb for frame in islice(source.frames(), options.frames)]
    with torch.inference_mode():
        np.save(options.output, segment(pictures, settings))


if __name__ == "__main__":
    main()
