"""Pictures: one file to upright 8-bit RGB. Knows nothing of sequences."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import InputError
from pipeline.files import output_errors, write_file

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm"}
)
"""Files of a directory that are taken for frames; GIF counts as video."""

MAX_PICTURE_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded: a small file can claim any size."""

_BAND_PX = 2**22
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

# A broken or huge picture is judged here, with an error of one line; Pillow's warnings would only be printed beside it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def is_picture(path: Path) -> bool:
    """Whether a file's suffix says that it is a picture.

    >>> is_picture(Path("frame2.PNG")), is_picture(Path("clip.mp4"))
    (True, False)
    """
    return path.suffix.lower() in PICTURE_SUFFIXES


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [height, width, 3] RGB, upright.

    EXIF rotation is applied, grey, palette and CMYK are converted, 16 bits are scaled to 8, alpha is dropped and
    the colours under it kept; of several pages the first is read.

    Raises:
        InputError: the file is missing, broken, of no known kind or too large.
    """
    try:
        with Image.open(path) as image:
            _check_size(path, image)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(path, image)
    except InputError:
        raise
    except Exception as error:
        # Pillow's plugins raise whatever a broken file makes them stumble over.
        raise _unreadable(path, error) from error


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write uint8 [height, width, 3] in the format that the name's suffix says; the folder is made if need be.

    Raises:
        OutputError: it can't be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb).save(path, quality=95)


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture after its EXIF rotation, from its header.

    Raises:
        InputError: the file is missing, of no known kind or too large.
    """
    try:
        with Image.open(path) as image:
            _check_size(path, image)
            width, height = image.size
            sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    return (width, height) if sideways else (height, width)


def _to_rgb(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        grey = _scaled_to_8_bit(path, np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise InputError(f"picture {str(path)!r} holds floating-point values; convert it to 8 or 16 bits")
    if image.mode in ("P", "PA", "La", "RGBa"):
        # By way of RGBA, or a transparent colour would be replaced and premultiplied ones darkened.
        image = image.convert("RGBA")
    return _pixels(image if image.mode == "RGB" else image.convert("RGB"))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an RGB image; by bands, for Pillow makes two more copies of what it hands over."""
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PX // width)
    for top in range(0, height, rows):
        rgb[top : top + rows] = np.asarray(image.crop((0, top, width, min(top + rows, height))))
    return rgb


def _scaled_to_8_bit(path: Path, grey: NDArray[np.integer]) -> NDArray[np.uint8]:
    values = grey.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"picture {str(path)!r} holds values beyond 16 bits; convert it to 8 or 16 bits")
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _check_size(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PICTURE_PIXELS:
        raise _too_large(path)
    if width * height == 0:
        raise InputError(f"picture {str(path)!r} is empty: {width}x{height} pixels")


def _too_large(path: Path) -> InputError:
    return InputError(f"picture {str(path)!r} claims more than {MAX_PICTURE_PIXELS:,} pixels; give a smaller one")


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(path)
    if isinstance(error, FileNotFoundError):
        return InputError(f"picture {str(path)!r} doesn't exist")
    if isinstance(error, PermissionError):
        return InputError(f"picture {str(path)!r} can't be read: permission denied")
    if isinstance(error, UnidentifiedImageError):
        return InputError(f"picture {str(path)!r} is not a picture of a known kind; remove or replace it")
    return InputError(f"picture {str(path)!r} is broken ({' '.join(str(error).split())}); remove or replace it")


def save_png(file: Path, rgb: NDArray[np.uint8]) -> Path:
    """Write uint8 [height, width, 3] as PNG.

    Raises:
        OutputError: it can't be written.
    """
    encoded = io.BytesIO()
    # Photographs hardly get smaller at higher levels, but take several times as long.
    Image.fromarray(rgb).save(encoded, "PNG", compress_level=1)
    write_file(file, encoded.getvalue())
    return file
