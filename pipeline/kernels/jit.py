"""How the kernels of this package are compiled: to machine code, kept on disk, and without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}

Params = ParamSpec("Params")
Result = TypeVar("Result")


def compiled(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A function as machine code that runs without the interpreter's lock; the first process that calls it compiles.

    The machine code is kept beside the sources and thrown away when the function's own file changes; after a change of
    a constant that it imports, delete `__pycache__`. Products and sums may be fused, nothing else is reordered, so that
    the bytes don't depend on how the work is divided.
    """
    try:
        kernel = numba.njit(cache=True, nogil=True, **_OPTIONS)(function)
    except RuntimeError:  # No directory to keep the machine code in can be written: compile in every process.
        kernel = numba.njit(nogil=True, **_OPTIONS)(function)
    return kernel  # type: ignore[no-any-return]


def inlined(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A part of compiled functions, put where they call it: a call would pass each array's shape and strides on."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
