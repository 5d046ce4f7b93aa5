"""Vector registers of LANES float32, and the functions of a ViT on them: what kernels are made of.

Each function emits code at a builder's place; registers come in and go out as values of that code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16

FLOAT, INT, INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)


class _BFloatType(ir.Type):  # type: ignore[misc]
    """The type bfloat16, which the library that emits code doesn't have."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloatType)

    def __hash__(self) -> int:
        return hash(_BFloatType)


_PAIRS, _HALVES = (ir.VectorType(_BFloatType(), count) for count in (2 * LANES, LANES))
FUSE = ("contract",)

FAR = -1e30
"""Instead of minus infinity: 2 to this power is 0 too, and its distance to itself is a number."""

# 2^r between -1/2 and 1/2: least maximum of the relative error, 9.1e-08.
_POWERS = (0.693146978, 0.240222421, 0.0555073372, 0.00967151305, 0.00132647324)

_NORMAL_END = 5.4
"""From here on the normal distribution's function is 1 to float32's precision."""
# Its value less 1/2, over x, in 2 x^2 / _NORMAL_END^2 - 1: least maximum of the error that GELU gets, 1e-7.
_NORMAL = (
    0.130928114, -0.0653279834, 0.0484994018, -0.0392093252, 0.0321210305, -0.025721824, 0.0196087808, -0.0140648468,
    0.00978678119, -0.00651516069, 0.00340800063, -0.00137332841, 0.00109932756, -0.000962003712, 0.000315624511,
)  # fmt: skip


def place(builder: Any, pointer: Any, offset: int) -> Any:
    """Where a register lies that begins so many values behind a pointer."""
    return builder.bitcast(builder.gep(pointer, [ir.Constant(INDEX, offset)]), VECTOR.as_pointer())


def load(builder: Any, pointer: Any, offset: int = 0) -> Any:
    """The LANES values that begin so many behind a pointer."""
    return builder.load(place(builder, pointer, offset), align=4)


def load_ints(builder: Any, pointer: Any, offset: int = 0) -> Any:
    """The same of integers of 32 bits."""
    start = builder.gep(pointer, [ir.Constant(INDEX, offset)])
    return builder.load(builder.bitcast(start, INTS.as_pointer()), align=4)


def store(builder: Any, value: Any, pointer: Any, offset: int = 0) -> None:
    """Write LANES values."""
    builder.store(value, place(builder, pointer, offset), align=4)


def spread(builder: Any, value: Any) -> Any:
    """One value in all lanes."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    single = builder.insert_element(nothing, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(single, nothing, ir.Constant(INTS, [0] * LANES))


def constant(value: float) -> Any:
    """A number in all lanes."""
    return ir.Constant(VECTOR, [value] * LANES)


def add(builder: Any, a: Any, b: Any) -> Any:
    """a + b."""
    return builder.fadd(a, b)


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=FUSE), c, flags=FUSE)


def larger(builder: Any, a: Any, b: Any) -> Any:
    """The larger of both."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def fused_pairs(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """c and in each lane both products of two pairs of bfloat16, which integers of 32 bits hold."""
    multiply = _function(builder, "llvm.x86.avx512bf16.dpbf16ps.512", VECTOR, _PAIRS, _PAIRS)
    return builder.call(multiply, [c, builder.bitcast(a, _PAIRS), builder.bitcast(b, _PAIRS)])


def store_halves(builder: Any, value: Any, pointer: Any, offset: int = 0) -> None:
    """Write LANES values as bfloat16 behind a pointer to integers of 32 bits, so many values behind it."""
    rounding = _function(builder, "llvm.x86.avx512bf16.cvtneps2bf16.512", VECTOR, gives=_HALVES)
    target = builder.gep(pointer, [ir.Constant(INDEX, offset // 2)])
    halves = builder.bitcast(builder.call(rounding, [value]), ir.VectorType(INT, LANES // 2))
    builder.store(halves, builder.bitcast(target, halves.type.as_pointer()), align=4)


def smaller(builder: Any, a: Any, b: Any) -> Any:
    """The smaller of both."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def tree(builder: Any, values: list[Any], join: Callable[[Any, Any, Any], Any]) -> Any:
    """One of several, a power of two, joined pair by pair."""
    while len(values) > 1:
        values = [join(builder, a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def fold(builder: Any, value: Any, join: Callable[[Any, Any, Any], Any]) -> Any:
    """The lanes of a register joined; every lane of the result holds all."""
    for distance in (8, 4, 2, 1):
        order = ir.Constant(INTS, [lane ^ distance for lane in range(LANES)])
        value = join(builder, value, builder.shuffle_vector(value, ir.Constant(VECTOR, ir.Undefined), order))
    return value


def power(builder: Any, exponent: Any) -> Any:
    """2^x for finite x <= 0: the whole part goes into the number's exponent, the rest into a polynomial."""
    rounding = _function(builder, f"llvm.rint.v{LANES}f32", VECTOR)
    whole = builder.call(rounding, [exponent])
    series = _polynomial(builder, (1.0, *_POWERS), builder.fsub(exponent, whole))
    scaling = _function(builder, "llvm.x86.avx512.mask.scalef.ps.512", VECTOR, VECTOR, VECTOR, ir.IntType(16), INT)
    every, as_set = ir.Constant(ir.IntType(16), -1), ir.Constant(INT, 4)
    return builder.call(scaling, [series, whole, constant(0.0), every, as_set])


def gelu(builder: Any, x: Any) -> Any:
    """x times the normal distribution's function of x; nearer to it than one by float32's erf."""
    near = larger(builder, smaller(builder, x, constant(_NORMAL_END)), constant(-_NORMAL_END))
    square = builder.fmul(near, near)
    series = _polynomial(builder, _NORMAL, fused(builder, square, constant(2 / _NORMAL_END**2), constant(-1.0)))
    return builder.fmul(x, fused(builder, series, near, constant(0.5)))


def _polynomial(builder: Any, factors: tuple[float, ...], x: Any) -> Any:
    """By Horner's scheme, the constant first."""
    series = constant(factors[-1])
    for factor in factors[-2::-1]:
        series = fused(builder, series, x, constant(factor))
    return series


def _function(builder: Any, name: str, *takes: Any, gives: Any = VECTOR) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(gives, takes), name)
