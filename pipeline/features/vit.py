"""A ViT for inference that computes what was asked for and nothing else.

It reads keys, queries, values and tokens of any block on a grid of overlapping patches, and the saliency from
the class token's row of the last block's attention. It is plain torch: on CUDA it runs as it stands, on the processor
`openvino_backbone` runs its blocks. Names of models and files are in `models` and `weights`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UsageError
from pipeline.features.positions import Rotary, interpolate_positions, positions_at, rotary_angles, rotate
from pipeline.geometry import grid_size

Facet = Literal["key", "query", "value", "token"]

FACETS: tuple[Facet, ...] = get_args(Facet)

KEPT_POSITIONS = 16
"""Tables of position embeddings that are kept: those of the sizes and parts of a few pictures."""

_QKV_ROW: dict[str, int] = {"query": 0, "key": 1, "value": 2}


class Tap(NamedTuple):
    """What is read and where.

    Attributes:
        layer: block, counted from 0.
        facet: `key`, `query`, `value` of the block's normalised input, or `token`, the block's output.
    """

    layer: int
    facet: Facet


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pass reads.

    Attributes:
        taps: facets, each once.
        saliency: whether the class token's row of the last block's attention is read too.
        heads: heads that the row is the mean of; None: all.
    """

    taps: tuple[Tap, ...]
    saliency: bool = False
    heads: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Where the pixels of a pass lie in a larger picture.

    Attributes:
        start_px: rows and columns of the picture above and left of them.
        covered_px: height and width of the picture's area that patches cover.
    """

    start_px: tuple[int, int]
    covered_px: tuple[int, int]


class Embedded(NamedTuple):
    """What the blocks of a pass begin with.

    Attributes:
        tokens: [batch, n, channels].
        rotary: angles of the patches, where the model has any.
    """

    tokens: Tensor
    rotary: Rotary | None


RunBlocks = Callable[[Sequence[Embedded], Reading], Sequence[Sequence[Tensor]]]
"""As `Backbone.run_blocks`, for several passes."""


@dataclass(frozen=True, slots=True)
class ViTConfig:
    """The shape of a ViT.

    Attributes:
        embed_dim: channels of a token.
        depth: number of blocks.
        heads: heads of each block's attention.
        patch_px: side of a patch in pixels.
        grid_hw: rows and columns of the position embedding; None for a model with rotary angles.
        registers: tokens between the class token and the patches.
        mlp_dim: hidden channels of a block's MLP.
        qkv_bias: whether queries, keys and values have a bias.
        layer_scale: whether each branch is scaled by channel.
        norm_eps: epsilon of the layer norms.
    """

    embed_dim: int
    depth: int
    heads: int
    patch_px: int
    grid_hw: tuple[int, int] | None
    registers: int
    mlp_dim: int
    qkv_bias: bool
    layer_scale: bool
    norm_eps: float

    @property
    def prefix(self) -> int:
        """Tokens before the first patch."""
        return 1 + self.registers

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.embed_dim // self.heads

    @property
    def token_bytes(self) -> int:
        """Of a token in a block: residual stream, norm, qkv, the attention's output, two hidden tensors of the MLP."""
        return 4 * (6 * self.embed_dim + 2 * self.mlp_dim)


@dataclass(frozen=True, slots=True, eq=False)
class BackboneOutput:
    """What one pass gave.

    Attributes:
        facets: by tap, float32 [batch, 1 + rows * cols, channels], the class token first, registers left out.
            Channels within a head are the slow axis and heads the fast one, as the paper's code has them.
        saliency: float32 [batch, rows, cols] in [0, 1], or None where it wasn't asked for; of a part of a picture the
            class token's row itself.
        grid_hw: rows and columns.
    """

    facets: dict[Tap, Tensor]
    saliency: Tensor | None
    grid_hw: tuple[int, int]


class Attention(nn.Module):
    """Multi-head self-attention whose three projections can be had one by one."""

    def __init__(self, config: ViTConfig) -> None:
        """Empty parameters of the shapes that `config` says."""
        super().__init__()
        self.heads, self.prefix = config.heads, config.prefix
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def project(self, x: Tensor, facet: str) -> Tensor:
        """One of query, key, value of normalised tokens [b, n, c] as [b, heads, n, head channels]."""
        rows = slice(_QKV_ROW[facet] * x.shape[-1], (_QKV_ROW[facet] + 1) * x.shape[-1])
        bias = None if self.qkv.bias is None else self.qkv.bias[rows]
        return F.linear(x, self.qkv.weight[rows], bias).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def project_all(self, x: Tensor) -> dict[str, Tensor]:
        """Query, key and value of normalised tokens, in one product."""
        joint = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        return {"query": query, "key": key, "value": value}

    def forward(self, parts: dict[str, Tensor], rotary: Rotary | None) -> Tensor:
        """The attention's output [b, n, c], projected, given query, key and value."""
        query, key = (rotate(parts[name], rotary, self.prefix) for name in ("query", "key"))
        attended = F.scaled_dot_product_attention(query, key, parts["value"])
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output

    def class_row(self, class_query: Tensor, key: Tensor, rotary: Rotary | None, heads: Sequence[int] | None) -> Tensor:
        """The class token's attention to every patch, mean over `heads` (None: all), float32 [b, patches]."""
        if heads is not None:
            class_query, key = class_query[:, list(heads)], key[:, list(heads)]
        key = rotate(key, rotary, self.prefix).float()
        # One row costs nothing, and in half precision neighbouring patches would get equal shares.
        with torch.autocast(key.device.type, enabled=False):
            logits = (class_query.float() * key.shape[-1] ** -0.5) @ key.transpose(-2, -1)
            weights: Tensor = logits.softmax(dim=-1)[:, :, 0, self.prefix :]
        return weights.mean(dim=1)


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, dim: int) -> None:
        """Empty factors for `dim` channels."""
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale [..., dim]."""
        return x * self.gamma


class Block(nn.Module):
    """One block of a ViT, in two halves, so that reading its keys doesn't need to run the rest."""

    def __init__(self, config: ViTConfig) -> None:
        """Empty parameters of the shapes that `config` says."""
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config.embed_dim) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        wide, narrow = nn.Linear(config.embed_dim, config.mlp_dim), nn.Linear(config.mlp_dim, config.embed_dim)
        self.mlp = nn.Sequential(OrderedDict({"fc1": wide, "gelu": nn.GELU(), "fc2": narrow}))
        self.ls2 = LayerScale(config.embed_dim) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor, parts: dict[str, Tensor], rotary: Rotary | None) -> Tensor:
        """The block's output, given its input and the projections of that."""
        x = x + self.ls1(self.attn(parts, rotary))
        output: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return output


class Backbone(nn.Module):
    """A plain ViT (DINO, DINOv2, supervised) or one with rotary angles (DINOv3)."""

    def __init__(self, config: ViTConfig) -> None:
        """Empty parameters of the shapes that `config` says; the names are DINO's."""
        super().__init__()
        self.config = config
        self._kept_positions: dict[tuple[object, ...], Tensor] = {}
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.embed_dim))
        if config.registers:
            self.reg_token = nn.Parameter(torch.empty(1, config.registers, config.embed_dim))
        if config.grid_hw is not None:
            rows, cols = config.grid_hw
            self.pos_embed = nn.Parameter(torch.empty(1, rows * cols, config.embed_dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, config.embed_dim, config.patch_px)})
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def check(self, reading: Reading, stride_px: int) -> None:
        """Refuse a layer, stride or head that this ViT doesn't have.

        Raises:
            UsageError: with the values that are possible.
        """
        patch_px = self.config.patch_px
        possible = [stride for stride in range(1, patch_px + 1) if patch_px % stride == 0]
        if stride_px not in possible:
            raise UsageError(
                f"stride {stride_px} does not divide the model's patch size of {patch_px} pixels; "
                f"possible strides are {', '.join(map(str, possible))}"
            )
        for tap in reading.taps:
            if not 0 <= tap.layer < self.config.depth:
                raise UsageError(
                    f"layer {tap.layer} is not in this model, whose layers are 0 to {self.config.depth - 1}; "
                    "give one of them by --layer"
                )
        heads = reading.heads
        if heads is not None and (not heads or not set(heads) <= set(range(self.config.heads))):
            raise UsageError(
                f"saliency heads {list(heads)} are not in this model, whose heads are 0 to "
                f"{self.config.heads - 1}; give some of them"
            )

    def forward(
        self,
        pixels: Tensor,
        stride_px: int,
        reading: Reading,
        run_blocks: RunBlocks | None = None,
    ) -> BackboneOutput:
        """Read in one pass that ends as early as it can.

        Args:
            pixels: float32 [batch, 3, height, width], normalised.
            stride_px: distance of neighbouring patches in pixels.
            reading: what to read.
            run_blocks: what computes the blocks; None: torch.

        Raises:
            InputError: the picture is smaller than a patch.
            UsageError: a layer, stride or head doesn't exist.
        """
        (output,) = self.passes([(pixels, None)], stride_px, reading, run_blocks)
        return output

    def passes(
        self,
        parts: Sequence[tuple[Tensor, View | None]],
        stride_px: int,
        reading: Reading,
        run_blocks: RunBlocks | None = None,
    ) -> list[BackboneOutput]:
        """As a call, for several parts of a picture, which may be computed at once.

        `parts` are pixels as there, and where they lie in their picture, where they are a part of it.
        """
        self.check(reading, stride_px)
        grids = [grid_size((pixels.shape[2], pixels.shape[3]), self.config.patch_px, stride_px) for pixels, _ in parts]
        embedded = [
            Embedded(
                self._embed(pixels, stride_px, grid_hw, view), self._rotary(grid_hw, stride_px, pixels.device, view)
            )
            for (pixels, view), grid_hw in zip(parts, grids, strict=True)
        ]
        found = run_blocks(embedded, reading) if run_blocks else [self.run_blocks(*each, reading) for each in embedded]
        outputs = []
        for tensors, grid_hw, (_, view) in zip(found, grids, parts, strict=True):
            facets = dict(zip(reading.taps, tensors, strict=False))
            map_hw = None
            if reading.saliency:
                # Of a part the row stays as it is: it is comparable with the other parts' only before stretching.
                map_hw = (tensors[-1] if view else stretch(tensors[-1])).reshape(-1, *grid_hw)
            outputs.append(BackboneOutput(facets, map_hw, grid_hw))
        return outputs

    def run_blocks(self, x: Tensor, rotary: Rotary | None, reading: Reading) -> tuple[Tensor, ...]:
        """Go through the blocks, read on the way, stop where nothing more is needed.

        Args:
            x: tokens [batch, n, channels].
            rotary: angles of the patches, where the model has any.
            reading: what to read.

        Returns:
            The taps' facets as in `BackboneOutput`; behind them the class token's row [batch, patches], if it is read.
        """
        salient_layer = self.config.depth - 1 if reading.saliency else -1
        stop = max([tap.layer for tap in reading.taps] + [salient_layer], default=-1)
        found: dict[Tap, Tensor] = {}
        rows: list[Tensor] = []
        for layer in range(stop + 1):
            block, facets = self.blocks[layer], {tap.facet for tap in reading.taps if tap.layer == layer}
            assert isinstance(block, Block)
            runs = layer < stop or "token" in facets
            parts = _parts(block, x, facets, all_of_them=runs, salient=layer == salient_layer)
            if layer == salient_layer:
                rows.append(block.attn.class_row(parts["query"][:, :, :1], parts["key"], rotary, reading.heads))
            found |= {Tap(layer, facet): self._by_channel(parts[facet]) for facet in facets if facet != "token"}
            if runs:
                x = block(x, parts, rotary)
            if "token" in facets:
                found[Tap(layer, "token")] = self._by_channel(x[:, None])
        return (*(found[tap] for tap in reading.taps), *rows)

    def _rotary(
        self, grid_hw: tuple[int, int], stride_px: int, device: torch.device, view: View | None
    ) -> Rotary | None:
        if self.config.grid_hw is not None:
            return None
        places = self._places(grid_hw, stride_px, view)
        return rotary_angles(places, self.config.head_dim, device)

    def _places(self, grid_hw: tuple[int, int], stride_px: int, view: View | None) -> tuple[Tensor, Tensor]:
        """Rows' and columns' centres, from 0 to 1 over the area that the grid covers, or that of the view's picture."""
        patch_px = self.config.patch_px
        covered = view.covered_px if view else tuple((count - 1) * stride_px + patch_px for count in grid_hw)
        starts = view.start_px if view else (0, 0)
        rows, cols = (
            (torch.arange(count, dtype=torch.float32) * stride_px + patch_px / 2 + start) / length
            for count, start, length in zip(grid_hw, starts, covered, strict=True)
        )
        return rows, cols

    def _embed(self, pixels: Tensor, stride_px: int, grid_hw: tuple[int, int], view: View | None) -> Tensor:
        projection = self.patch_embed["proj"]
        assert isinstance(projection, nn.Conv2d)
        patches = F.conv2d(pixels, projection.weight, projection.bias, stride=stride_px)
        patches = patches.flatten(2).transpose(1, 2)
        if self.config.grid_hw is not None:
            patches = patches + self._positions((pixels.shape[2], pixels.shape[3]), grid_hw, stride_px, view)
        prefix = [self.cls_token, self.reg_token] if self.config.registers else [self.cls_token]
        return torch.cat([*(token.expand(len(pixels), -1, -1) for token in prefix), patches], dim=1)

    def _positions(
        self, size_hw: tuple[int, int], grid_hw: tuple[int, int], stride_px: int, view: View | None
    ) -> Tensor:
        """Position embeddings of a grid; those of the last sizes are kept, for a clip's frames have one."""
        if torch.is_grad_enabled():
            return self._interpolated(size_hw, grid_hw, stride_px, view)
        version = 0 if self.pos_embed.is_inference() else self.pos_embed._version
        key = (id(self.pos_embed), self.pos_embed.device, version, size_hw, grid_hw, view)
        kept = self._kept_positions.get(key)
        if kept is None:
            if len(self._kept_positions) >= KEPT_POSITIONS:
                self._kept_positions.clear()
            kept = self._kept_positions[key] = self._interpolated(size_hw, grid_hw, stride_px, view)
        return kept

    def _interpolated(
        self, size_hw: tuple[int, int], grid_hw: tuple[int, int], stride_px: int, view: View | None
    ) -> Tensor:
        assert self.config.grid_hw is not None
        if view is None:
            return interpolate_positions(self.pos_embed[0], self.config.grid_hw, grid_hw, size_hw)
        return positions_at(self.pos_embed[0], self.config.grid_hw, self._places(grid_hw, stride_px, view))

    def _by_channel(self, heads: Tensor) -> Tensor:
        """[b, heads, tokens, head channels] to float32 [b, 1 + patches, head channels * heads]."""
        if self.config.registers:
            heads = torch.cat((heads[:, :, :1], heads[:, :, self.config.prefix :]), dim=2)
        return heads.permute(0, 2, 3, 1).contiguous().flatten(2).float()


def _parts(block: Block, x: Tensor, facets: Iterable[str], *, all_of_them: bool, salient: bool) -> dict[str, Tensor]:
    """Projections of a block's input: all three for a block that runs, else no more than is read.

    For the saliency the query of the class token alone is computed, where no one reads the others.
    """
    if all_of_them:
        return block.attn.project_all(block.norm1(x))
    normed = block.norm1(x)
    needed = {facet for facet in facets if facet != "token"} | ({"key"} if salient else set())
    parts = {facet: block.attn.project(normed, facet) for facet in needed}
    if salient and "query" not in parts:
        parts["query"] = block.attn.project(normed[:, :1], "query")
    return parts


def stretch(row: Tensor) -> Tensor:
    """Bring each row of [batch, n] to [0, 1]; a row that is the same everywhere becomes 0."""
    low, high = row.amin(dim=1, keepdim=True), row.amax(dim=1, keepdim=True)
    spread = high - low
    return (row - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
