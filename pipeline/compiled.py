"""How the kernels of this package are compiled: to machine code, kept on disk, and without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

Params = ParamSpec("Params")
Result = TypeVar("Result")


def compiled(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A function as machine code that runs without the interpreter's lock; the first process that calls it compiles.

    The machine code is kept beside the sources and thrown away when the function's own file changes; after a change of
    a constant that it imports, delete `__pycache__`. Products and sums may be fused, nothing else is reordered, so that
    the bytes don't depend on how the work is divided.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # No directory to keep the machine code in can be written: compile in every process.
        kernel = numba.njit(**options)(function)
    return kernel  # type: ignore[no-any-return]
