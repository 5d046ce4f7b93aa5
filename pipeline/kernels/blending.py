"""Alpha blending of label colours over a picture in one pass."""

from __future__ import annotations

from typing import Any

from pipeline.kernels.jit import compiled


@compiled
def blend_into(rgb: Any, labels: Any, colors: Any, weight: Any, painted: Any) -> None:
    """As `pipeline.kernels.blend`, into `painted`, by colours of int32 and a `weight` in 1/256."""
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            label = labels[row, col]
            share = weight if label else 0
            for channel in range(3):
                mixed = rgb[row, col, channel] * (256 - share) + colors[label, channel] * share
                painted[row, col, channel] = (mixed + 128) >> 8
