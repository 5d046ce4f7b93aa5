"""What the processor has, and the threads that compute on it beside torch's own."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor


@cache
def has_wide_registers() -> bool:
    """Whether the processor has 32 registers of 512 bits, for which the tiles are made."""
    return bool(binding.get_host_cpu_features().get("avx512f", False))


@cache
def has_bfloat16() -> bool:
    """Whether those registers multiply pairs of bfloat16."""
    return has_wide_registers() and bool(binding.get_host_cpu_features().get("avx512bf16", False))


def can_compute(x: Tensor) -> bool:
    """Whether the compiled kernels can take a tensor: on such a processor, and where no gradient is wanted."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and has_wide_registers()


def run_tasks(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Have as many threads as torch's, this one among them, do the tasks 0, 1, ..., count - 1.

    The kernel, called without the interpreter's lock as `kernel(taken, count, *arguments)`, does what `take_task`
    gives it until that is `count`: no thread waits for another before the last task.
    """
    taken, threads = np.zeros(1, dtype=np.int64), min(torch.get_num_threads(), count)
    others = [_pool(threads - 1).submit(kernel, taken, count, *arguments) for _ in range(threads - 1)]
    kernel(taken, count, *arguments)
    for other in others:
        other.result()


_KEPT_BYTES = 2**26
"""Larger memory isn't kept: attention over so many tokens hides what getting it takes."""


class _Scratch(threading.local):
    """Memory of one thread, by what it is for."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}


_scratch = _Scratch()


def scratch(purpose: str, *shape: int) -> Tensor:
    """float32 of any content, which this thread gets again when it next asks for that purpose.

    Fresh memory comes page by page from the system, which takes longer than what many a kernel does with it.
    """
    size = math.prod(shape)
    if 4 * size > _KEPT_BYTES:
        return torch.empty(shape)
    held = _scratch.held.get(purpose)
    if held is None or held.numel() < size:
        held = _scratch.held[purpose] = torch.empty(size)
    return held[:size].view(shape)


@intrinsic  # type: ignore[untyped-decorator]
def take_task(_typing: Any, taken: Any) -> Any:
    """The number of a task that no other thread has; `taken` is int64 [1], of those that are taken."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(taken), generate


@cache
def _pool(threads: int) -> Executor:
    return ThreadPoolExecutor(threads, thread_name_prefix="features")


# A process that is forked inherits the pool without its threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)
