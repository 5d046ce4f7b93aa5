"""Exports of masks: DAVIS palette PNGs, COCO RLE JSON, NumPy npz."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import output_errors, replaced_file, sync
from pipeline.media.coco_rle import encode_mask
from pipeline.media.label_store import LabelStore
from pipeline.media.npz import open_npz
from pipeline.media.pictures import write_palette_png
from pipeline.records import Part


def export_davis(store: LabelStore, folder: Path, stems: Sequence[str], palette: NDArray[np.uint8]) -> None:
    """Write one palette PNG a frame at the source's size.

    Args:
        store: the labels.
        folder: where the PNGs go; made if need be.
        stems: the frames' names without a suffix.
        palette: uint8 [256, 3], the colours of the labels, the first black; DAVIS' own is expected by its tools.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for index, full in store.full_frames():
        write_palette_png(folder / f"{stems[index]}.png", full, palette[1:])
    with output_errors(folder):
        sync(folder)


def export_coco(store: LabelStore, file: Path, names: Sequence[str], parts: Sequence[Part], title: str) -> None:
    """Write COCO annotations: one image a frame, one RLE annotation for each part in it, at the source's size.

    `names` are the pictures' paths, as the file names them; `title` is what it is about.
    """
    with replaced_file(file) as partial, partial.open("w", encoding="utf-8") as stream:
        # Annotations are written as they arise: a long video's don't fit in memory.
        height, width = store.source_size_hw
        categories = [{"id": part.label, "name": part.name} for part in parts]
        images = [
            {"id": index, "file_name": name, "height": height, "width": width} for index, name in enumerate(names, 1)
        ]
        info = {"description": f"parts of {title}"}
        head = {"info": info, "licenses": [], "categories": categories, "images": images}
        stream.write(json.dumps(head)[:-1] + ', "annotations": [')
        for number, annotation in enumerate(_annotations(store), 1):
            stream.write((",\n" if number > 1 else "\n") + json.dumps({"id": number, **annotation}))
        stream.write("\n]}\n")


def export_npz(store: LabelStore, file: Path) -> None:
    """Write `labels` uint8 [frame, row, column] at the processed size, `pts`, `time_base` and `source_size_hw`.

    `time_base` is its numerator and denominator.
    """
    base = store.time_base
    small = {
        "pts": np.array(store.pts, dtype=np.int64),
        "time_base": np.array([base.numerator, base.denominator], dtype=np.int64),
        "source_size_hw": np.array(store.source_size_hw, dtype=np.int64),
        "frame_names": np.array([store.name(index) for index in range(len(store))]),
    }
    with open_npz(file, zipfile.ZIP_DEFLATED) as archive:
        archive.write_rows("labels", (len(store), *store.size_hw), (labels for _, _, labels in store.frames()))
        for name, array in small.items():
            archive.write(name, array)


def _annotations(store: LabelStore) -> Iterator[dict[str, Any]]:
    height, width = store.source_size_hw
    for index, full in store.full_frames():
        for part in np.unique(full[full > 0]):
            mask = full == part
            yield {
                "image_id": index + 1,
                "category_id": int(part),
                "segmentation": {"size": [height, width], "counts": encode_mask(mask)},
                "area": int(mask.sum()),
                "bbox": _box(mask),
                "iscrowd": 0,
            }


def _box(mask: NDArray[np.bool_]) -> list[int]:
    """x, y, width and height of the smallest box around a mask that isn't empty."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(cols[0]), int(rows[0]), int(cols[-1] - cols[0] + 1), int(rows[-1] - rows[0] + 1)]
