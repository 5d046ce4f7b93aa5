"""Gaussian filtering of many features at once over the permutohedral lattice (Adams, Baek, Davis, 2010).

Each position lies in one simplex of the lattice A*_d. Its value is splatted onto the d + 1 vertices by barycentric
weights, blurred along the d + 1 axes with (1/2, 1, 1/2), and sliced back. The conventions (scale of the positions,
order of the axes, gain) are in `pipeline.refine.lattice`.

Compiled for the processor; `pipeline.refine.meanfield_torch` holds the same as plain tensor operations.
It knows nothing of labels or pictures.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compiled import compiled
from pipeline.refine.lanes import LANES, add_scaled, load_row, no_lanes, store_row
from pipeline.refine.lattice import axis_scales, axis_steps, key_strides

_BANDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HASH_SHIFT = np.uint64(33)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Where n positions lie in a lattice of m occupied vertices; vertex 0 stands for every one that isn't occupied.

    Attributes:
        vertices: uint32 [n, d + 1], the corners of each position's simplex.
        weights: float32 [n, d + 1], its barycentric coordinates.
        neighbours: uint32 [d + 1, m + 1, 2], the two neighbours of each vertex along each axis.
    """

    vertices: NDArray[np.uint32]
    weights: Floats
    neighbours: NDArray[np.uint32]
    _spare: list[tuple[Floats, Floats]] = field(default_factory=list, init=False, repr=False)
    """Tables of values, one pair for each thread at work; the system's fresh pages cost as much as the blur."""

    def filter_into(self, values: Floats, gain_in: Floats, gain_out: Floats, result: Floats) -> None:
        """Write gain_out * filter(gain_in * values) into `result`.

        Args:
            values: float32 [n, LANES].
            gain_in: float32 [n].
            gain_out: float32 [n].
            result: float32 [n, LANES], overwritten.
        """
        try:
            table, other = self._spare.pop()
        except IndexError:
            table, other = np.zeros((2, self.neighbours.shape[1], LANES), dtype=np.float32)
        _splat(values, gain_in, self.vertices, self.weights, table)
        for along in self.neighbours:
            _blur(along, table, other)
            table, other = other, table
        _slice(table, gain_out, self.vertices, self.weights, result)
        self._spare.append((table, other))


def build_lattice(positions: Floats, pool: Executor) -> Lattice:
    """The lattice around float32 [n, d] positions, whose unit is the standard deviation of the filter."""
    count, dims = positions.shape
    keys = np.empty((count, dims + 1), dtype=np.int64)
    weights = np.empty((count, dims + 1), dtype=np.float32)
    scales = tuple(np.float32(scale) for scale in axis_scales(dims))
    strides = key_strides(dims)
    bands = np.array_split(np.arange(count), _BANDS)
    edges = [(int(band[0]), int(band[-1]) + 1) for band in bands if len(band)]
    _run(pool, _locate, [(positions[a:b], scales, strides, keys[a:b], weights[a:b]) for a, b in edges])
    vertices, occupied, table = _numbered(keys)
    neighbours = np.zeros((dims + 1, len(occupied), 2), dtype=np.uint32)
    steps = [int(step) for step in axis_steps(dims)]
    _run(pool, _link, [(occupied, step, table, along) for step, along in zip(steps, neighbours, strict=True)])
    return Lattice(vertices, weights, neighbours)


def _run(pool: Executor, kernel: Any, calls: list[tuple[Any, ...]]) -> None:
    for _ in pool.map(lambda arguments: kernel(*arguments), calls):
        pass


def _numbered(keys: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint32]]:
    """Numbers of the keys, the key of each number (that of 0 is unused), and the hash table from key to number."""
    vertices = np.empty(keys.shape, dtype=np.uint32)
    occupied = np.empty(keys.size + 1, dtype=np.int64)
    # Pictures occupy 0.3 to 2 vertices a pixel: a table for that many stays in the cache, and grows when need be.
    size = 1 << max(4, (2 * len(keys) - 1).bit_length())
    while True:
        table = np.zeros(size, dtype=np.uint32)
        number = _number(keys, table, occupied, vertices)
        if number:
            return vertices, occupied[:number], table
        size *= 2


@compiled
def _locate(positions: Any, scales: Any, strides: Any, keys: Any, weights: Any) -> None:
    """The keys of the corners of the simplex around each position, and its barycentric coordinates there.

    `scales` is a tuple, so that the number of dimensions is known to the compiler.
    """
    dims = len(scales)
    share = np.float32(1) / np.float32(dims + 1)
    step = strides.sum()
    rest = np.empty(dims + 1, np.float32)
    origin = np.empty(dims + 1, np.int64)
    ranked = np.empty(dims + 1, np.int64)
    for n in range(positions.shape[0]):
        _lift(positions[n], scales, rest)
        _find_simplex(rest, origin, ranked)
        key = np.int64(0)
        for i in range(dims):
            key += origin[i] * strides[i]
        keys[n, 0] = key
        weights[n, 0] = np.float32(1) + (rest[ranked[dims]] - rest[ranked[0]]) * share
        # From corner to corner the coordinate of the highest rank that is left falls by d, the others grow by 1.
        for r in range(1, dims + 1):
            axis = ranked[dims + 1 - r]
            key += step - ((dims + 1) * strides[axis] if axis < dims else 0)
            keys[n, r] = key
            weights[n, r] = (rest[ranked[dims - r]] - rest[axis]) * share


@compiled
def _lift(position: Any, scales: Any, lifted: Any) -> None:
    """A position on the hyperplane of d + 1 coordinates that add up to zero."""
    total = np.float32(0)
    for i in range(len(scales), 0, -1):
        part = position[i - 1] * scales[i - 1]
        lifted[i] = total - np.float32(i) * part
        total += part
    lifted[0] = total


@compiled
def _find_simplex(rest: Any, origin: Any, ranked: Any) -> None:
    """Split coordinates into the simplex' first corner and what is left over, whose axes are ranked, largest first."""
    whole = rest.size
    rank = np.zeros(whole, np.int64)
    excess = np.int64(0)
    for i in range(whole):
        above = np.float32(math.ceil(rest[i] / np.float32(whole)))
        below = np.float32(math.floor(rest[i] / np.float32(whole)))
        up = above * np.float32(whole) - rest[i] < rest[i] - below * np.float32(whole)
        multiple = np.int64(above if up else below)
        excess += multiple
        origin[i] = multiple * whole
        rest[i] -= np.float32(origin[i])
    for i in range(whole):
        for j in range(i + 1, whole):
            behind = np.int64(rest[i] < rest[j])
            rank[i] += behind
            rank[j] += 1 - behind
    # Rounding may have left the hyperplane: the coordinates that it moved furthest go back.
    for i in range(whole):
        shifted = rank[i] + excess
        back = whole if shifted < 0 else (-whole if shifted >= whole else 0)
        origin[i] += back
        rest[i] -= np.float32(back)
        ranked[shifted + back] = i


@compiled
def _slot(key: Any, table: Any, occupied: Any) -> Any:
    """The slot of a key in the hash table, or the free one where it belongs."""
    mask = np.uint64(table.size - 1)
    slot = ((np.uint64(key) * _GOLDEN) >> _HASH_SHIFT) & mask
    while table[slot] != 0 and occupied[table[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@compiled
def _number(keys: Any, table: Any, occupied: Any, vertices: Any) -> Any:
    """Number the keys from 1 in the order of their appearance; how many and one, or 0 where the table is too small."""
    number = 1
    for n in range(keys.shape[0]):
        for r in range(keys.shape[1]):
            key = keys[n, r]
            # The pixel before often lies in the same simplex.
            if n > 0 and keys[n - 1, r] == key:
                vertices[n, r] = vertices[n - 1, r]
                continue
            slot = _slot(key, table, occupied)
            if table[slot] == 0:
                if 4 * number > 3 * table.size:
                    return 0
                table[slot] = number
                occupied[number] = key
                number += 1
            vertices[n, r] = table[slot]
    return number


@compiled
def _link(occupied: Any, step: Any, table: Any, neighbours: Any) -> None:
    """Both directions of one axis at once: who is my next has me as its previous."""
    for vertex in range(1, occupied.size):
        following = table[_slot(occupied[vertex] + step, table, occupied)]
        if following != 0:
            neighbours[vertex, 0] = following
            neighbours[following, 1] = vertex


@compiled
def _splat(values: Any, gain: Any, vertices: Any, weights: Any, table: Any) -> None:
    table[:] = np.float32(0)
    for n in range(vertices.shape[0]):
        value = load_row(values, n)
        for r in range(vertices.shape[1]):
            vertex = vertices[n, r]
            store_row(table, vertex, add_scaled(load_row(table, vertex), weights[n, r] * gain[n], value))


@compiled
def _blur(neighbours: Any, table: Any, result: Any) -> None:
    half = np.float32(0.5)
    for vertex in range(1, table.shape[0]):
        value = add_scaled(load_row(table, vertex), half, load_row(table, neighbours[vertex, 0]))
        store_row(result, vertex, add_scaled(value, half, load_row(table, neighbours[vertex, 1])))


@compiled
def _slice(table: Any, gain: Any, vertices: Any, weights: Any, result: Any) -> None:
    for n in range(vertices.shape[0]):
        value = no_lanes()
        for r in range(vertices.shape[1]):
            value = add_scaled(value, weights[n, r] * gain[n], load_row(table, vertices[n, r]))
        store_row(result, n, value)
