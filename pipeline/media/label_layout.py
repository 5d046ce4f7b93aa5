"""Layout of a label store on disk (zarr v3), and validation of untrusted ones.

A store is one zarr v3 array, uint8 [frame, row, column]; 0 is the background, 1..K are the parts. An untrusted store is
validated: its metadata field by field, and a chunk's size before it is decompressed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.documents import Document, reason
from pipeline.errors import InputError
from pipeline.media.pictures import MAX_PICTURE_PIXELS

ARRAY_FILE = "zarr.json"

_MAX_DESCRIPTION_BYTES = 512 * 2**20
_MAX_CHUNK_BYTES = 2**31
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

Side = Annotated[int, Field(ge=1, le=65536)]


class LabelAttributes(Document):
    """What a store says about its labels.

    `pts` and `time_base` are the source's; `source_size` is [height, width] of its upright frames; `frame_names`
    are those of a directory's frames, empty for a video.
    """

    format: Literal["vidparts-labels-1"] = "vidparts-labels-1"
    time_base: Annotated[str, Field(max_length=64, pattern=r"^[0-9]+/[0-9]+$")]
    source_size: tuple[Side, Side]
    parts: Annotated[int, Field(ge=0, le=255)]
    pts: tuple[Annotated[int, Field(ge=-(2**62), le=2**62)], ...]
    frame_names: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> LabelAttributes:
        numerator, denominator = self.time_base.split("/")
        if not (0 < int(numerator) < 2**31 and 0 < int(denominator) < 2**31):
            raise ValueError("time_base is zero or too large")
        if self.source_size[0] * self.source_size[1] > MAX_PICTURE_PIXELS:
            raise ValueError(f"source_size is more than {MAX_PICTURE_PIXELS:,} pixels")
        if any(after <= before for before, after in zip(self.pts, self.pts[1:], strict=False)):
            raise ValueError("pts don't grow")
        if self.frame_names and len(self.frame_names) != len(self.pts):
            raise ValueError("frame_names and pts differ in length")
        if any(not _is_plain(name) for name in self.frame_names):
            raise ValueError("a frame name is no plain file name")
        if len(set(self.frame_names)) < len(self.frame_names):
            raise ValueError("two frames have one name")
        return self

    @property
    def seconds_per_unit(self) -> Fraction:
        """The time base as a number."""
        return Fraction(self.time_base)


class _Configured(Document):
    name: str
    configuration: dict[str, Any] = Field(default_factory=dict)


class _Array(Document):
    """The part of zarr v3 that a store uses; everything else is refused."""

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: tuple[Annotated[int, Field(ge=0, le=2**31)], Side, Side]
    data_type: Literal["uint8"]
    chunk_grid: _Configured
    chunk_key_encoding: _Configured
    fill_value: Literal[0]
    codecs: list[_Configured]
    attributes: LabelAttributes
    dimension_names: list[str | None] | None = None
    storage_transformers: list[Any] = Field(default=[], max_length=0)

    @model_validator(mode="after")
    def _expected_layout(self) -> _Array:
        frames, height, width = self.shape
        chunk = self.chunk_grid.configuration.get("chunk_shape")
        if self.chunk_grid.name != "regular" or not isinstance(chunk, list) or len(chunk) != 3:
            raise ValueError("chunks are not regular")
        if type(chunk[0]) is not int or chunk[0] < 1 or chunk[1:] != [height, width]:
            raise ValueError(f"a chunk is {chunk}, expected some frames of {height}x{width}")
        if chunk[0] * height * width > _MAX_CHUNK_BYTES:
            raise ValueError("a chunk is larger than 2 GiB")
        if self.chunk_key_encoding.name != "default" or self.chunk_key_encoding.configuration != {"separator": "/"}:
            raise ValueError("chunk names are of another kind")
        if [codec.name for codec in self.codecs] != ["bytes", "zstd"]:
            raise ValueError("codecs are not bytes, zstd")
        if len(self.attributes.pts) != frames:
            raise ValueError(f"{frames} frames have {len(self.attributes.pts)} pts")
        return self


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """A checked store's description.

    Attributes:
        shape: frames, height and width.
        chunk_frames: frames in a chunk.
        attributes: what the store says about its labels.
    """

    shape: tuple[int, int, int]
    chunk_frames: int
    attributes: LabelAttributes

    @property
    def chunk_bytes(self) -> int:
        """Of a chunk's labels."""
        return self.chunk_frames * self.shape[1] * self.shape[2]


def read_layout(path: Path) -> StoreLayout:
    """The description of a label store, checked.

    Raises:
        InputError: there is no store, or it is damaged or of another kind.
    """
    file = path / ARRAY_FILE
    try:
        if not file.is_file() or file.is_symlink():
            raise InputError(
                f"{str(path)!r} is no label store: it holds no {ARRAY_FILE}; give the labels.zarr of a run"
            )
        if file.stat().st_size > _MAX_DESCRIPTION_BYTES:
            raise damaged(path, f"its {ARRAY_FILE} is too large")
        array = _Array.model_validate(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, reason(error)) from error
    return StoreLayout(array.shape, array.chunk_grid.configuration["chunk_shape"][0], array.attributes)


def read_chunk(path: Path, layout: StoreLayout, number: int) -> NDArray[np.uint8]:
    """One chunk's labels, uint8 [frames, height, width], those behind the store's last frame cut off.

    Its size is checked before it is unpacked: a few bytes can claim to hold any amount.

    Raises:
        InputError: it is missing, lies outside the store, or is damaged.
    """
    from numcodecs import Zstd  # type: ignore[import-untyped]

    packed = read_packed_chunk(path, layout, number)
    unpacked = np.empty(layout.chunk_bytes, dtype=np.uint8)
    try:
        # Into a place of its size: other frames may lie behind the one whose head was read, of any size.
        Zstd().decode(packed, out=unpacked)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise damaged(path, f"chunk {number} can't be unpacked") from error
    frames, height, width = layout.shape
    labels = unpacked.reshape(-1, height, width)[: frames - number * layout.chunk_frames]
    if int(labels.max(initial=0)) > layout.attributes.parts:
        raise damaged(path, f"chunk {number} holds a part that there is not")
    labels.flags.writeable = False
    return labels


def read_packed_chunk(path: Path, layout: StoreLayout, number: int) -> bytes:
    """One chunk as it lies on the disk: a zstd frame that says the size of a chunk.

    Raises:
        InputError: it is missing, lies outside the store, or has another size.
    """
    file, size = chunk_path(path, number), layout.chunk_bytes
    try:
        if not file.resolve(strict=True).is_relative_to(path.resolve()) or not file.is_file():
            raise damaged(path, f"chunk {number} lies outside of it")
        # What can't be packed grows a little; what is larger than that isn't read.
        packed = file.read_bytes() if file.stat().st_size <= size + size // 128 + 4096 else b""
    except (OSError, RuntimeError) as error:
        raise damaged(path, f"chunk {number} can't be read") from error
    if zstd_content_size(packed[:18]) != size:
        raise damaged(path, f"chunk {number} has another size than it should")
    return packed


def chunk_path(path: Path, number: int) -> Path:
    """Where a chunk of a store lies."""
    return path / "c" / str(number) / "0" / "0"


def zstd_content_size(head: bytes) -> int | None:
    """The size that a zstd frame says it unpacks to, None where it doesn't (RFC 8878, 3.1.1); of its first 18 bytes."""
    if head[:4] != _ZSTD_MAGIC or len(head) < 6:
        return None
    descriptor = head[4]
    size_flag, single_segment = descriptor >> 6, bool(descriptor & 0x20)
    if size_flag == 0 and not single_segment:
        return None
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    length = (1, 2, 4, 8)[size_flag]
    if len(head) < start + length:
        return None
    return int.from_bytes(head[start : start + length], "little") + (256 if length == 2 else 0)


def damaged(path: Path, reason: str) -> InputError:
    """The error for a store that can't be used."""
    return InputError(f"label store {str(path)!r} is damaged or of another kind ({reason}); make it again by segment")


def _is_plain(name: str) -> bool:
    # Of surrogates only those that stand for bytes of a name that isn't UTF-8 can be written (PEP 383).
    return name not in (".", "..") and not re.search(r"[/\\\x00\ud800-\udc7f\udd00-\udfff]", name)
