"""Gaussian filtering over the permutohedral lattice (Adams, Baek, Davis 2010).

Each position lies in one simplex of the lattice A*_d. Its value is splatted onto the d + 1 vertices by barycentric
weights, blurred along the d + 1 axes with (1/2, 1, 1/2), and sliced back. The conventions (scale of the positions,
order of the axes, gain) are in `pipeline.kernels.lattice`.

Compiled for the CPU; `pipeline.kernels.meanfield_torch` has the same in torch. Labels and pictures are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import compiled, inlined
from pipeline.kernels.lattice import axis_scales, axis_steps, key_strides
from pipeline.kernels.simd import WIDTHS, add_scaled, largest_change, load_row, no_lanes, row_type, store_row

_CHUNK = 128
"""Positions that are located together: their intermediate values stay in the L1 cache."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HASH_SHIFT = np.uint64(33)

Floats = NDArray[np.float32]
Table = NDArray[np.void]
"""One row of `pipeline.kernels.simd.row_type` for each vertex."""


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Where n positions lie in a lattice of m occupied vertices; vertex 0 stands for all that aren't occupied.

    Attributes:
        vertices: uint32 [n, d + 1], the corners of each position's simplex.
        weights: float32 [n, d + 1], its barycentric coordinates.
        neighbours: uint32 [d + 1, m + 1, 2], the two neighbours of each vertex along each axis.
    """

    vertices: NDArray[np.uint32]
    weights: Floats
    neighbours: NDArray[np.uint32]

    def new_table(self, lanes: int) -> Table:
        """Zeros at every vertex."""
        return np.zeros(self.neighbours.shape[1], dtype=row_type(lanes))

    def blur(self, splatted: Table, blurred: Table, spare: tuple[Table, Table], least: float) -> NDArray[np.uint8]:
        """Blur a table along every axis.

        Args:
            splatted: stays as it is.
            blurred: an earlier result, or zeros; overwritten.
            spare: two tables for intermediate values; overwritten.
            least: smallest change of a value of `blurred` that counts.

        Returns:
            uint8 [m + 1], 1 where a vertex's values changed.
        """
        source, (target, other) = splatted, spare
        for along in self.neighbours[:-1]:
            _blur(along, source, target)
            source, target, other = target, other, target
        changed = np.zeros(len(blurred), dtype=np.uint8)
        _blur_last(self.neighbours[-1], source, blurred, np.float32(least), changed)
        return changed

    def filtered_ones(self) -> Floats:
        """The filter applied to ones, without its gain, float32 [n]."""
        splatted, blurred, *spare = (self.new_table(WIDTHS[0]) for _ in range(4))
        _splat_ones(self.vertices, self.weights, splatted["lanes"])
        self.blur(splatted, blurred, (spare[0], spare[1]), np.inf)
        sums = np.empty(len(self.vertices), dtype=np.float32)
        _slice_ones(self.vertices, self.weights, blurred["lanes"], sums)
        return sums


def build_lattice(positions: Floats, row: int) -> Lattice:
    """The lattice around float32 [d, n] positions, whose unit is the standard deviation of the filter.

    Args:
        positions: in rows of neighbours, such as a picture's pixels; any order is correct, this one is fast.
        row: positions in a row.
    """
    dims, count = positions.shape
    keys = np.empty((count, dims + 1), dtype=np.int64)
    weights = np.empty((count, dims + 1), dtype=np.float32)
    scales = tuple(np.float32(scale) for scale in axis_scales(dims))
    _locate(positions, scales, np.append(key_strides(dims), 0), keys, weights)
    vertices, occupied, table = _numbered(keys, row)
    neighbours = np.zeros((dims + 1, len(occupied), 2), dtype=np.uint32)
    for step, along in zip(axis_steps(dims), neighbours, strict=True):
        _link(occupied, step, table, along)
    return Lattice(vertices, weights, neighbours)


def _numbered(keys: NDArray[np.int64], row: int) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint32]]:
    """Numbers of the keys, the key of each number (that of 0 is unused), and the hash table from key to number."""
    vertices = np.empty(keys.shape, dtype=np.uint32)
    occupied = np.empty(keys.size + 1, dtype=np.int64)
    # Pictures occupy 0.3 to 2 vertices a pixel: a hash table of that size stays in the L2 cache, and grows if need be.
    size = 1 << max(4, (2 * len(keys) - 1).bit_length())
    while True:
        table = np.zeros(size, dtype=np.uint32)
        number = _number(keys, row, table, occupied, vertices)
        if number:
            return vertices, occupied[:number], table
        size *= 2


@compiled
def _locate(positions: Any, scales: Any, strides: Any, keys: Any, weights: Any) -> None:
    """The keys of the corners of the simplex around each position, and its barycentric coordinates there.

    Each step is a loop over the positions of a chunk, which LLVM vectorises. `scales` is a tuple, so that the number of
    dimensions is a compile-time constant.
    """
    dims = len(scales)
    rest = np.empty((dims + 1, _CHUNK), np.float32)
    steps = np.empty((dims + 1, _CHUNK), np.int64)
    excess = np.empty(_CHUNK, np.int32)
    first = np.empty(_CHUNK, np.int64)
    for begin in range(0, positions.shape[1], _CHUNK):
        count = min(_CHUNK, positions.shape[1] - begin)
        _lift(positions, begin, count, scales, rest)
        _round(rest, strides, count, steps, excess, first)
        _sort(rest, steps, count)
        _turn(rest, steps, excess, count, first)
        _corners(rest, steps, first, strides.sum(), count, keys[begin : begin + count], weights[begin : begin + count])


@compiled
def _lift(positions: Any, begin: Any, count: Any, scales: Any, rest: Any) -> None:
    """Positions on the hyperplane of d + 1 coordinates that add up to zero."""
    last = rest[0]
    last[:] = np.float32(0)
    for i in range(len(scales), 0, -1):
        along, lifted = positions[i - 1], rest[i]
        for p in range(count):
            part = along[begin + p] * scales[i - 1]
            lifted[p] = last[p] - np.float32(i) * part
            last[p] += part


@compiled
def _round(rest: Any, strides: Any, count: Any, steps: Any, excess: Any, first: Any) -> None:
    """Round coordinates to the nearest multiple of d + 1; key and excess of the multiples, and the remainders."""
    whole = np.float32(rest.shape[0])
    excess[:] = np.int32(0)
    first[:] = np.int64(0)
    for i in range(rest.shape[0]):
        left, stride, step = rest[i], strides[i], steps[i]
        for p in range(count):
            above = np.ceil(left[p] / whole)
            below = np.floor(left[p] / whole)
            multiple = above if above * whole - left[p] < left[p] - below * whole else below
            left[p] -= multiple * whole
            excess[p] += np.int32(multiple)
            first[p] += np.int64(np.int32(multiple * whole)) * stride
            step[p] = stride


@compiled
def _sort(rest: Any, steps: Any, count: Any) -> None:
    """Sort each position's remainders, largest first, stably (odd-even transposition sort)."""
    for turn in range(rest.shape[0]):
        for i in range(turn % 2, rest.shape[0] - 1, 2):
            one, other, step, next_step = rest[i], rest[i + 1], steps[i], steps[i + 1]
            for p in range(count):
                a, b, s, t = one[p], other[p], step[p], next_step[p]
                swap = a < b
                one[p] = b if swap else a
                other[p] = a if swap else b
                step[p] = t if swap else s
                next_step[p] = s if swap else t


@compiled
def _turn(rest: Any, steps: Any, excess: Any, count: Any, first: Any) -> None:
    """Project rounded coordinates back onto the hyperplane: those with the largest rounding error are undone."""
    whole = rest.shape[0]
    left = np.empty(whole, np.float32)
    step = np.empty(whole, np.int64)
    for p in range(count):
        if excess[p] == 0:
            continue
        for i in range(whole):
            left[i], step[i] = rest[i, p], steps[i, p]
        for i in range(whole):
            rank = i + excess[p]
            back = whole if rank < 0 else (-whole if rank >= whole else 0)
            rest[rank + back, p] = left[i] - np.float32(back)
            steps[rank + back, p] = step[i]
            first[p] += back * step[i]


@compiled
def _corners(rest: Any, steps: Any, first: Any, all_steps: Any, count: Any, keys: Any, weights: Any) -> None:
    """From corner to corner the coordinate of the highest rank that is left falls by d, the others grow by 1."""
    whole = rest.shape[0]
    share = np.float32(1) / np.float32(whole)
    for p in range(count):
        key = first[p]
        keys[p, 0] = key
        weights[p, 0] = np.float32(1) + (rest[whole - 1, p] - rest[0, p]) * share
        for r in range(1, whole):
            key += all_steps - whole * steps[whole - r, p]
            keys[p, r] = key
            weights[p, r] = (rest[whole - 1 - r, p] - rest[whole - r, p]) * share


@inlined
def _slot(key: Any, table: Any, occupied: Any) -> Any:
    """The slot of a key in the hash table, or the free one where it belongs."""
    mask = np.uint64(table.size - 1)
    slot = ((np.uint64(key) * _GOLDEN) >> _HASH_SHIFT) & mask
    while table[slot] != 0 and occupied[table[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@compiled
def _number(keys: Any, row: Any, table: Any, occupied: Any, vertices: Any) -> Any:
    """Number the keys from 1 in the order of appearance; returns count + 1, or 0 where the table is too small."""
    number = 1
    for n in range(keys.shape[0]):
        before, above = max(n - 1, 0), max(n - row, 0)
        for r in range(keys.shape[1]):
            key = keys[n, r]
            # The pixels to the left and above often lie in the same simplex.
            if n > 0 and keys[before, r] == key:
                vertices[n, r] = vertices[before, r]
            elif n > 0 and keys[above, r] == key:
                vertices[n, r] = vertices[above, r]
            else:
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
    """Link both directions of one axis at once: the next of a vertex has it as its previous."""
    for vertex in range(1, occupied.size):
        following = table[_slot(occupied[vertex] + step, table, occupied)]
        if following != 0:
            neighbours[vertex, 0] = following
            neighbours[following, 1] = vertex


@inlined
def _blurred_row(neighbours: Any, table: Any, vertex: Any) -> Any:
    half = np.float32(0.5)
    value = add_scaled(load_row(table, vertex), half, load_row(table, neighbours[vertex, 0]))
    return add_scaled(value, half, load_row(table, neighbours[vertex, 1]))


@compiled
def _blur(neighbours: Any, table: Any, result: Any) -> None:
    store_row(result, 0, no_lanes(result))
    for vertex in range(1, table.size):
        store_row(result, vertex, _blurred_row(neighbours, table, vertex))


@compiled
def _blur_last(neighbours: Any, table: Any, result: Any, least: Any, changed: Any) -> None:
    for vertex in range(1, table.size):
        row = _blurred_row(neighbours, table, vertex)
        changed[vertex] = largest_change(row, load_row(result, vertex)) >= least
        store_row(result, vertex, row)


@compiled
def _splat_ones(vertices: Any, weights: Any, table: Any) -> None:
    for n in range(vertices.shape[0]):
        for r in range(vertices.shape[1]):
            table[vertices[n, r], 0] += weights[n, r]


@compiled
def _slice_ones(vertices: Any, weights: Any, table: Any, sums: Any) -> None:
    for n in range(vertices.shape[0]):
        value = np.float32(0)
        for r in range(vertices.shape[1]):
            value += weights[n, r] * table[vertices[n, r], 0]
        sums[n] = value
