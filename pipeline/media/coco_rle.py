"""COCO's run-length encoding of masks, as its annotation files spell it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """A mask [height, width] as COCO's compressed counts.

    Runs of 0 and 1 alternate down the columns, beginning with 0. From the fourth run on the difference to the one
    two before is written, in groups of five bits, lowest first, each as a character from code 48 on; bit 6
    says that another group follows, and the highest bit of the last group is the sign.
    """
    counts = mask_runs(mask)
    steps = counts.copy()
    steps[3:] -= counts[1:-2]
    return "".join(_spell(int(step)) for step in steps)


def mask_runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of a mask [height, width] down its columns; the first counts zeros and may be 0.

    >>> mask_runs(np.array([[True, False], [True, True]])).tolist()
    [0, 2, 1, 1]
    """
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)) if flat.size else np.array([], dtype=np.int64)
    return np.diff(np.concatenate(([0], edges, [flat.size]))).astype(np.int64)


def _spell(value: int) -> str:
    characters = []
    more = True
    while more:
        group = value & 0x1F
        value >>= 5
        more = value != (-1 if group & 0x10 else 0)
        characters.append(chr(48 + (group | 0x20 if more else group)))
    return "".join(characters)
