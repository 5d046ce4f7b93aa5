"""measures.npz of one input: what the report shows and only a run sees. It isn't part of the checksums.

Areas of the labels in each frame, which labels turned into which along the optical flow (so that flicker is known under
any edit), and a few small pictures of the source.
"""

from __future__ import annotations

import io
import zipfile
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.metrics.steadiness import Transitions
from pipeline.media.inline import jpeg, scaled
from pipeline.media.label_store import LabelStore
from pipeline.media.npz import open_npz

MEASURES: Final = "measures.npz"

THUMBNAILS = 12
"""Small pictures of an input, evenly spread over its frames, the first and the last among them."""
_LONG_SIDE_PX = 480
_QUALITY = 85
_MAX_BYTES = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What is known of an input's frames.

    Attributes:
        areas: int64 [frames, 1 + parts], pixels of each label, at the processed size.
        transitions: which labels turned into which, from each frame to the next; None where that wasn't kept.
        thumbnails: JPEG files by frame.
    """

    areas: NDArray[np.int64]
    transitions: Transitions | None
    thumbnails: Mapping[int, bytes]

    def shares(self, table: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Share of the picture that each label has in each frame after an edit, float64 [frames, 256]."""
        merged = np.zeros((len(self.areas), 256))
        for label in range(self.areas.shape[1]):
            merged[:, table[label]] += self.areas[:, label]
        return np.asarray(merged / np.maximum(1, self.areas.sum(axis=1, keepdims=True)))

    def flicker(self, table: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Share of followed pixels whose label changed since the frame before, float64 [frames]; NaN: unknown."""
        if self.transitions is None:
            return None
        found, frames = self.transitions, len(self.areas)
        changed = table[found.before] != table[found.after]
        pixels = found.pixels.astype(np.float64)
        total = np.bincount(found.frame, pixels, minlength=frames)
        moved = np.bincount(found.frame[changed], pixels[changed], minlength=frames)
        with np.errstate(invalid="ignore"):
            return np.asarray(moved / total)


class MeasureTaker:
    """Collects an input's measures while its frames stream through; holds a few bytes a frame."""

    def __init__(self, frames: int) -> None:
        """Say how many frames to expect."""
        wanted = min(THUMBNAILS, frames)
        self._wanted = {round(number * (frames - 1) / max(1, wanted - 1)) for number in range(wanted)}
        self._frames = 0
        self._areas = array("I")
        self._thumbnails: dict[int, bytes] = {}

    def add(self, rgb: NDArray[np.uint8], labels: NDArray[np.uint8], parts: int) -> None:
        """Add the next frame: uint8 [height, width, 3], and labels uint8 [h, w]."""
        if self._frames in self._wanted:
            self._thumbnails[self._frames] = jpeg(scaled(Image.fromarray(rgb), _LONG_SIDE_PX), _QUALITY)
        self._areas.extend(np.bincount(labels.ravel(), minlength=parts + 1).tolist())
        self._frames += 1

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which labels some frame has, bool [1 + parts]."""
        return np.asarray(self._table().any(axis=0))

    def _table(self) -> NDArray[np.uint32]:
        return np.array(self._areas, dtype=np.uint32).reshape(self._frames, -1)

    def save(self, file: Path, transitions: Transitions) -> None:
        """Write measures.npz.

        Raises:
            OutputError: it can't be written.
        """
        arrays: dict[str, NDArray[Any]] = {
            "areas": self._table(),
            "frame": transitions.frame.astype(np.uint32),
            "before": transitions.before,
            "after": transitions.after,
            "pixels": transitions.pixels.astype(np.uint32),
            "thumbnails": np.array(sorted(self._thumbnails), dtype=np.uint32),
        }
        for index, encoded in sorted(self._thumbnails.items()):
            arrays[f"thumbnail-{index}"] = np.frombuffer(encoded, dtype=np.uint8)
        with open_npz(file, zipfile.ZIP_DEFLATED) as archive:
            for name, values in arrays.items():
                archive.write(name, values)


def absence(label: int) -> str:
    """The warning of a run that no frame shows a part."""
    return f"part {label} appears in no frame"


def load_measures(result: Path, store: LabelStore) -> Measures:
    """The measures of a finished input; where a run has left none, the areas alone, from its labels.

    Raises:
        InputError: the file or the labels are damaged.
    """
    file = result / MEASURES
    if not file.is_file() or file.is_symlink():
        areas = [np.bincount(labels.ravel(), minlength=store.parts + 1) for _, _, labels in store.frames()]
        return Measures(np.stack(areas), None, {})
    try:
        with zipfile.ZipFile(file) as archive:
            # Before anything is unpacked: a few bytes can claim to hold any amount.
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError("it is too large")  # noqa: TRY301
        with np.load(file, allow_pickle=False) as arrays:
            return _checked(arrays, store)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"'{file}' is damaged ({reason:.200}); remove it, or segment the input again") from error


def open_thumbnail(code: bytes) -> Image.Image:
    """A small picture of a result, which a stranger may have made.

    Raises:
        InputError: it is damaged or larger than any that a run keeps.
    """
    try:
        with Image.open(io.BytesIO(code), formats=["JPEG"]) as image:
            if image.width * image.height > 2**20:
                raise InputError("a small picture of measures.npz is too large; remove the file")
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"a small picture of measures.npz is damaged ({error}); remove the file") from error


def _checked(arrays: Mapping[str, NDArray[Any]], store: LabelStore) -> Measures:
    areas = _whole(arrays["areas"], 2)
    frame, before, after, pixels = (_whole(arrays[name], 1) for name in ("frame", "before", "after", "pixels"))
    if areas.shape != (len(store), store.parts + 1):
        raise ValueError(f"areas have shape {areas.shape}, expected {(len(store), store.parts + 1)}")
    if not len(frame) == len(before) == len(after) == len(pixels):
        raise ValueError("its columns differ in length")
    for values, limit in ((frame, len(store)), (before, 256), (after, 256)):
        if len(values) and int(values.max()) >= limit:
            raise ValueError(f"a value is {values.max()}, expected less than {limit}")
    found = Transitions(frame, before.astype(np.uint8), after.astype(np.uint8), pixels)
    shown = [int(index) for index in _whole(arrays["thumbnails"], 1)[:THUMBNAILS]]
    thumbnails = {index: arrays[f"thumbnail-{index}"].astype(np.uint8).tobytes() for index in shown}
    return Measures(areas, found, {index: code for index, code in thumbnails.items() if index < len(store)})


def _whole(values: NDArray[Any], dimensions: int) -> NDArray[np.int64]:
    if values.ndim != dimensions or values.dtype.kind != "u":
        raise ValueError(f"got {values.dtype} {values.shape}, expected whole numbers in {dimensions} dimensions")
    return values.astype(np.int64)
