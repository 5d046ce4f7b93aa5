"""What is done to a whole row of a table in vector registers: the softmax's weights, the layer norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from pipeline.features.registers import (
    INDEX,
    INT,
    LANES,
    VECTOR,
    add,
    constant,
    fold,
    fused,
    larger,
    load,
    power,
    spread,
    store,
    store_halves,
    tree,
)

SPAN = 8 * LANES
"""Values of a row that `softmax_row` takes at once."""


@intrinsic  # type: ignore[untyped-decorator]
def softmax_row(_typing: Any, table: Any, first: Any, peak: Any) -> Any:
    """Replace SPAN values x by 2^(x - new peak); returns the new peak, the sum, and 2^(peak - new peak).

    The new peak is the largest of `peak` and the values.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        start, offsets = builder.gep(data, [values[1]]), range(0, SPAN, LANES)
        loaded = [load(builder, start, offset) for offset in offsets]
        largest = fold(builder, tree(builder, loaded, larger), larger)
        largest = larger(builder, largest, spread(builder, values[2]))
        powers = [power(builder, builder.fsub(value, largest)) for value in loaded]
        for offset, value in zip(offsets, powers, strict=True):
            store(builder, value, start, offset)
        total = fold(builder, tree(builder, powers, add), add)
        shrink = power(builder, builder.fsub(spread(builder, values[2]), largest))
        three = [builder.extract_element(each, ir.Constant(INT, 0)) for each in (largest, total, shrink)]
        return context.make_tuple(builder, signature.return_type, three)

    found = types.UniTuple(types.float32, 3)  # type: ignore[attr-defined]
    return found(table, types.intp, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def norm_row(
    _typing: Any, x: Any, first: Any, width: Any, weight: Any, bias: Any, eps: Any, out: Any, out_first: Any
) -> Any:
    """The layer norm of `width` values, a multiple of LANES, from `first` on, into `out` from `out_first` on.

    Where `out` is of int32, it gets pairs of bfloat16.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, weight, bias, out = (
            context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 3, 4, 6)
        )
        source, target = builder.gep(x, [values[1]]), builder.gep(out, [values[7]])
        count, halves = builder.sitofp(values[2], ir.FloatType()), signature.args[6].dtype == types.int32

        def mean_of(term: Callable[[Any], Any]) -> Any:
            total = cgutils.alloca_once_value(builder, constant(0.0))
            with cgutils.for_range_slice(builder, _ZERO, values[2], _STEP, inc=True) as (offset, _):
                value = load(builder, builder.gep(source, [offset]))
                builder.store(builder.fadd(builder.load(total), term(value)), total)
            return builder.fdiv(fold(builder, builder.load(total), add), spread(builder, count))

        centre = mean_of(lambda value: value)
        variance = mean_of(lambda value: _squared(builder, builder.fsub(value, centre)))
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.sqrt.v{LANES}f32"
        )
        deviation = builder.call(root, [builder.fadd(variance, spread(builder, values[5]))])
        scale = builder.fdiv(constant(1.0), deviation)
        with cgutils.for_range_slice(builder, _ZERO, values[2], _STEP, inc=True) as (offset, _):
            centred = builder.fsub(load(builder, builder.gep(source, [offset])), centre)
            factor, shift = (load(builder, builder.gep(each, [offset])) for each in (weight, bias))
            normed = fused(builder, builder.fmul(centred, scale), factor, shift)
            if halves:
                store_halves(builder, normed, builder.gep(target, [builder.lshr(offset, ir.Constant(INDEX, 1))]))
            else:
                store(builder, normed, builder.gep(target, [offset]))
        return context.get_dummy_value()

    kinds = (x, types.intp, types.intp, weight, bias, types.float32, out, types.intp)
    return types.void(*kinds), generate


_ZERO, _STEP = ir.Constant(INDEX, 0), ir.Constant(INDEX, LANES)


def _squared(builder: Any, value: Any) -> Any:
    return builder.fmul(value, value)
