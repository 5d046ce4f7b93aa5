"""Small matrix products and the softmax of a row, in vector registers of LANES float32.

A compiler doesn't find by itself how many rows and columns of a product to hold in registers; here it is said. Arrays
are contiguous and are given with the index of their first element; nothing checks that what is read is inside.
"""

from __future__ import annotations

from typing import Any, Literal

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16
SPAN = 8 * LANES
"""Values of a row that `softmax_row` takes at once."""

Ending = Literal["none", "bias", "rescale"]

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_INDEX = ir.IntType(64)
_FUSE = ("contract",)
_SMALLEST = -126.0
"""2 to this power is the smallest normal number; what is less counts as this."""

# 2^r between -1/2 and 1/2: least squares of the relative error, at most 2.2e-9 of it.
_POWERS = (0.693147205577, 0.240226484623, 0.0555032903515, 0.00961837325135, 0.00133998482907, 0.000153707048159)


def product_tile(rows: int, vectors: int, ending: Ending = "none") -> Any:
    """A function that computes rows x (vectors * LANES) values of a matrix product, all held in registers.

    The function is `tile(a, a_first, a_row, b, b_first, b_row, depth, c, c_first, c_row)`; rows of A, B and C are
    `*_row` values apart. With the ending `bias` it takes `row, first` behind: C = A @ B + row. With `rescale` it takes
    `factors, first` behind, a factor for each row: C = A @ B + factors * C.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tables = [context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 3, 7)]
        a_rows = _rows(builder, tables[0], values[1], values[2], rows)
        c_rows = _rows(builder, tables[2], values[8], values[9], rows)
        sums = _accumulate(builder, a_rows, (tables[1], *values[4:6]), values[6], vectors)
        # Only behind the sums, so that a sum over many tiles is a sum of sums, which rounds less than a single chain.
        if ending != "none":
            table = context.make_array(signature.args[10])(context, builder, values[10]).data
            add = _with_bias if ending == "bias" else _with_rescaled
            sums = add(builder, c_rows, sums, builder.gep(table, [values[11]]))
        for pointer, row in zip(c_rows, sums, strict=True):
            for column, total in enumerate(row):
                builder.store(total, _vector_at(builder, pointer, column * LANES), align=4)
        return context.get_dummy_value()

    def typed(a: Any, b: Any, c: Any, *more: Any) -> Any:
        place = (types.intp, types.intp)
        return types.void(a, *place, b, *place, types.intp, c, *place, *more), generate

    if ending == "none":

        @intrinsic  # type: ignore[untyped-decorator]
        def tile(
            _typing: Any, a: Any, a1: Any, a2: Any, b: Any, b1: Any, b2: Any, k: Any, c: Any, c1: Any, c2: Any
        ) -> Any:
            return typed(a, b, c)

        return tile

    @intrinsic  # type: ignore[untyped-decorator]
    def ending_tile(
        _typing: Any, a: Any, a1: Any, a2: Any, b: Any, b1: Any, b2: Any, k: Any, c: Any, c1: Any, c2: Any,
        d: Any, d1: Any,
    ) -> Any:  # fmt: skip
        return typed(a, b, c, d, types.intp)

    return ending_tile


@intrinsic  # type: ignore[untyped-decorator]
def softmax_row(_typing: Any, table: Any, first: Any, peak: Any) -> Any:
    """Replace SPAN values x by 2^(x - new peak); returns the new peak, the sum, and 2^(peak - new peak).

    The new peak is the largest of `peak` and the values.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        start = builder.gep(data, [values[1]])
        places = [_vector_at(builder, start, i * LANES) for i in range(SPAN // LANES)]
        loaded = [builder.load(place, align=4) for place in places]
        largest = _fold(builder, _tree(builder, loaded, _larger), _larger)
        largest = _larger(builder, largest, _spread(builder, values[2]))
        powers = [_power(builder, builder.fsub(value, largest)) for value in loaded]
        for power, place in zip(powers, places, strict=True):
            builder.store(power, place, align=4)
        total = _fold(builder, _tree(builder, powers, _sum), _sum)
        shrink = _power(builder, builder.fsub(_spread(builder, values[2]), largest))
        three = [builder.extract_element(each, ir.Constant(_INT, 0)) for each in (largest, total, shrink)]
        return context.make_tuple(builder, signature.return_type, three)

    found = types.UniTuple(types.float32, 3)  # type: ignore[attr-defined]
    return found(table, types.intp, types.float32), generate


def _rows(builder: Any, table: Any, first: Any, step: Any, rows: int) -> list[Any]:
    """Pointers to the first value of each row."""
    offsets = [builder.add(first, builder.mul(step, ir.Constant(_INDEX, row))) for row in range(rows)]
    return [builder.gep(table, [offset]) for offset in offsets]


def _with_bias(builder: Any, _rows: list[Any], sums: list[list[Any]], bias: Any) -> list[list[Any]]:
    offsets = [builder.load(_vector_at(builder, bias, i * LANES), align=4) for i in range(len(sums[0]))]
    return [[builder.fadd(total, offset) for total, offset in zip(row, offsets, strict=True)] for row in sums]


def _with_rescaled(builder: Any, rows: list[Any], sums: list[list[Any]], factors: Any) -> list[list[Any]]:
    results = []
    for index, (start, row) in enumerate(zip(rows, sums, strict=True)):
        scale = _spread(builder, builder.load(builder.gep(factors, [ir.Constant(_INDEX, index)]), align=4))
        there = [builder.load(_vector_at(builder, start, i * LANES), align=4) for i in range(len(row))]
        scaled = [builder.fmul(each, scale, flags=_FUSE) for each in there]
        results.append([builder.fadd(new, old, flags=_FUSE) for new, old in zip(row, scaled, strict=True)])
    return results


def _accumulate(builder: Any, a_rows: list[Any], b: tuple[Any, Any, Any], depth: Any, vectors: int) -> list[list[Any]]:
    """The loop over the depth: one row of B times one value of each row of A."""
    before = builder.block
    loop, done = builder.append_basic_block("depth"), builder.append_basic_block("stored")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INDEX)
    k.add_incoming(ir.Constant(_INDEX, 0), before)
    sums = [[_zeros_from(builder, before) for _ in range(vectors)] for _ in a_rows]
    start = builder.gep(b[0], [builder.add(b[1], builder.mul(k, b[2]))])
    columns = [builder.load(_vector_at(builder, start, i * LANES), align=4) for i in range(vectors)]
    results = []
    for pointer, row in zip(a_rows, sums, strict=True):
        factor = _spread(builder, builder.load(builder.gep(pointer, [k]), align=4))
        products = [builder.fmul(factor, column, flags=_FUSE) for column in columns]
        results.append([builder.fadd(old, new, flags=_FUSE) for old, new in zip(row, products, strict=True)])
    following = builder.add(k, ir.Constant(_INDEX, 1))
    k.add_incoming(following, loop)
    for row, result in zip(sums, results, strict=True):
        for phi, value in zip(row, result, strict=True):
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
    builder.position_at_end(done)
    return results


def _zeros_from(builder: Any, block: Any) -> Any:
    """A register that holds zeros where the loop is entered from `block`."""
    phi = builder.phi(_VECTOR)
    phi.add_incoming(_constant(0.0), block)
    return phi


def _vector_at(builder: Any, pointer: Any, offset: int) -> Any:
    return builder.bitcast(builder.gep(pointer, [ir.Constant(_INDEX, offset)]), _VECTOR.as_pointer())


def _spread(builder: Any, value: Any) -> Any:
    single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(single, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _sum(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _tree(builder: Any, values: list[Any], join: Any) -> Any:
    """One of several, a power of two, joined pair by pair."""
    while len(values) > 1:
        values = [join(builder, a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _fold(builder: Any, value: Any, join: Any) -> Any:
    """The lanes of a register joined; every lane of the result holds all."""
    for distance in (8, 4, 2, 1):
        order = ir.Constant(_INTS, [lane ^ distance for lane in range(LANES)])
        value = join(builder, value, builder.shuffle_vector(value, ir.Constant(_VECTOR, ir.Undefined), order))
    return value


def _power(builder: Any, exponent: Any) -> Any:
    """2^x for x <= 0: the whole part goes into the number's exponent, the rest into a polynomial."""
    x = _larger(builder, exponent, _constant(_SMALLEST))
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    rounding = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f32")
    whole = builder.call(rounding, [x])
    rest = builder.fsub(x, whole)
    series = _constant(_POWERS[-1])
    for factor in (*_POWERS[-2::-1], 1.0):
        series = builder.fadd(builder.fmul(series, rest, flags=_FUSE), _constant(factor), flags=_FUSE)
    shift = builder.shl(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(series, _INTS), shift), _VECTOR)
