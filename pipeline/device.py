"""The device that torch computes on, and asynchronous copies to it and back.

CUDA copies from and to page-locked memory asynchronously; torch caches such memory. A copy from the device is handed on
some items later, when it has arrived. On the CPU nothing is copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import UsageError

T = TypeVar("T")

LAG = 4
"""Copies from the device in flight at once."""


def choose_device(name: str) -> torch.device:
    """The device that `--device` means; `auto` is CUDA where there is any.

    Raises:
        UsageError: CUDA is asked for and isn't there.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device 'cuda' is asked for, but torch finds no CUDA device; give --device cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def device_kind(device: torch.device) -> str:
    """A GPU's name and its driver, on which the last bits of a result depend; empty for the CPU."""
    if device.type != "cuda":
        return ""
    try:
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split("Kernel Module")[1].split()[0]
    except (OSError, IndexError):
        driver = "unknown"
    return f"{torch.cuda.get_device_name(device)}, driver {driver}"


def upload(arrays: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """Arrays of one shape and type as a tensor [arrays, ...] on the device."""
    kind = torch.from_numpy(np.empty(0, dtype=arrays[0].dtype)).dtype
    staged = torch.empty((len(arrays), *arrays[0].shape), dtype=kind, pin_memory=device.type == "cuda")
    np.stack(arrays, out=staged.numpy())
    return staged.to(device, non_blocking=True)


def downloaded(items: Iterable[tuple[T, Tensor]], lag: int = LAG) -> Iterator[tuple[T, NDArray[Any]]]:
    """Tensors as arrays, each with its tag; order kept.

    Args:
        items: a tag that is handed through, and a tensor on any device.
        lag: copies in flight at once.
    """
    under_way: deque[tuple[T, Tensor, torch.cuda.Event | None]] = deque()
    for tag, tensor in items:
        under_way.append((tag, *_sent(tensor)))
        if len(under_way) > lag:
            yield _arrived(*under_way.popleft())
    while under_way:
        yield _arrived(*under_way.popleft())


def _sent(tensor: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if tensor.device.type != "cuda":
        return tensor, None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event


def _arrived(tag: T, host: Tensor, event: torch.cuda.Event | None) -> tuple[T, NDArray[Any]]:
    if event is not None:
        event.synchronize()
    return tag, host.numpy()
