"""Which device the arithmetic runs on."""

from __future__ import annotations

import torch

from pipeline.errors import UsageError


def choose_device(name: str) -> torch.device:
    """The device that `--device` means; `auto` is CUDA where there is any.

    Raises:
        UsageError: CUDA is asked for and isn't there.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device 'cuda' is asked for, but torch finds no CUDA device; give --device cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
