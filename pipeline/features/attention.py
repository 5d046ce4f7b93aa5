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

from pipeline.compiled import compiled
from pipeline.features.processor import can_compute, run_tasks
from pipeline.features.tiles import LANES, SPAN, product_tile, softmax_row

Floats = NDArray[np.float32]

_CHANNELS = 64
"""Channels of a head, those of every model of the registry; fewer are filled up with zeros."""
_QUERIES = 84
"""Queries that go through all keys together: with the scores they fill the second cache."""
_PANEL = 2 * LANES
"""Keys that lie side by side, channel by channel."""
_TASK = 4 * _QUERIES
"""Queries of a task: some milliseconds, so that a thread that is held up elsewhere holds up no other."""
_LOG2E = 1 / np.log(2)

# 28 and 24 sums and what they are made from fill the 32 registers.
_score = product_tile(14, _PANEL // LANES)
_mix = product_tile(6, _CHANNELS // LANES, "rescale")


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(channels)) value, the heads side by side.

    The kernel computes in float32 whatever it gets: torch's own in bfloat16 takes twice its time on a processor.

    Args:
        query: [b, heads, n, channels], any strides.
        key: the same shape.
        value: the same shape.

    Returns:
        [b, n, heads * channels]; float32 where the kernel computed it.
    """
    if not can_compute(query) or query.shape[-1] > _CHANNELS:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    batch, heads, tokens, channels = query.shape
    result = torch.empty(batch, tokens, heads, channels)
    for parts in zip(query.float(), key.float(), value.float(), result, strict=True):
        _attend_heads(*(part.detach().numpy() for part in parts))
    return result.flatten(2)


def _attend_heads(query: Floats, key: Floats, value: Floats, result: Floats) -> None:
    """One picture's heads: query, key, value [heads, n, channels], result [n, heads, channels]."""
    heads, tokens, _ = query.shape
    spans = -(-tokens // SPAN)
    keys = np.zeros((heads, spans * SPAN // _PANEL, _CHANNELS, _PANEL), dtype=np.float32)
    values = np.zeros((heads, spans * SPAN, _CHANNELS), dtype=np.float32)
    run_tasks(_pack, [(key, value, head, keys, values) for head in range(heads)])
    run_tasks(
        _attend,
        [
            (query, head, keys[head].reshape(-1), values[head].reshape(-1), first, result)
            for head in range(heads)
            for first in range(0, tokens, _TASK)
        ],
    )


@compiled
def _pack(key: Any, value: Any, head: Any, keys: Any, values: Any) -> None:
    """Lay keys in panels [panel, channel, key of the panel], and values in rows; the rest stays zero."""
    for n in range(key.shape[1]):
        panel, place = n // _PANEL, n % _PANEL
        for c in range(key.shape[2]):
            keys[head, panel, c, place] = key[head, n, c]
            values[head, n, c] = value[head, n, c]


@compiled
def _attend(query: Any, head: Any, keys: Any, values: Any, first: Any, result: Any) -> None:
    """The result's rows from `first` on, at most _TASK of them."""
    _, tokens, channels = query.shape
    queries = np.zeros((_QUERIES, _CHANNELS), np.float32)
    sums = np.empty((_QUERIES, _CHANNELS), np.float32)
    scores = np.empty((_QUERIES, SPAN), np.float32)
    peaks, totals, shrinks = np.empty((3, _QUERIES), np.float32)
    scale = np.float32(_LOG2E / np.sqrt(channels))
    for begin in range(first, min(first + _TASK, tokens), _QUERIES):
        count = min(_QUERIES, tokens - begin)
        for m in range(count):
            for c in range(channels):
                queries[m, c] = query[head, begin + m, c] * scale
        sums[:] = np.float32(0)
        totals[:] = np.float32(0)
        peaks[:] = np.float32(-np.inf)
        for start in range(0, tokens, SPAN):
            _scores(queries.ravel(), keys, start, scores)
            here = min(SPAN, tokens - start)
            scores[:, here:] = np.float32(-np.inf)
            for m in range(_QUERIES):
                peaks[m], total, shrinks[m] = softmax_row(scores, m * SPAN, peaks[m])
                totals[m] = totals[m] * shrinks[m] + total
            for m in range(0, _QUERIES, 6):
                _mix(
                    scores, m * SPAN, SPAN, values, start * _CHANNELS, _CHANNELS, here,
                    sums, m * _CHANNELS, _CHANNELS, shrinks, m,
                )  # fmt: skip
        for m in range(count):
            for c in range(channels):
                result[begin + m, head, c] = sums[m, c] / totals[m]


@compiled
def _scores(queries: Any, keys: Any, start: Any, scores: Any) -> None:
    """The scores of all queries to the SPAN keys from `start` on."""
    for panel in range(0, SPAN, _PANEL):
        for m in range(0, _QUERIES, 14):
            _score(
                queries, m * _CHANNELS, _CHANNELS, keys, (start + panel) * _CHANNELS, _PANEL, _CHANNELS,
                scores, m * SPAN + panel, SPAN,
            )  # fmt: skip
