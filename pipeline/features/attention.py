"""Exact attention in float32 on processors with wide registers; no matrix of tokens by tokens is ever stored.

The scores of a few queries to a few keys are computed, turned into weights and used while they are in the caches, as
in FlashAttention (Dao et al., 2022). Each task of a thread writes rows of its own, so that the bytes don't depend on
the number of threads. torch's own fused attention computes the same at the rate of the library below it, which on some
processors is half of what their registers could do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.processor import can_compute, run_tasks, scratch, take_task
from pipeline.features.registers import FAR, LANES
from pipeline.features.rows import SPAN, softmax_row
from pipeline.features.tiles import product_tile
from pipeline.kernels.jit import compiled

Floats = NDArray[np.float32]

_CHANNELS = 64
"""Channels of a head, those of every model of the registry; fewer are filled up with zeros."""
_QUERIES = 504
"""Queries that go through all keys together at most: with their scores they fill half of the second cache, and the more
they are, the less often keys and values come from behind it."""
_ROWS = 42
"""Queries come in multiples of this, which both products' tiles divide."""
_TASKS = 4
"""Tasks for each thread at least, where there are so many queries, so that all threads end together."""
_PANEL = 2 * LANES
"""Keys that lie side by side, channel by channel."""
_LOG2E = 1 / np.log(2)

# 28 and 24 sums and what they are made from fill the 32 registers.
_score = product_tile(14, _PANEL // LANES)
_mix = product_tile(6, _CHANNELS // LANES, "rescale")


def attention(query: Tensor, key: Tensor, value: Tensor, out: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(channels)) value, the heads side by side.

    The kernel computes in float32 whatever it gets: torch's own in bfloat16 takes twice its time on a processor.

    Args:
        query: [b, heads, n, channels], any strides.
        key: the same shape.
        value: the same shape.
        out: float32 [b, n, heads * channels], where the kernel writes its result; None: fresh memory.

    Returns:
        [b, n, heads * channels]; float32 where the kernel computed it.
    """
    if not can_compute(query) or query.shape[-1] > _CHANNELS:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    batch, heads, tokens, channels = query.shape
    result = torch.empty(batch, tokens, heads, channels) if out is None else out.view(batch, tokens, heads, channels)
    for parts in zip(query.float(), key.float(), value.float(), result, strict=True):
        _attend_heads(*(part.detach().numpy() for part in parts))
    return result.flatten(2)


def _attend_heads(query: Floats, key: Floats, value: Floats, result: Floats) -> None:
    """One picture's heads: query, key, value [heads, n, channels], result [n, heads, channels]."""
    heads, tokens, _ = query.shape
    spans = -(-tokens // SPAN)
    keys = scratch("keys", heads, spans * SPAN // _PANEL, _CHANNELS, _PANEL).numpy()
    values = scratch("values", heads, spans * SPAN, _CHANNELS).numpy()
    if query.shape[2] < _CHANNELS:
        keys[:], values[:] = 0, 0
    keys[:, tokens // _PANEL :], values[:, tokens:] = 0, 0
    run_tasks(_pack, keys.shape[0] * keys.shape[1], key, value, keys, values)
    share = -(-tokens * heads // (_TASKS * torch.get_num_threads() * _ROWS)) * _ROWS
    together = min(_QUERIES, share)
    joined = [table.reshape(heads, -1) for table in (keys, values)]
    run_tasks(_attend, heads * -(-tokens // together), query, *joined, together, result)


@compiled
def _pack(taken: Any, count: Any, key: Any, value: Any, keys: Any, values: Any) -> None:
    """Lay keys in panels [panel, channel, key of the panel], and values in rows; what they don't fill stays zero.

    A task is a panel of a head.
    """
    _, tokens, channels = key.shape
    while True:
        task = take_task(taken)
        if task >= count:
            break
        head, panel = divmod(task, keys.shape[1])
        for place in range(min(_PANEL, tokens - panel * _PANEL)):
            n = panel * _PANEL + place
            for c in range(channels):
                keys[head, panel, c, place] = key[head, n, c]
                values[head, n, c] = value[head, n, c]


@compiled
def _attend(taken: Any, count: Any, query: Any, keys: Any, values: Any, together: Any, result: Any) -> None:
    """The result; a task is so many of its rows `together`, in a head."""
    heads, tokens, channels = query.shape
    queries = np.zeros((together, _CHANNELS), np.float32)
    sums = np.empty((together, _CHANNELS), np.float32)
    scores = np.empty((together, SPAN), np.float32)
    peaks, totals, shrinks = np.empty((3, together), np.float32)
    scale = np.float32(_LOG2E / np.sqrt(channels))
    while True:
        task = take_task(taken)
        if task >= count:
            break
        # The heads' last queries, which are few, come last, so that all threads end together.
        block, head = divmod(task, heads)
        begin = block * together
        here = min(together, tokens - begin)
        rows = -(-here // _ROWS) * _ROWS
        for m in range(here):
            for c in range(channels):
                queries[m, c] = query[head, begin + m, c] * scale
        sums[:] = np.float32(0)
        totals[:] = np.float32(0)
        peaks[:] = np.float32(FAR)
        for start in range(0, tokens, SPAN):
            _scores(queries.ravel(), keys[head], start, rows, scores)
            seen = min(SPAN, tokens - start)
            scores[:, seen:] = np.float32(FAR)
            for m in range(rows):
                peaks[m], total, shrinks[m] = softmax_row(scores, m * SPAN, peaks[m])
                totals[m] = totals[m] * shrinks[m] + total
            for m in range(0, rows, 6):
                _mix(
                    scores, m * SPAN, SPAN, values[head], start * _CHANNELS, _CHANNELS, seen,
                    sums, m * _CHANNELS, _CHANNELS, shrinks, m,
                )  # fmt: skip
        for m in range(here):
            for c in range(channels):
                result[begin + m, head, c] = sums[m, c] / totals[m]


@compiled
def _scores(queries: Any, keys: Any, start: Any, rows: Any, scores: Any) -> None:
    """The scores of queries to the SPAN keys from `start` on."""
    for panel in range(0, SPAN, _PANEL):
        for m in range(0, rows, 14):
            _score(
                queries, m * _CHANNELS, _CHANNELS, keys, (start + panel) * _CHANNELS, _PANEL, _CHANNELS,
                scores, m * SPAN + panel, SPAN,
            )  # fmt: skip
