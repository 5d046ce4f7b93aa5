"""The second of three stages: which of the first parts occur in every picture (from the authors' code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CommonParts:
    """Which parts are common to all pictures.

    Attributes:
        parts: bool [k], at least one.
        warning: one line where none occurs in every picture, else None.
    """

    parts: NDArray[np.bool_]
    warning: str | None = None


def common_parts(labels: Sequence[NDArray[np.uint8]], k: int) -> CommonParts:
    """The parts that occur in every picture; where there is none, those that occur in most.

    Args:
        labels: label maps of the pictures, any shapes; 0 is the background, 1..k the parts.
        k: number of parts.
    """
    seen = np.stack([np.bincount(each.ravel(), minlength=k + 1)[1 : k + 1] > 0 for each in labels]).sum(axis=0)
    most = int(seen.max())
    if most == len(labels):
        return CommonParts(seen == most)
    warning = (
        f"no part occurs in all {len(labels)} pictures; going on with the {int((seen == most).sum())} "
        f"that occur in {most} of them"
    )
    return CommonParts(seen == most, warning)
