"""Co-segmentation sets: MSRC, Internet300, PASCAL-VOC, PASCAL-CO, and similar folders.

A set is pictures that show the same kind of object. The first layout that matches is used; folder names are compared
case-insensitively:

    one folder per set (MSRC, Internet300 as Rubinstein et al. published them, PASCAL-CO)
        <set>/<picture>.jpg                 or  <set>/images/<picture>.jpg
        <set>/GroundTruth/<picture>.png     or  <set>/masks/<picture>.png
    images and masks apart
        images/<set>/<picture>.jpg
        masks/<set>/<picture>.png
    PASCAL VOC's own layout: one set per class
        JPEGImages/<picture>.jpg
        SegmentationClass/<picture>.png
        ImageSets/Segmentation/trainval.txt

`MASK_FOLDERS` and `IMAGE_FOLDERS` list the names of folders that are accepted. A mask has its picture's name, with or
without `_GT`; every pixel that isn't black is foreground.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import (
    PICTURE_SUFFIXES,
    Picture,
    first_existing,
    folders_in,
    pictures_in,
    read_indices,
    read_lines,
    require,
)

IMAGE_FOLDERS = ("images", "image", "img", "imgs", "jpegimages")
MASK_FOLDERS = ("groundtruth", "ground_truth", "ground-truth", "gt", "masks", "mask", "labels", "segmentationclass")

LAYOUT = (
    "<set>/images/*.jpg with <set>/masks/*.png, <set>/*.jpg with <set>/GroundTruth/*.png, images/<set>/*.jpg with "
    "masks/<set>/*.png, or PASCAL VOC's JPEGImages, SegmentationClass and ImageSets/Segmentation"
)

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_VOID = 255


@dataclass(frozen=True, slots=True)
class CosegPicture:
    """One picture of a set.

    Attributes:
        picture: the picture.
        mask_path: its mask.
        label: the mask's value of the foreground; None: every value but 0.
    """

    picture: Picture
    mask_path: Path
    label: int | None = None

    def read_mask(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """The annotated foreground and the ignored pixels (None if there are none), bool [h, w] each.

        Raises:
            InputError: the mask is missing, or isn't a picture.
        """
        values = read_indices(self.mask_path)
        if self.label is not None:
            return values == self.label, values == VOC_VOID
        # JPEG compression leaves grey values around the edges of a black and white mask.
        lossy = self.mask_path.suffix.lower() in (".jpg", ".jpeg")
        return values > (127 if lossy else 0), None


@dataclass(frozen=True, slots=True)
class CosegSet:
    """Pictures that show the same kind of object."""

    name: str
    pictures: tuple[CosegPicture, ...]

    def __post_init__(self) -> None:
        """Check that there is a picture."""
        if not self.pictures:
            raise ValueError(f"CosegSet '{self.name}' holds no picture")


def load_sets(root: Path) -> tuple[CosegSet, ...]:
    """The sets of a folder, sorted by name.

    Raises:
        InputError: the folder has none of the layouts, or a picture has no mask.
    """
    root = require(root, LAYOUT)
    voc = first_existing([root / "ImageSets" / "Segmentation", *root.glob("VOCdevkit/VOC*/ImageSets/Segmentation")])
    if voc is not None:
        return _load_voc(voc.parent.parent)
    images, masks = _named(root, IMAGE_FOLDERS), _named(root, MASK_FOLDERS)
    if images and masks and folders_in(images):
        pairs = [(folder, masks / folder.name) for folder in folders_in(images)]
    else:
        # The folder may itself be one set.
        folders = [root] if masks else folders_in(root)
        found_masks = [(folder, _named(folder, MASK_FOLDERS)) for folder in folders]
        pairs = [(_named(folder, IMAGE_FOLDERS) or folder, truth) for folder, truth in found_masks if truth]
    sets = [_load_set(found, truth) for found, truth in pairs if pictures_in(found)]
    if not sets:
        raise InputError(f"'{root}' holds no set of pictures with masks; expected {LAYOUT}")
    return tuple(sets)


def _load_set(images: Path, masks: Path) -> CosegSet:
    # A set is named after its own folder, not after a sub-folder such as `images`.
    name = images.parent.name if images.name.lower() in IMAGE_FOLDERS else images.name
    pictures = (
        CosegPicture(Picture(f"{name}/{path.name}", path), _mask_of(path, require(masks, LAYOUT)))
        for path in pictures_in(images)
    )
    return CosegSet(name, tuple(pictures))


def _mask_of(picture: Path, masks: Path) -> Path:
    stems = (picture.stem, f"{picture.stem}_GT", f"{picture.stem}_gt")
    suffixes = (".png", *PICTURE_SUFFIXES)
    found = first_existing(masks / f"{stem}{suffix}" for stem in stems for suffix in suffixes)
    if found is None:
        raise InputError(f"'{masks / picture.stem}.png' is missing, the mask of '{picture}'; expected {LAYOUT}")
    return found


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((found for name in names for found in folders_in(folder) if found.name.lower() == name), None)


def _load_voc(root: Path) -> tuple[CosegSet, ...]:
    lists = root / "ImageSets" / "Segmentation"
    names = read_lines(first_existing([lists / "trainval.txt"]) or lists / "val.txt", LAYOUT)
    found: dict[int, list[CosegPicture]] = {label: [] for label in range(1, len(VOC_CLASSES) + 1)}
    for name in names:
        mask = require(root / "SegmentationClass" / f"{name}.png", LAYOUT)
        picture = require(root / "JPEGImages" / f"{name}.jpg", LAYOUT)
        for label in set(np.unique(read_indices(mask)).tolist()) & found.keys():
            set_name = VOC_CLASSES[label - 1]
            found[label].append(CosegPicture(Picture(f"{set_name}/{name}", picture), mask, label))
    return tuple(CosegSet(VOC_CLASSES[label - 1], tuple(pictures)) for label, pictures in found.items() if pictures)
