"""The small ViT that is trained, with DINO's parameter names, and its weight files."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SmallViTConfig:
    """Sizes of the ViT; `img_size` is the side in pixels of the square picture that its position grid is for."""

    dim: int = 192
    depth: int = 7
    heads: int = 3
    patch: int = 8
    img_size: int = 96


@dataclass(frozen=True)
class ViTOutput:
    """Last block's keys [B, T, dim] of T patches, their CLS attention averaged over heads [B, T], and CLS [B, dim]."""

    keys: Tensor
    attention: Tensor
    cls: Tensor


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        """Build the projections."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [B, heads, T, dim/heads]."""
        count, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(count, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend over tokens [B, T, dim]."""
        query, key, value = self.split(tokens)
        # At 100 tokens on a CPU this takes a third of the time of torch's fused attention, whose backward pass is slow.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        mixed = scores.softmax(-1) @ value
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int) -> None:
        """Build the layers."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        layers = {"fc1": nn.Linear(dim, 4 * dim), "gelu": nn.GELU(), "fc2": nn.Linear(4 * dim, dim)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens [B, T, dim]."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class SmallViT(nn.Module):
    """A ViT whose last block computes attention for the CLS token only: nothing else of it is used."""

    def __init__(self, config: SmallViTConfig) -> None:
        """Build and initialise it with PyTorch's global random generator."""
        super().__init__()
        self.config = config
        side = config.img_size // config.patch
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.cat([torch.zeros(1, 1, config.dim), sine_positions(side, config.dim)], 1))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, config.dim, config.patch)})
        self.blocks = nn.ModuleList([Block(config.dim, config.heads) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        for block in self.blocks:
            _mimic_trained_attention(block.attn)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor, stride: int | None = None) -> ViTOutput:
        """Run pictures [B, 3, H, W] in [0, 1], with patches `stride` pixels apart (None: without overlap)."""
        mean, deviation = pictures.new_tensor(MEAN), pictures.new_tensor(DEVIATION)
        weight, bias = (self.patch_embed.get_parameter(f"proj.{name}") for name in ("weight", "bias"))
        pixels = (pictures - mean[:, None, None]) / deviation[:, None, None]
        tokens = F.conv2d(pixels, weight, bias, stride or self.config.patch)
        rows, columns = tokens.shape[2:]
        tokens = torch.cat([self.cls_token.expand(len(pictures), -1, -1), tokens.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self._positions(rows, columns)
        *body, last = self.blocks
        for block in body:
            tokens = block(tokens)
        return self._read(last, tokens)

    def _read(self, last: nn.Module, tokens: Tensor) -> ViTOutput:
        assert isinstance(last, Block)
        query, key, value = last.attn.split(last.norm1(tokens))
        scores = (query[:, :, :1].float() @ key.float().transpose(-1, -2)) / math.sqrt(query.shape[-1])
        weights = scores.softmax(-1)
        mixed = (weights @ value.float()).transpose(1, 2).flatten(2)
        cls = tokens[:, :1] + last.attn.proj(mixed)
        cls = self.norm(cls + last.mlp(last.norm2(cls)))[:, 0]
        return ViTOutput(key.transpose(1, 2).flatten(2)[:, 1:], weights[:, :, 0, 1:].mean(1), cls)

    def _positions(self, rows: int, columns: int) -> Tensor:
        side = self.config.img_size // self.config.patch
        if rows == columns == side:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].view(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def sine_positions(side: int, dim: int) -> Tensor:
    """Return sine-cosine position embeddings [1, side*side, dim], an initialisation that speeds up training."""
    frequency = 1 / 100 ** (torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(side)[:, None] * frequency
    waves = torch.cat([angle.sin(), angle.cos()], 1)
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    return 0.3 * torch.cat([rows, columns], -1).reshape(1, side * side, dim)


def _mimic_trained_attention(attention: Attention) -> None:
    """Initialise attention with weight products like those of trained ViTs (mimetic init, Trockman and Kolter)."""
    dim = attention.proj.in_features
    size = dim // attention.heads
    weight = attention.qkv.weight.data
    for head in range(attention.heads):
        like = 0.7 * torch.randn(dim, dim) / math.sqrt(dim) + 0.7 * torch.eye(dim)
        left, values, right = torch.linalg.svd(like)
        scale = values[:size].sqrt()
        weight[head * size : (head + 1) * size] = (left[:, :size] * scale).T
        weight[dim + head * size : dim + (head + 1) * size] = scale[:, None] * right[:size]
    unlike = 0.4 * torch.randn(dim, dim) / math.sqrt(dim) - 0.4 * torch.eye(dim)
    left, values, right = torch.linalg.svd(unlike)
    weight[2 * dim :] = values.sqrt()[:, None] * right
    attention.proj.weight.data = left * values.sqrt()
    attention.qkv.bias.data.zero_()
    attention.proj.bias.data.zero_()


def export_weights(model: SmallViT, path: Path, more: Mapping[str, Tensor] | None = None) -> None:
    """Write the weights and further tensors as float16 safetensors, with the metadata that `features.weights` reads."""
    config = model.config
    metadata = {
        "num_heads": str(config.heads),
        "patch_size": str(config.patch),
        "img_size": str(config.img_size),
        "mean": ",".join(map(str, MEAN)),
        "std": ",".join(map(str, DEVIATION)),
        "saliency_heads": ",".join(map(str, range(config.heads))),
    }
    state = {**model.state_dict(), **(more or {})}
    save_file({name: value.half().contiguous() for name, value in state.items()}, path, metadata)


def load_weights(model: SmallViT, path: Path) -> None:
    """Load weights that `export_weights` has written; further tensors are ignored."""
    own = model.state_dict()
    model.load_state_dict({name: value.float() for name, value in load_file(path).items() if name in own})
