"""Rows of LANES float32 in one vector register, for kernels that read and write tables row by row.

The compiler's own vectoriser works on loops over many rows; here rows are scattered, and what is side by side is a
row's few values. A row is named by its table and its index; nothing checks that the index is inside.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LANES = 4
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FUSE = ("contract",)


class _Lanes(types.Type):
    """A register of LANES float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


_LANES = _Lanes()


@intrinsic  # type: ignore[untyped-decorator]
def load_row(_typing: Any, table: Any, row: Any) -> Any:
    """The values of one row of a contiguous float32 [rows, LANES] table."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, signature, values), align=4, typ=_VECTOR)

    return _LANES(table, row), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_row(_typing: Any, table: Any, row: Any, lanes: Any) -> Any:
    """Write the values of one row."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, signature, values), align=4)
        return context.get_dummy_value()

    return types.void(table, row, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(_typing: Any, lanes: Any, factor: Any, others: Any) -> Any:
    """`lanes + factor * others`, with a float32 factor."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        product = builder.fmul(_spread(builder, values[1]), values[2], flags=_FUSE)
        return builder.fadd(values[0], product, flags=_FUSE)

    return _LANES(lanes, types.float32, others), generate


@intrinsic  # type: ignore[untyped-decorator]
def no_lanes(_typing: Any) -> Any:
    """Zeros."""

    def generate(_context: Any, _builder: Any, _signature: Any, _values: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return _LANES(), generate


def _address(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    kind, index = signature.args[:2]
    table = context.make_array(kind)(context, builder, values[0])
    row = context.cast(builder, values[1], index, types.intp)
    first = builder.gep(table.data, [builder.mul(row, ir.Constant(row.type, LANES))])
    return builder.bitcast(first, _VECTOR.as_pointer())


def _spread(builder: Any, value: Any) -> Any:
    single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(cgutils.int32_t, 0))
    everywhere = ir.Constant(ir.VectorType(cgutils.int32_t, LANES), [0] * LANES)
    return builder.shuffle_vector(single, ir.Constant(_VECTOR, ir.Undefined), everywhere)
