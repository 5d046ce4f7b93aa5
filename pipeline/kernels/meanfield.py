"""Mean-field inference in the fully connected CRF on the CPU (Krähenbühl, Koltun 2011).

One fused pass over the pixels: a pixel's messages are sliced from both kernels' lattices, its marginals are updated,
and their change is splatted at once, so that messages are never stored. After a few iterations nearly all marginals are
constant; a pixel none of whose vertices changed is skipped.

Only pixels near those that may get another label than the first, by their energies, are inferred: kernels reach a few
standard deviations, and a pixel with nothing but the first label (the background) around it keeps it.

A picture is inferred by one thread without the GIL, so that pictures run in parallel with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.config import CrfSettings
from pipeline.kernels.jit import compiled, inlined
from pipeline.kernels.lattice import filter_gain
from pipeline.kernels.permutohedral import Floats, Lattice, Table, build_lattice
from pipeline.kernels.simd import (
    WIDTHS,
    add_scaled,
    exponential,
    largest,
    largest_change,
    load_row,
    no_lanes,
    row_type,
    store_row,
    total,
)

_REACH = 5.0
"""Standard deviations beyond which pixels don't matter to each other: in 40 frames of `samples/walk.mp4` no label is
another one than without it, with 4 one in two million, with 3 one in 60,000; on DAVIS one of 5 million with 5."""
_AHEAD = 0.1
"""Nats by which the first label's energy is below the others' where it is no close call: close ones spread far."""
_WHOLE = 0.9
"""Share of a picture from which all of it is inferred: the kernel over the places of all pixels is kept."""
_LEAST_MESSAGE = 3e-3
"""Change of a message, in nats, below which the pixels that receive it aren't updated."""
_LEAST_MARGINAL = np.float32(1e-5)
"""Change of a marginal below which it isn't splatted yet; it adds up until it is larger."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One pairwise kernel, symmetrically normalised: weight * D^-1/2 F D^-1/2 with D the filter of ones.

    Attributes:
        lattice: F over n pixels, D^-1/2 in its weights.
        gain: the weight times the filter's own gain.
    """

    lattice: Lattice
    gain: np.float32

    @classmethod
    def over(cls, positions: Floats, row: int, weight: float) -> Kernel:
        """The kernel between pixels at float32 [d, n] positions, whose unit is its standard deviation."""
        lattice, gain = build_lattice(positions, row), filter_gain(len(positions))
        lattice.weights[:] /= np.sqrt(lattice.filtered_ones() * np.float32(gain) + np.float32(1e-20))[:, None]
        return cls(lattice, np.float32(gain * weight))


class _Messages:
    """The messages of one kernel, in tables with a row for each vertex, [blocks, m + 1].

    Attributes:
        splatted: the marginals at the vertices.
        blurred: the messages there.
        changed: uint8 [m + 1], 1 where these have changed.
    """

    def __init__(self, kernel: Kernel, blocks: int, lanes: int) -> None:
        """No marginals and no messages yet."""
        self.kernel = kernel
        self.splatted, self.blurred = (
            np.stack([kernel.lattice.new_table(lanes) for _ in range(blocks)]) for _ in range(2)
        )
        self._spare = kernel.lattice.new_table(lanes), kernel.lattice.new_table(lanes)
        self.changed = np.ones(self.splatted.shape[1], dtype=np.uint8)

    def blur(self) -> None:
        least = _LEAST_MESSAGE / max(float(self.kernel.gain), _LEAST_MESSAGE)
        changes = [
            self.kernel.lattice.blur(splatted, blurred, self._spare, least)
            for splatted, blurred in zip(self.splatted, self.blurred, strict=True)
        ]
        self.changed = np.maximum.reduce(changes)

    @property
    def arguments(self) -> tuple[Any, ...]:
        lattice = self.kernel.lattice
        return lattice.vertices, lattice.weights, self.kernel.gain, self.splatted, self.blurred, self.changed


def infer_labels(unary: Floats, image: NDArray[np.uint8], settings: CrfSettings) -> NDArray[np.uint8]:
    """As `pipeline.kernels.infer_labels`."""
    labels, height, width = unary.shape
    reach = int(np.ceil(_REACH * max(settings.gaussian_sxy, settings.bilateral_sxy)))
    others = unary[1:].min(axis=0, initial=np.inf) < unary[0] + np.float32(_AHEAD)
    near = np.flatnonzero(_within(others, min(reach, max(height, width))))
    pixels = near if near.size < _WHOLE * others.size else slice(None)
    result, places = np.zeros(others.shape, dtype=np.uint8), pixel_positions(height, width)[:, pixels]
    if places.size:
        whole = isinstance(pixels, slice)
        gaussian = _gaussian_of_all(height, width, settings) if whole else _gaussian(places, width, settings)
        kernels = _bilateral(places, image.reshape(-1, 3)[pixels], width, settings), gaussian
        result.ravel()[pixels] = _infer(unary.reshape(labels, -1)[:, pixels], kernels, settings)
    return result


def _within(pixels: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels [h, w] at most `reach` rows and columns away from some."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(pixels.view(np.uint8), square) > 0)


def _infer(unary: Floats, kernels: Sequence[Kernel], settings: CrfSettings) -> NDArray[np.uint8]:
    """Labels uint8 [n] of pixels with energies [labels, n], between which the kernels are."""
    lanes = next((width for width in WIDTHS if len(unary) <= width), WIDTHS[-1])
    energies = _in_rows(unary, lanes)
    field = np.zeros_like(energies)
    messages = [_Messages(kernel, len(energies), lanes) for kernel in kernels]
    for _ in range(settings.iterations):
        _update(energies, field, messages[0].arguments, messages[1].arguments)
        for message in messages:
            message.blur()
    _update(energies, field, messages[0].arguments, messages[1].arguments)
    return _best_labels(field)


def _in_rows(unary: Floats, lanes: int) -> Table:
    """Energies [labels, n] as blocks of rows [blocks, n]; labels that pad a row never win."""
    labels, pixels = unary.shape
    rows = np.empty((-(-labels // lanes), pixels), dtype=row_type(lanes))
    for lane in range(rows.shape[0] * lanes):
        rows["lanes"][lane // lanes, :, lane % lanes] = unary[lane] if lane < labels else np.inf
    return rows


def _bilateral(places: Floats, colours: NDArray[np.uint8], row: int, settings: CrfSettings) -> Kernel:
    positions = places / np.float32(settings.bilateral_sxy), colours.T / np.float32(settings.bilateral_srgb)
    return Kernel.over(np.concatenate(positions), row, settings.bilateral_weight)


def _gaussian(places: Floats, row: int, settings: CrfSettings) -> Kernel:
    return Kernel.over(places / np.float32(settings.gaussian_sxy), row, settings.gaussian_weight)


@lru_cache(maxsize=4)
def _gaussian_of_all(height: int, width: int, settings: CrfSettings) -> Kernel:
    """Cached: it is the same for every picture of a size."""
    return _gaussian(pixel_positions(height, width), width, settings)


def pixel_positions(height: int, width: int) -> Floats:
    """float32 [2, h * w], column and row of every pixel."""
    rows, columns = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
    return np.stack([columns, rows])


@compiled
def _update(unary: Any, field: Any, bilateral: Any, gaussian: Any) -> None:
    """Update the marginals of pixels whose messages have changed, and splat the changes."""
    logits = np.zeros(unary.shape[0], unary.dtype)
    for n in range(unary.shape[1]):
        if not (_is_due(n, bilateral) or _is_due(n, gaussian)):
            continue
        best = _logits(n, unary, bilateral, gaussian, logits)
        sums = no_lanes(logits)
        for block in range(unary.shape[0]):
            share = exponential(load_row(logits, block), best)
            sums = add_scaled(sums, np.float32(1), share)
            store_row(logits, block, share)
        norm = np.float32(1) / total(sums)
        for block in range(unary.shape[0]):
            marginal = add_scaled(no_lanes(logits), norm, load_row(logits, block))
            if largest_change(marginal, load_row(field[block], n)) < _LEAST_MARGINAL:
                continue
            change = add_scaled(marginal, np.float32(-1), load_row(field[block], n))
            store_row(field[block], n, marginal)
            _splat(n, block, change, bilateral)
            _splat(n, block, change, gaussian)


@inlined
def _is_due(n: Any, kernel: Any) -> Any:
    """Whether the kernel has changed at a vertex of the pixel."""
    vertices, _, _, _, _, changed = kernel
    due = np.uint8(0)
    for r in range(vertices.shape[1]):
        due |= changed[vertices[n, r]]
    return due != 0


@inlined
def _logits(n: Any, unary: Any, bilateral: Any, gaussian: Any, logits: Any) -> Any:
    """Logits of one pixel (messages minus energies), and their maximum."""
    best = np.float32(-np.inf)
    for block in range(unary.shape[0]):
        value = add_scaled(no_lanes(logits), np.float32(-1), load_row(unary[block], n))
        value = _add_slice(n, block, value, bilateral)
        value = _add_slice(n, block, value, gaussian)
        store_row(logits, block, value)
        best = max(best, largest(value))
    return best


@inlined
def _add_slice(n: Any, block: Any, value: Any, kernel: Any) -> Any:
    vertices, weights, gain, _, blurred, _ = kernel
    message = no_lanes(blurred)
    for r in range(vertices.shape[1]):
        message = add_scaled(message, weights[n, r], load_row(blurred[block], vertices[n, r]))
    return add_scaled(value, gain, message)


@inlined
def _splat(n: Any, block: Any, change: Any, kernel: Any) -> None:
    vertices, weights, _, splatted, _, _ = kernel
    for r in range(vertices.shape[1]):
        vertex = vertices[n, r]
        store_row(splatted[block], vertex, add_scaled(load_row(splatted[block], vertex), weights[n, r], change))


@compiled
def _labels_of(field: Any, best: Any) -> None:
    for n in range(best.size):
        largest_share = np.float32(-1)
        for block in range(field.shape[0]):
            shares = field[block, n]["lanes"]
            for lane in range(shares.size):
                if shares[lane] > largest_share:
                    largest_share = shares[lane]
                    best[n] = block * shares.size + lane


def _best_labels(field: Table) -> NDArray[np.uint8]:
    """The label of the largest marginal of each pixel, uint8 [n]."""
    best = np.empty(field.shape[1], dtype=np.uint8)
    _labels_of(field, best)
    return best
