"""The pictures that annotations name: their names, and writing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from pipeline.errors import InputError, OutputError
from pipeline.files import output_errors
from pipeline.media.kinds import is_picture
from pipeline.media.label_store import LabelStore
from pipeline.records import Frame

PictureFormat = Literal["png", "jpg"]

_QUALITY = 95


def picture_names(store: LabelStore, written: PictureFormat | None = None) -> list[str]:
    """The names of the frames as pictures: their own, or for a video's frame its number.

    Args:
        store: the labels.
        written: the kind of pictures that are written; None: a directory's own ones, and PNGs for a video.

    Raises:
        OutputError: two would have one name.
    """
    own = store.attributes.frame_names
    if own and written is None:
        return list(own)
    return [f"{stem}.{written or 'png'}" for stem in frame_stems(store, "{:06d}")]


def frame_stems(store: LabelStore, pattern: str = "{:05d}") -> list[str]:
    """The frames' names without the suffix of a picture, or for a video's frame its number.

    Raises:
        OutputError: two are the same.
    """
    own = store.attributes.frame_names
    if not own:
        return [pattern.format(index) for index in range(len(store))]
    seen: dict[str, str] = {}
    for name in own:
        stem = name[: -len(Path(name).suffix)] if is_picture(Path(name)) else name
        if stem in seen:
            raise OutputError(
                f"frames {seen[stem]!r} and {name!r} would both be called {stem}; "
                "rename one and segment the input again, or export coco or npz"
            )
        seen[stem] = name
    return list(seen)


def write_pictures(
    store: LabelStore, frames: Iterator[Frame], origin: Path, folder: Path, names: Sequence[str]
) -> Iterator[Path]:
    """Write the frames that labels were made of, one file at a time; the suffixes of their names say the format.

    Raises:
        InputError: the source is another one than the labels were made of.
        OutputError: a picture can't be written.
    """
    written = 0
    for pts, name, frame in zip(store.pts, names, frames, strict=False):
        if frame.pts != pts:
            raise InputError(f"'{origin}' isn't what the labels were made of: pts {frame.pts}, expected {pts}")
        file = folder / name
        with output_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(frame.rgb)
            if file.suffix == ".png":
                # Photographs hardly get smaller at higher levels, but take several times as long.
                image.save(file, "PNG", compress_level=1)
            else:
                image.save(file, "JPEG", quality=_QUALITY, subsampling=0)
        written += 1
        yield file
    if written < len(store):
        raise InputError(f"'{origin}' has {written} frames, the labels were made of {len(store)}")
