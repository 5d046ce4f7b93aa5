"""BADJA: animal joints on about every fifth frame of DAVIS videos (Biggs et al., ACCV 2018).

    joint_annotations/<clip>.json    or joints/<clip>.json
    DAVIS/JPEGImages/Full-Resolution/<clip>/00000.jpg
    DAVIS/Annotations/Full-Resolution/<clip>/00000.png

The folder DAVIS may be missing; the resolution may be `480p` or missing. The repository's extra videos are skipped, as
in other evaluations: it doesn't contain their frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.davis import find_level
from pipeline.evaluation.datasets.layout import Picture, first_existing, read_indices, read_json, require, size_of

LAYOUT = (
    "joint_annotations/<clip>.json (or joints/<clip>.json) with DAVIS/JPEGImages/<level>/<clip>/*.jpg and "
    "DAVIS/Annotations/<level>/<clip>/*.png, where the folder DAVIS and the level may be missing"
)

JOINTS = (8, 9, 10, 12, 13, 14, 15, 18, 19, 20, 22, 23, 24, 25, 28, 31, 32, 33, 35, 36)
"""Indices of the annotated joints in the SMAL animal model: legs, neck, tail, jaw, nose and ears."""

ANNOTATED_HW = (1080, 1920)
"""Height and width of the picture that the joint coordinates refer to."""


@dataclass(frozen=True, slots=True, eq=False)
class JointFrame:
    """An annotated frame.

    Attributes:
        picture: the frame.
        mask_path: the animal's mask.
        points_xy: float64 [20, 2] points (x, y) in the frame.
        visible: bool [20].
    """

    picture: Picture
    mask_path: Path
    points_xy: NDArray[np.float64]
    visible: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check the joints' shapes."""
        if self.points_xy.shape != (len(JOINTS), 2) or self.visible.shape != (len(JOINTS),):
            raise ValueError(f"JointFrame: points {self.points_xy.shape}, visible {self.visible.shape}")

    def read_area(self) -> int:
        """Area of the animal's mask in pixels.

        Raises:
            InputError: the mask is missing, isn't a picture, or differs from the frame in size.
        """
        mask = read_indices(self.mask_path)
        if mask.shape != size_of(self.picture.path):
            raise InputError(f"mask '{self.mask_path}' and frame '{self.picture.path}' differ in size")
        return int(np.count_nonzero(mask))


@dataclass(frozen=True, slots=True, eq=False)
class JointClip:
    """The annotated frames of a video, in order."""

    name: str
    frames: tuple[JointFrame, ...]

    def __post_init__(self) -> None:
        """Check that there is a frame."""
        if not self.frames:
            raise ValueError(f"JointClip '{self.name}' holds no frame")


def load_badja(root: Path) -> tuple[JointClip, ...]:
    """The clips with annotated joints, sorted by name.

    Raises:
        InputError: a folder or file is missing, or a joint file is malformed.
    """
    joints = first_existing([root / "joint_annotations", root / "joints"])
    if joints is None:
        raise InputError(f"'{root / 'joint_annotations'}' is missing; expected {LAYOUT}")
    videos = first_existing([root / "DAVIS"]) or root
    images, masks = find_level(*(require(videos / kind, LAYOUT) for kind in ("JPEGImages", "Annotations")))
    clips = (_load_clip(file, images, masks) for file in sorted(joints.glob("*.json")))
    found = tuple(clip for clip in clips if clip is not None)
    if not found:
        raise InputError(f"'{joints}' holds no joints of a DAVIS video; expected {LAYOUT}")
    return found


def _load_clip(file: Path, images: Path, masks: Path) -> JointClip | None:
    annotations = read_json(file, LAYOUT)
    try:
        paths = [Path(annotation["image_path"]) for annotation in annotations]
        if not paths or any("extra_videos" in path.parts for path in paths):
            return None
        frames = (_load_frame(path, values, images, masks) for path, values in zip(paths, annotations, strict=True))
        return JointClip(file.stem, tuple(sorted(frames, key=lambda frame: frame.picture.name)))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"'{file}' is no list of joints: {error!r}; expected {LAYOUT}") from error


def _load_frame(path: Path, values: dict[str, Any], images: Path, masks: Path) -> JointFrame:
    clip, stem = path.parent.name, path.stem
    frame = require(images / clip / f"{stem}.jpg", LAYOUT)
    scale = np.array(size_of(frame)) / np.array(ANNOTATED_HW)
    rows_cols = np.array(values["joints"], dtype=np.float64)[list(JOINTS)]
    return JointFrame(
        picture=Picture(f"{clip}/{stem}", frame),
        mask_path=require(masks / clip / f"{stem}.png", LAYOUT),
        points_xy=np.ascontiguousarray((rows_cols * scale)[:, ::-1]),
        visible=np.array(values["visibility"], dtype=np.bool_)[list(JOINTS)],
    )
