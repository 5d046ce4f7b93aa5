"""Compiled kernels of the CRF and of blending; this page is all that other rooms call

README.md says what each kernel computes, with which instructions, what runs where these are absent, and what it gains.
Nothing is compiled or imported before it is called.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CrfSettings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["blend", "compiled_ahead", "host_cpu", "infer_labels", "infer_labels_on_device", "plain_paths"]

PLAIN_VARIABLE = "VIDPARTS_PLAIN"


def plain_paths() -> bool:
    """Whether the plain twins run instead of compiled code: where the environment variable VIDPARTS_PLAIN is set.

    For tests and for bug reports. Labels agree with those of the kernels but for the last bits, and take longer.
    """
    return bool(os.environ.get(PLAIN_VARIABLE))


def infer_labels(unary: NDArray[np.float32], image: NDArray[np.uint8], settings: CrfSettings) -> NDArray[np.uint8]:
    """Mean-field inference in the fully connected CRF on the CPU, one thread, without the GIL.

    Args:
        unary: float32 [labels, h, w], energies.
        image: uint8 [h, w, 3].
        settings: kernels, weights and iterations (one or more).

    Returns:
        The most probable label of each pixel, uint8 [h, w].
    """
    if plain_paths():
        import torch

        labels = infer_labels_on_device(torch.from_numpy(unary), torch.tensor(image), settings)
        return np.asarray(labels.numpy())
    from pipeline.kernels import meanfield

    return meanfield.infer_labels(unary, image, settings)


def infer_labels_on_device(unary: Tensor, image: Tensor, settings: CrfSettings) -> Tensor:
    """As `infer_labels`, in torch on the tensors' device; the work is queued without waiting for it."""
    from pipeline.kernels import meanfield_torch

    return meanfield_torch.infer_labels(unary, image, settings)


def blend(
    rgb: NDArray[np.uint8], labels: NDArray[np.uint8], colors: NDArray[np.uint8], alpha: float
) -> NDArray[np.uint8]:
    """A picture with the colours of its labels over it.

    Args:
        rgb: uint8 [height, width, 3].
        labels: uint8 [height, width]; where it is 0 the picture stays.
        colors: uint8 [256, 3], by label.
        alpha: opacity of the colours in [0, 1].

    Returns:
        uint8 [height, width, 3].
    """
    weight, table = round(alpha * 256), colors.astype(np.int32)
    if plain_paths():
        share = np.where(labels[..., None] > 0, weight, 0)
        return np.asarray((rgb * (256 - share) + table[labels] * share + 128) >> 8, dtype=np.uint8)
    from pipeline.kernels.blending import blend_into

    painted = np.empty_like(rgb, order="C")
    blend_into(rgb, labels, table, weight, painted)
    return painted


@contextmanager
def compiled_ahead(labels: int) -> Generator[None]:
    """Compile in a thread what labelling and painting will call, beside what is done within; the end waits for it.

    The first run on a machine would wait four seconds for it at its first frame; later ones find machine code.

    Args:
        labels: background and parts.
    """
    if plain_paths():
        yield
        return
    thread = threading.Thread(target=_call_once, args=(labels,), name="compile kernels", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _call_once(labels: int) -> None:
    """Label and paint a picture so small that it takes no time, one pixel of which isn't background."""
    side = 32
    unary, image = np.ones((labels, side, side), dtype=np.float32), np.zeros((side, side, 3), dtype=np.uint8)
    unary[0], unary[-1, 0, 0] = 0, -1
    near = CrfSettings(gaussian_sxy=1.0, bilateral_sxy=1.0, iterations=1)
    blend(image, infer_labels(unary, image, near), np.zeros((256, 3), dtype=np.uint8), 0.5)


def host_cpu() -> str:
    """The CPU's name, as LLVM has it, such as `znver4`; it implies the instruction sets."""
    from llvmlite import binding

    return str(binding.get_host_cpu_name())
