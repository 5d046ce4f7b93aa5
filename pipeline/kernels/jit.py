"""How kernels are compiled: by numba to machine code, cached on disk, and run without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

from pipeline.caches import cache_folder

_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}

Params = ParamSpec("Params")
Result = TypeVar("Result")


def compiled(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A function compiled by numba, which runs without the GIL; the first process that calls it compiles.

    The machine code is cached beside the sources, or where that can't be written in the user's cache directory, and
    dropped when the function's own file changes; after a change of a constant that it imports, delete `__pycache__`.
    Multiply-add may be fused (FMA), nothing else is reordered, so that the bytes don't depend on how the work is
    divided.
    """
    options = {"nogil": True, **_OPTIONS}
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither beside the sources nor where numba looks in the home directory.
        folder = cache_folder("kernels")
        if folder is not None:
            numba.config.CACHE_DIR = str(folder)
        kernel = numba.njit(cache=folder is not None, **options)(function)
    return kernel  # type: ignore[no-any-return]


def inlined(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """A function that is inlined into compiled ones: a call would pass on each array's shape and strides."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
