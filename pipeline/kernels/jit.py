"""How kernels are compiled: by numba to machine code, cached on disk, and run without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}

Params = ParamSpec("Params")
Result = TypeVar("Result")


def compiled(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A function compiled by numba, which runs without the GIL; the first process that calls it compiles.

    The machine code is cached beside the sources and dropped when the function's own file changes; after a change of a
    constant that it imports, delete `__pycache__`. Multiply-add may be fused (FMA), nothing else is reordered, so that
    the bytes don't depend on how the work is divided.
    """
    try:
        kernel = numba.njit(cache=True, nogil=True, **_OPTIONS)(function)
    except RuntimeError:  # No cache directory can be written: compile in every process.
        kernel = numba.njit(nogil=True, **_OPTIONS)(function)
    return kernel  # type: ignore[no-any-return]


def inlined(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A function that is inlined into compiled ones: a call would pass on each array's shape and strides."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
