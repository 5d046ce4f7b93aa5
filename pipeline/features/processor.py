"""What the processor has, and the threads that compute on it beside torch's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def has_wide_registers() -> bool:
    """Whether the processor has 32 registers of 512 bits, for which the tiles are made."""
    import llvmlite.binding

    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


def can_compute(x: Tensor) -> bool:
    """Whether the compiled kernels can take a tensor: on such a processor, and where no gradient is wanted."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and has_wide_registers()


def run_tasks(function: Callable[..., None], tasks: Iterable[tuple[Any, ...]]) -> None:
    """Call a function without the interpreter's lock once for each tuple of arguments, on as many threads as torch."""
    for task in [_pool(torch.get_num_threads()).submit(function, *arguments) for arguments in tasks]:
        task.result()


@cache
def _pool(threads: int) -> Executor:
    return ThreadPoolExecutor(threads, thread_name_prefix="features")


# A process that is forked inherits the pool without its threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)
