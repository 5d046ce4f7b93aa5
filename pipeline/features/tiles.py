"""Small matrix products held in vector registers, and what is done to their values before they are stored.

A compiler doesn't find by itself how many rows and columns of a product to hold in registers; here it is said. Arrays
are contiguous and are given with the index of their first element; nothing checks that what is read is inside. An
array of int32 holds pairs of bfloat16: two values that follow each other along the depth, or two of a row of C.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, Literal

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pipeline.features.registers import (
    FUSE,
    INDEX,
    LANES,
    VECTOR,
    constant,
    fused,
    fused_pairs,
    gelu,
    load,
    load_ints,
    spread,
    store,
    store_halves,
)

Ending = Literal["none", "rescale", "bias", "gelu", "residual"]

_ARGUMENTS = ("a", "a_first", "a_row", "b", "b_first", "b_row", "depth", "c", "c_first", "c_row")
_MORE_ARGUMENTS: dict[Ending, tuple[str, ...]] = {
    "none": (),
    "rescale": ("factors", "first"),
    "bias": ("row", "first"),
    "gelu": ("row", "first"),
    "residual": ("row", "first", "scales", "r", "r_first", "r_row"),
}

Tile = list[list[Any]]
"""Registers [row, vector]."""


def product_tile(rows: int, vectors: int, ending: Ending = "none") -> Any:
    """A function that computes rows x (vectors * LANES) values of a matrix product, all held in registers.

    The function is `tile(a, a_first, a_row, b, b_first, b_row, depth, c, c_first, c_row)`; rows of A, B and C are
    `*_row` values apart. An ending takes more behind:

    - none: C = A @ B
    - rescale, with `factors, first`, a factor for each row: C = A @ B + factors * C
    - bias, with `row, first`: C = A @ B + row
    - gelu, with `row, first`: C = GELU(A @ B + row)
    - residual, with `row, first, scales, r, r_first, r_row`: C = R + scales * (A @ B + row); scales from `first` on too
    """

    def tile(_typing: Any, *given: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            tables = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            a_rows, c_rows = (_rows(builder, tables[start : start + 3], rows) for start in (0, 7))
            step = _pairs_step if _in_pairs(signature.args[0]) else _step
            sums = _accumulate(builder, a_rows, tables[3:6], tables[6], vectors, step)
            write = store_halves if _in_pairs(signature.args[7]) else store
            # Only behind the sums, so that a sum over many tiles is a sum of sums: it rounds less than a single chain.
            for pointer, row in zip(c_rows, _ENDINGS[ending](builder, sums, c_rows, *tables[10:]), strict=True):
                for column, total in enumerate(row):
                    write(builder, total, pointer, column * LANES)
            return context.get_dummy_value()

        kinds = [kind if isinstance(kind, types.Array) else types.intp for kind in given]
        return types.void(*kinds), generate

    # The number of arguments must be known, and depends on the ending.
    names = ["typing", *_ARGUMENTS, *_MORE_ARGUMENTS[ending]]
    tile.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])  # type: ignore[attr-defined]
    return intrinsic(tile)


def _rows(builder: Any, place: list[Any], rows: int) -> list[Any]:
    """Pointers to the first value of each row of a table that is given with its first index and its rows' distance."""
    table, first, step = place
    offsets = [builder.add(first, builder.mul(step, ir.Constant(INDEX, row))) for row in range(rows)]
    return [builder.gep(table, [offset]) for offset in offsets]


def _as_they_are(_builder: Any, sums: Tile, _c_rows: list[Any]) -> Tile:
    return sums


def _with_rescaled(builder: Any, sums: Tile, c_rows: list[Any], table: Any, first: Any) -> Tile:
    factors, results = builder.gep(table, [first]), []
    for index, (start, row) in enumerate(zip(c_rows, sums, strict=True)):
        scale = spread(builder, builder.load(builder.gep(factors, [ir.Constant(INDEX, index)]), align=4))
        there = [load(builder, start, i * LANES) for i in range(len(row))]
        results.append([fused(builder, old, scale, new) for old, new in zip(there, row, strict=True)])
    return results


def _with_bias(builder: Any, sums: Tile, _c_rows: list[Any], table: Any, first: Any) -> Tile:
    offsets = _columns(builder, table, first, len(sums[0]))
    return [[builder.fadd(total, offset) for total, offset in zip(row, offsets, strict=True)] for row in sums]


def _with_gelu(builder: Any, sums: Tile, c_rows: list[Any], table: Any, first: Any) -> Tile:
    return [[gelu(builder, value) for value in row] for row in _with_bias(builder, sums, c_rows, table, first)]


def _onto_residual(builder: Any, sums: Tile, c_rows: list[Any], table: Any, first: Any, *more: Any) -> Tile:
    scales, *residual = more
    branches = _with_bias(builder, sums, c_rows, table, first)
    factors = _columns(builder, scales, first, len(sums[0]))
    results = []
    for start, row in zip(_rows(builder, residual, len(sums)), branches, strict=True):
        there = [load(builder, start, i * LANES) for i in range(len(row))]
        results.append([fused(builder, *three) for three in zip(row, factors, there, strict=True)])
    return results


def _columns(builder: Any, table: Any, first: Any, vectors: int) -> list[Any]:
    """A value for each column, from `first` on."""
    start = builder.gep(table, [first])
    return [load(builder, start, i * LANES) for i in range(vectors)]


_ENDINGS: dict[Ending, Callable[..., Tile]] = {
    "none": _as_they_are,
    "rescale": _with_rescaled,
    "bias": _with_bias,
    "gelu": _with_gelu,
    "residual": _onto_residual,
}


def _in_pairs(table: types.Array) -> bool:
    return bool(table.dtype == types.int32)


def _accumulate(
    builder: Any, a_rows: list[Any], b: list[Any], depth: Any, vectors: int, step: Callable[..., Tile]
) -> Tile:
    """The loop over the depth: one row of B times one value, or pair, of each row of A."""
    before = builder.block
    loop, done = builder.append_basic_block("depth"), builder.append_basic_block("stored")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(INDEX)
    k.add_incoming(ir.Constant(INDEX, 0), before)
    sums = [[_zeros_from(builder, before) for _ in range(vectors)] for _ in a_rows]
    start = builder.gep(b[0], [builder.add(b[1], builder.mul(k, b[2]))])
    results = step(builder, sums, [builder.gep(pointer, [k]) for pointer in a_rows], start)
    following = builder.add(k, ir.Constant(INDEX, 1))
    k.add_incoming(following, loop)
    for row, result in zip(sums, results, strict=True):
        for phi, value in zip(row, result, strict=True):
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
    builder.position_at_end(done)
    return results


def _step(builder: Any, sums: Tile, factors: list[Any], start: Any) -> Tile:
    columns, results = [load(builder, start, i * LANES) for i in range(len(sums[0]))], []
    for pointer, row in zip(factors, sums, strict=True):
        factor = spread(builder, builder.load(pointer, align=4))
        products = [builder.fmul(factor, column, flags=FUSE) for column in columns]
        results.append([builder.fadd(old, new, flags=FUSE) for old, new in zip(row, products, strict=True)])
    return results


def _pairs_step(builder: Any, sums: Tile, factors: list[Any], start: Any) -> Tile:
    columns, results = [load_ints(builder, start, i * LANES) for i in range(len(sums[0]))], []
    for pointer, row in zip(factors, sums, strict=True):
        factor = spread(builder, builder.load(pointer, align=4))
        results.append([fused_pairs(builder, factor, column, old) for old, column in zip(row, columns, strict=True)])
    return results


def _zeros_from(builder: Any, block: Any) -> Any:
    """A register that holds zeros where the loop is entered from `block`."""
    phi = builder.phi(VECTOR)
    phi.add_incoming(constant(0.0), block)
    return phi
