"""What a ViT's block does to each token by itself, in one go, on processors with wide registers.

Some tokens at a time go through layer norm, linear layers, GELU and sums; what lies between stays in the caches, where
separate layers would write it to memory and read it again. A token's result depends on that token alone, summed in one
order: neither batches nor threads move a bit. Under autocast to bfloat16 what is multiplied is rounded to that, as
pairs in int32; sums, norms and the tokens themselves stay in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.features.linear import PANEL, ROWS, TASK, Linear
from pipeline.features.processor import can_compute, has_bfloat16, run_tasks, take_task
from pipeline.features.registers import LANES
from pipeline.features.rows import norm_row
from pipeline.features.tiles import product_tile
from pipeline.kernels.jit import compiled

_biased = product_tile(ROWS, PANEL // LANES, "bias")
_activated = product_tile(ROWS, PANEL // LANES, "gelu")
_summed = product_tile(ROWS, PANEL // LANES, "residual")


def can_fuse(x: Tensor, *layers: Linear) -> bool:
    """Whether tokens [b, n, channels] can go through layers in one go: enough, in widths that fill registers."""
    wide = not any(layer.out_features % PANEL + layer.in_features % PANEL for layer in layers)
    enough = x.shape[0] * x.shape[1] >= ROWS
    return wide and enough and can_compute(x) and _factors() in _possible_factors()


def _factors() -> torch.dtype:
    """What is multiplied."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _possible_factors() -> tuple[torch.dtype, ...]:
    return (torch.float32, torch.bfloat16) if has_bfloat16() else (torch.float32,)


def project(x: Tensor, norm: nn.LayerNorm, layer: Linear, out: Tensor | None = None) -> Tensor:
    """layer(norm(x)) of tokens [b, n, channels], written to `out` where that is given."""
    rows = _rows(x)
    result = torch.empty(*x.shape[:2], layer.out_features) if out is None else out
    run_tasks(_project, _tasks(rows), rows, *_norm(norm), *_weights(layer), _rows(result))
    return result


def finish(
    x: Tensor,
    attended: Tensor,
    proj: Linear,
    first: Tensor,
    norm: nn.LayerNorm,
    mlp: tuple[Linear, Linear],
    last: Tensor,
) -> Tensor:
    """What follows a block's attention: m + last * MLP(norm(m)), where m = x + first * proj(attended).

    Args:
        x: the block's input [b, n, channels].
        attended: the attention's output, the same shape.
        proj: its projection.
        first: a factor for each channel of that branch.
        norm: of the second branch.
        mlp: its two layers, between which is a GELU.
        last: a factor for each of its channels.
    """
    rows, result = _rows(x), torch.empty_like(x, memory_format=torch.contiguous_format)
    weights = [*_weights(proj), _flat(first), *_norm(norm), *_weights(mlp[0]), *_weights(mlp[1]), _flat(last)]
    joined = attended.to(torch.bfloat16).view(torch.int32) if _factors() == torch.bfloat16 else attended
    run_tasks(_finish, _tasks(rows), rows, _rows(joined), *weights, _rows(result))
    return result


def _rows(x: Tensor) -> NDArray[Any]:
    return x.reshape(-1, x.shape[-1]).contiguous().numpy()


def _tasks(rows: NDArray[Any]) -> int:
    return -(-len(rows) // TASK)


def _flat(parameter: Tensor) -> NDArray[Any]:
    return parameter.detach().reshape(-1).numpy()


def _weights(layer: Linear) -> tuple[NDArray[Any], NDArray[np.float32]]:
    return _flat(layer.panels(_factors())), _flat(layer.offsets())


def _norm(norm: nn.LayerNorm) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32]:
    return _flat(norm.weight), _flat(norm.bias), np.float32(norm.eps)


@compiled
def _project(
    taken: Any, count: Any, x: Any, factors: Any, shifts: Any, eps: Any, weights: Any, bias: Any, result: Any
) -> None:
    """A task is TASK tokens."""
    width, outputs = x.shape[1], result.shape[1]
    depth = weights.shape[0] // outputs
    normed = np.empty(TASK * depth, weights.dtype)
    while True:
        task = take_task(taken)
        if task >= count:
            break
        first, rows = _share(task, x.shape[0])
        _norm_rows(x.ravel(), first * width, rows, factors, shifts, eps, normed)
        for panel in range(outputs // PANEL):
            for begin in range(0, rows, ROWS):
                row = min(begin, rows - ROWS)
                _biased(
                    normed, row * depth, depth, weights, panel * PANEL * depth, PANEL, depth,
                    result, (first + row) * outputs + panel * PANEL, outputs, bias, panel * PANEL,
                )  # fmt: skip


@compiled
def _finish(
    taken: Any, count: Any, x: Any, attended: Any, proj: Any, proj_bias: Any, first_scale: Any,
    factors: Any, shifts: Any, eps: Any, into: Any, into_bias: Any, out_of: Any, out_bias: Any, last_scale: Any,
    result: Any,
) -> None:  # fmt: skip
    """A task is TASK tokens."""
    width, middle = x.shape[1], np.empty(TASK * x.shape[1], np.float32)
    # As many as the factors are, which in bfloat16 come in pairs.
    normed = np.empty(TASK * into.shape[0] // into_bias.shape[0], into.dtype)
    hidden = np.empty(TASK * out_of.shape[0] // out_bias.shape[0], out_of.dtype)
    while True:
        task = take_task(taken)
        if task >= count:
            break
        first, rows = _share(task, x.shape[0])
        begin = first * width
        _sum_rows(
            attended.ravel(), first * attended.shape[1], rows, proj, proj_bias, first_scale, x.ravel(), begin, middle, 0
        )
        _norm_rows(middle, 0, rows, factors, shifts, eps, normed)
        _activate_rows(normed, rows, into, into_bias, hidden)
        _sum_rows(hidden, 0, rows, out_of, out_bias, last_scale, middle, 0, result.ravel(), begin)


@compiled
def _share(task: Any, tokens: Any) -> Any:
    """The first token of a task, and how many. The very last are computed with those before, which come out equal."""
    last = min((task + 1) * TASK, tokens)
    first = min(task * TASK, last - ROWS)
    return first, last - first


@compiled
def _norm_rows(x: Any, x_first: Any, rows: Any, factors: Any, shifts: Any, eps: Any, result: Any) -> None:
    width = factors.shape[0]
    for row in range(rows):
        norm_row(x, x_first + row * width, width, factors, shifts, eps, result, row * (result.shape[0] // TASK))


@compiled
def _activate_rows(x: Any, rows: Any, weights: Any, bias: Any, result: Any) -> None:
    """GELU(x @ weights + bias)."""
    outputs, stride = bias.shape[0], result.shape[0] // TASK
    depth, panels = weights.shape[0] // outputs, outputs // PANEL
    for panel in range(panels):
        for begin in range(0, rows, ROWS):
            row = min(begin, rows - ROWS)
            _activated(
                x, row * depth, depth, weights, panel * PANEL * depth, PANEL, depth,
                result, row * stride + panel * (stride // panels), stride, bias, panel * PANEL,
            )  # fmt: skip


@compiled
def _sum_rows(
    x: Any, x_first: Any, rows: Any, weights: Any, bias: Any, scale: Any,
    residual: Any, residual_first: Any, result: Any, result_first: Any,
) -> None:  # fmt: skip
    """residual + scale * (x @ weights + bias)."""
    outputs = bias.shape[0]
    depth = weights.shape[0] // outputs
    for panel in range(outputs // PANEL):
        for begin in range(0, rows, ROWS):
            row = min(begin, rows - ROWS)
            place = row * outputs + panel * PANEL
            _summed(
                x, x_first + row * depth, depth, weights, panel * PANEL * depth, PANEL, depth,
                result, result_first + place, outputs, bias, panel * PANEL, scale,
                residual, residual_first + place, outputs,
            )  # fmt: skip
