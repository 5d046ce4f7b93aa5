"""What a ViT's block does to each token by itself, in one go, in float32 on processors with wide registers.

Some tokens at a time go through layer norm, linear layers, GELU and sums; what lies between stays in the caches, where
separate layers would write it to memory and read it again. A token's result depends on that token alone, summed in one
order: neither batches nor threads move a bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.compiled import compiled
from pipeline.features.linear import PANEL, ROWS, TASK, Linear
from pipeline.features.processor import can_compute, run_tasks, take_task
from pipeline.features.registers import LANES
from pipeline.features.rows import norm_row
from pipeline.features.tiles import product_tile

_biased = product_tile(ROWS, PANEL // LANES, "bias")
_activated = product_tile(ROWS, PANEL // LANES, "gelu")
_summed = product_tile(ROWS, PANEL // LANES, "residual")


def can_fuse(x: Tensor, *layers: Linear) -> bool:
    """Whether tokens [b, n, channels] can go through layers in one go: enough, in widths that fill registers."""
    wide = not any(layer.out_features % PANEL + layer.in_features % PANEL for layer in layers)
    enough = x.shape[0] * x.shape[1] >= ROWS
    return wide and enough and can_compute(x) and not torch.is_autocast_enabled(x.device.type)


def project(x: Tensor, norm: nn.LayerNorm, layer: Linear) -> Tensor:
    """layer(norm(x)) of tokens [b, n, channels]."""
    rows = _rows(x)
    result = torch.empty(*x.shape[:2], layer.out_features)
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
    run_tasks(_finish, _tasks(rows), rows, _rows(attended), *weights, _rows(result))
    return result


def _rows(x: Tensor) -> NDArray[np.float32]:
    return x.reshape(-1, x.shape[-1]).contiguous().numpy()


def _tasks(rows: NDArray[np.float32]) -> int:
    return -(-len(rows) // TASK)


def _flat(parameter: Tensor) -> NDArray[np.float32]:
    return parameter.detach().reshape(-1).numpy()


def _weights(layer: Linear) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return _flat(layer.panels()), _flat(layer.offsets())


def _norm(norm: nn.LayerNorm) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32]:
    return _flat(norm.weight), _flat(norm.bias), np.float32(norm.eps)


@compiled
def _project(
    taken: Any, count: Any, x: Any, factors: Any, shifts: Any, eps: Any, weights: Any, bias: Any, result: Any
) -> None:
    """A task is TASK tokens."""
    width, outputs = x.shape[1], result.shape[1]
    normed = np.empty(TASK * width, np.float32)
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
                    normed, row * width, width, weights, panel * PANEL * width, PANEL, width,
                    result, (first + row) * outputs + panel * PANEL, outputs, bias, panel * PANEL,
                )  # fmt: skip


@compiled
def _finish(
    taken: Any, count: Any, x: Any, attended: Any, proj: Any, proj_bias: Any, first_scale: Any,
    factors: Any, shifts: Any, eps: Any, into: Any, into_bias: Any, out_of: Any, out_bias: Any, last_scale: Any,
    result: Any,
) -> None:  # fmt: skip
    """A task is TASK tokens."""
    width, hidden_width = x.shape[1], into_bias.shape[0]
    middle, normed = np.empty(TASK * width, np.float32), np.empty(TASK * width, np.float32)
    hidden = np.empty(TASK * hidden_width, np.float32)
    while True:
        task = take_task(taken)
        if task >= count:
            break
        first, rows = _share(task, x.shape[0])
        begin = first * width
        _sum_rows(attended.ravel(), begin, rows, proj, proj_bias, first_scale, x.ravel(), begin, middle, 0)
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
        norm_row(x, x_first + row * width, width, factors, shifts, eps, result, row * width)


@compiled
def _activate_rows(x: Any, rows: Any, weights: Any, bias: Any, result: Any) -> None:
    """GELU(x @ weights + bias)."""
    outputs = bias.shape[0]
    depth = weights.shape[0] // outputs
    for panel in range(outputs // PANEL):
        for begin in range(0, rows, ROWS):
            row = min(begin, rows - ROWS)
            _activated(
                x, row * depth, depth, weights, panel * PANEL * depth, PANEL, depth,
                result, row * outputs + panel * PANEL, outputs, bias, panel * PANEL,
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
