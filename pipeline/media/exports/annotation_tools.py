"""Exports for annotation tools: CVAT's segmentation masks, Label Studio's brush RLE."""

from __future__ import annotations

import io
import json
import urllib.parse
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.files import replaced_file, write_file
from pipeline.media.coco_rle import mask_runs
from pipeline.media.label_store import LabelStore
from pipeline.records import Part

_RUN_BITS = np.array([4, 8, 12, 16])
"""The four widths that a run's length may have in brush RLE."""
_WORD_BITS = 8
_CHANNELS = 4


def export_cvat(
    store: LabelStore,
    folder: Path,
    stems: Sequence[str],
    parts: Sequence[Part],
    palette: NDArray[np.uint8],
    objects: NDArray[np.uint8],
) -> Path:
    """Write CVAT's `Segmentation mask 1.1`: annotations.zip to upload into a task, labels.json to make one with.

    Args:
        store: the labels.
        folder: where both go.
        stems: what CVAT calls the frames: `frame_000000` and so on of a video.
        parts: those to name.
        palette: uint8 [256, 3], a colour of its own for each label; the first is the background's.
        objects: uint8 [256, 3], the colours that PASCAL VOC has for the numbers of objects.

    Returns:
        annotations.zip.
    """
    names = {part.label: part.name.replace(":", " ") for part in parts}
    rows = ["# label:color_rgb:parts:actions", f"background:{_triple(palette[0])}::"]
    rows += [f"{name}:{_triple(palette[label])}::" for label, name in names.items()]
    described = [{"name": names[part.label], "color": _code(palette[part.label]), "attributes": []} for part in parts]
    file = folder / "annotations.zip"
    with replaced_file(file) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "labelmap.txt", "\n".join([*rows, ""]).encode())
        _add(archive, "ImageSets/Segmentation/default.txt", "\n".join([*stems, ""]).encode())
        for index, full in store.full_frames():
            _add(archive, f"SegmentationClass/{stems[index]}.png", _palette_png(full, palette))
            # A part of a frame is one object.
            _add(archive, f"SegmentationObject/{stems[index]}.png", _palette_png(full, objects))
    write_file(folder / "labels.json", (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode())
    return file


def export_label_studio(store: LabelStore, folder: Path, names: Sequence[str], parts: Sequence[Part]) -> Path:
    """Write Label Studio's tasks.json with brush RLE as predictions, and label_config.xml, their labelling interface.

    `names` are the pictures' paths below the folder that Label Studio serves.

    Returns:
        tasks.json.
    """
    file = folder / "tasks.json"
    with replaced_file(file) as partial, partial.open("w", encoding="utf-8") as stream:
        for number, task in enumerate(_tasks(store, names, parts)):
            stream.write(("[" if number == 0 else ",\n") + json.dumps(task, ensure_ascii=False))
        stream.write("]\n")
    write_file(folder / "label_config.xml", _label_config(parts).encode())
    return file


def brush_rle(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask [height, width] as Label Studio's brush RLE, uint8 [bytes].

    It is a stream of bits, the highest first: the number of values in 32, the bits of a value less one in 5, the four
    widths of run lengths less one in 4 each; then runs: 1 for equal values, the number of the width in 2, the length
    less one, the value. The values are RGBA of each pixel row by row, all four 0 or 255.
    """
    lengths = mask_runs(mask.T) * _CHANNELS
    values = np.where(np.arange(len(lengths)) % 2, 255, 0)
    longest = 1 << int(_RUN_BITS[-1])
    # A run that is longer than the widest field is written as several.
    pieces = -(-lengths // longest)
    first = np.cumsum(pieces) - pieces
    split = np.full(int(pieces.sum()), longest, dtype=np.int64)
    filled = pieces > 0
    split[(first + pieces - 1)[filled]] = (lengths - (pieces - 1) * longest)[filled]
    header = [_bits(np.array([mask.size * _CHANNELS]), 32), _bits(np.array([_WORD_BITS - 1]), 5)]
    header += [_bits(np.array([width - 1]), 4) for width in _RUN_BITS]
    bits = np.concatenate([*(part.ravel() for part in header), _run_bits(split - 1, np.repeat(values, pieces))])
    return np.packbits(bits)


def _run_bits(lengths: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Runs of a length less one and a value as bits, each with the narrowest field that takes its length."""
    choice = np.searchsorted(1 << _RUN_BITS, lengths, side="right")
    widest = int(_RUN_BITS[-1])
    one = np.ones((len(lengths), 1), dtype=np.uint8)
    table = np.concatenate([one, _bits(choice, 2), _bits(lengths, widest), _bits(values, _WORD_BITS)], axis=1)
    used = np.ones(table.shape, dtype=bool)
    used[:, 3 : 3 + widest] = np.arange(widest) >= (widest - _RUN_BITS[choice])[:, None]
    return np.asarray(table[used])


def _bits(values: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Each value in `width` bits, the highest first, uint8 [n, width]."""
    return ((values[:, None] >> np.arange(width - 1, -1, -1)) & 1).astype(np.uint8)


def _tasks(store: LabelStore, names: Sequence[str], parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    height, width = store.source_size_hw
    for index, full in store.full_frames():
        results = [
            {
                "id": f"{index}-{part.label}",
                "type": "brushlabels",
                "from_name": "part",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": brush_rle(full == part.label).tolist(), "brushlabels": [part.name]},
            }
            for part in parts
            if (full == part.label).any()
        ]
        address = f"/data/local-files/?d={urllib.parse.quote(names[index])}"
        yield {"data": {"image": address}, "predictions": [{"model_version": "vidparts", "result": results}]}


def _label_config(parts: Sequence[Part]) -> str:
    from xml.sax.saxutils import quoteattr

    labels = [f"    <Label value={quoteattr(part.name)} background={quoteattr(_code(part.color))}/>" for part in parts]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image" zoom="true"/>',
            '  <BrushLabels name="part" toName="image">',
            *labels,
            "  </BrushLabels>",
            "</View>",
            "",
        ]
    )


def _palette_png(labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(labels)
    image.putpalette(palette.ravel().tolist())
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A fixed date: same labels, same bytes.
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = archive.compression
    archive.writestr(entry, content)


def _triple(color: Sequence[int] | NDArray[np.uint8]) -> str:
    return ",".join(str(int(value)) for value in color)


def _code(color: Sequence[int] | NDArray[np.uint8]) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in color)
