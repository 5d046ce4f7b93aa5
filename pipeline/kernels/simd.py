"""SIMD vectors of float32 as numba intrinsics, for kernels that read and write tables row by row.

LLVM vectorises loops over many rows; here rows are scattered (the lattice is sparse), and one vector holds the labels
of a row. A table is a contiguous array of `row_type(lanes)`, so that its dtype has the row's width. A row is addressed
by table and index, without bounds checks. LLVM maps the widths to SSE, AVX, AVX-512 or NEON, whatever the CPU has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

WIDTHS = (4, 8, 16)
"""Row widths: one vector register, half of one, or two, on any CPU."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FUSE = ("contract",)
_NEGLIGIBLE = -60.0
"""exp of less is 0: such terms change no sum, and denormals are slow on some CPUs."""


class _Lanes(types.Type):
    """A vector of float32."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"float32x{width}")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(_FLOAT, kind.width))


def row_type(lanes: int) -> np.dtype[Any]:
    """The type of a table's rows; `table["lanes"]` is float32 [rows, lanes]."""
    return np.dtype([("lanes", np.float32, (lanes,))])


@intrinsic  # type: ignore[untyped-decorator]
def load_row(_typing: Any, table: Any, row: Any) -> Any:
    """The values of one row of a table."""
    lanes = _lanes_of(table)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = context.get_value_type(lanes)
        return builder.load(_address(context, builder, signature, values, vector), align=4, typ=vector)

    return lanes(table, row), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_row(_typing: Any, table: Any, row: Any, lanes: Any) -> Any:
    """Write the values of one row."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, signature, values, values[2].type), align=4)
        return context.get_dummy_value()

    return types.void(table, row, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def no_lanes(_typing: Any, table: Any) -> Any:
    """Zeros, as many as a row of the table has."""
    lanes = _lanes_of(table)

    def generate(context: Any, _builder: Any, _signature: Any, _values: Any) -> Any:
        return _constant(context.get_value_type(lanes), 0.0)

    return lanes(table), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(_typing: Any, lanes: Any, factor: Any, others: Any) -> Any:
    """`lanes + factor * others`, with a float32 factor."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        product = builder.fmul(_spread(builder, values[1], values[0].type), values[2], flags=_FUSE)
        return builder.fadd(values[0], product, flags=_FUSE)

    return lanes(lanes, types.float32, others), generate


@intrinsic  # type: ignore[untyped-decorator]
def largest(_typing: Any, lanes: Any) -> Any:
    """The largest of the values."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _reduced(builder, values[0], _maximum)

    return types.float32(lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def total(_typing: Any, lanes: Any) -> Any:
    """The sum of the values, in a fixed order."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _reduced(builder, values[0], lambda builder, one, other: builder.fadd(one, other))

    return types.float32(lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def largest_change(_typing: Any, lanes: Any, others: Any) -> Any:
    """The largest absolute difference of two rows."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        change = builder.fsub(values[0], values[1])
        back = builder.fsub(values[1], values[0])
        return _reduced(builder, _maximum(builder, change, back), _maximum)

    return types.float32(lanes, others), generate


@intrinsic  # type: ignore[untyped-decorator]
def exponential(_typing: Any, lanes: Any, shift: Any) -> Any:
    """exp(lanes - shift), none of which is positive: 2^z exp(r) by its series."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        vector = values[0].type
        x = builder.fsub(values[0], _spread(builder, values[1], vector))
        counts = builder.fcmp_ordered(">", x, _constant(vector, _NEGLIGIBLE))
        x = builder.select(counts, x, _constant(vector, _NEGLIGIBLE))
        scaled = builder.fadd(builder.fmul(x, _constant(vector, 1 / np.log(2))), _constant(vector, 0.5))
        z = _floor(builder, scaled)
        r = builder.fadd(builder.fmul(z, _constant(vector, -np.log(2)), flags=_FUSE), x, flags=_FUSE)
        series = _constant(vector, 1 / 5040)
        for coefficient in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1, 1):
            product = builder.fmul(series, r, flags=_FUSE)
            series = builder.fadd(product, _constant(vector, coefficient), flags=_FUSE)
        whole = ir.VectorType(_INT, vector.count)
        exponent = builder.add(builder.fptosi(z, whole), ir.Constant(whole, [127] * vector.count))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(whole, [23] * vector.count)), vector)
        return builder.select(counts, builder.fmul(series, power), _constant(vector, 0.0))

    return lanes(lanes, types.float32), generate


def _lanes_of(table: Any) -> _Lanes:
    return _Lanes(table.dtype.typeof("lanes").shape[0])


def _address(context: Any, builder: Any, signature: Any, values: Any, vector: Any) -> Any:
    kind, index = signature.args[:2]
    data = builder.bitcast(context.make_array(kind)(context, builder, values[0]).data, _FLOAT.as_pointer())
    row = context.cast(builder, values[1], index, types.intp)
    first = builder.gep(data, [builder.mul(row, ir.Constant(row.type, vector.count))], source_etype=_FLOAT)
    return builder.bitcast(first, vector.as_pointer())


def _constant(vector: Any, value: float) -> Any:
    return ir.Constant(vector, [float(np.float32(value))] * vector.count)


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT, 0))
    everywhere = ir.Constant(ir.VectorType(_INT, vector.count), [0] * vector.count)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), everywhere)


def _maximum(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _reduced(builder: Any, value: Any, combine: Any) -> Any:
    """Combine halves of a vector until one value is left."""
    count = value.type.count
    while count > 1:
        count //= 2
        lower, upper = (ir.Constant(ir.VectorType(_INT, count), [*range(a, a + count)]) for a in (0, count))
        nothing = ir.Constant(value.type, ir.Undefined)
        value = combine(
            builder, builder.shuffle_vector(value, nothing, lower), builder.shuffle_vector(value, nothing, upper)
        )
    return builder.extract_element(value, ir.Constant(_INT, 0))


def _floor(builder: Any, value: Any) -> Any:
    name = f"llvm.floor.v{value.type.count}f32"
    kind = ir.FunctionType(value.type, [value.type])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [value])
