"""Videos with annotated part labels: a video file with an npz, or folders of pictures.

    <clip>.mp4, <clip>_parts.npz       `labels` [frame, row, column] for every frame, `names` of the labels from 0
    <clip>/frames/*.jpg, <clip>/labels/*.png     label maps of all or some of the frames
    frames/*.jpg, labels/*.png                   the folder is itself one clip

A label map's palette index or grey value is the part; 0 is the background.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import folders_in, pictures_in, read_indices

LAYOUT = "<clip>.mp4 with <clip>_parts.npz, or <clip>/frames/*.jpg with <clip>/labels/*.png"

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")


@dataclass(frozen=True, slots=True)
class PartClip:
    """A video with part labels of some or all of its frames.

    Attributes:
        name: the clip's name.
        source: a video file, or a folder of frames.
        label_files: of a folder: pairs of frame index and label map; empty for a video file.
        archive: of a video file: the npz with its labels.
    """

    name: str
    source: Path
    label_files: tuple[tuple[int, Path], ...] = ()
    archive: Path | None = None

    def read_labels(self) -> Mapping[int, NDArray[np.uint8]]:
        """Label maps uint8 [h, w] by frame index; those of a folder are read when they are accessed.

        Raises:
            InputError: the archive is missing or malformed.
        """
        if self.archive is None:
            return _LabelFiles(dict(self.label_files))
        return dict(enumerate(_read_archive(self.archive)))


class _LabelFiles(Mapping[int, NDArray[np.uint8]]):
    """Label maps on disk by frame index, read at each access."""

    def __init__(self, files: Mapping[int, Path]) -> None:
        self._files = files

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return read_indices(self._files[index])

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def load_part_clips(root: Path) -> tuple[PartClip, ...]:
    """The annotated clips of a folder, sorted by name.

    Raises:
        InputError: the folder contains none, or a label map has no frame.
    """
    if not root.is_dir():
        raise InputError(f"'{root}' is no folder; expected {LAYOUT}")
    archives = [_from_archive(file) for file in sorted(root.glob("*_parts.npz"))]
    folders = [_from_folder(folder) for folder in (root, *folders_in(root)) if (folder / "labels").is_dir()]
    if not archives and not folders:
        raise InputError(f"'{root}' holds no clip with parts; expected {LAYOUT}")
    return tuple(sorted([*archives, *folders], key=lambda clip: clip.name))


def _from_archive(archive: Path) -> PartClip:
    name = archive.stem.removesuffix("_parts")
    for suffix in VIDEO_SUFFIXES:
        video = archive.with_name(f"{name}{suffix}")
        if video.is_file():
            return PartClip(name, video, archive=archive)
    raise InputError(f"'{archive.with_name(name)}.mp4' is missing, the video of '{archive}'; expected {LAYOUT}")


def _from_folder(folder: Path) -> PartClip:
    frames = folder / "frames"
    if not frames.is_dir():
        raise InputError(f"'{frames}' is missing; expected {LAYOUT}")
    positions = {path.stem: index for index, path in enumerate(pictures_in(frames))}
    labels = pictures_in(folder / "labels")
    for file in labels:
        if file.stem not in positions:
            raise InputError(f"'{frames / file.stem}.jpg' is missing, the frame of '{file}'; expected {LAYOUT}")
    if not labels:
        raise InputError(f"'{folder / 'labels'}' holds no label map; expected {LAYOUT}")
    return PartClip(folder.name, frames, tuple(sorted((positions[file.stem], file) for file in labels)))


def _read_archive(archive: Path) -> NDArray[np.uint8]:
    try:
        with np.load(archive, allow_pickle=False) as content:
            labels = np.asarray(content["labels"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"'{archive}' can't be read: {error}; expected labels [frame, row, column]") from error
    integers = labels.ndim == 3 and labels.size > 0 and np.issubdtype(labels.dtype, np.integer)
    if not integers or labels.min() < 0 or labels.max() > 255:
        raise InputError(
            f"'{archive}' has labels {labels.dtype} {labels.shape}, expected [frame, row, column] of 0..255"
        )
    return labels.astype(np.uint8)
