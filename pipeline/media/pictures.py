"""Picture files: reading to upright 8-bit RGB (EXIF, palettes, 16 bits, tiles), writing, palette PNGs of label maps."""

from __future__ import annotations

import io
import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from pipeline.errors import InputError
from pipeline.files import output_errors, partial_path, remove, write_file

MAX_PICTURE_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded: a small file can claim any size."""

_WRITTEN_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm"}
)
BAND_PX = 2**22
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"miaf"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BRAND_BYTES = 256
_TIMED = frozenset({"PNG", "WEBP", "AVIF"})
_SEVERAL = _TIMED | {"TIFF", "HEIF"}
"""Formats whose pictures are a sequence; a JPEG's others are previews and depth maps."""

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

# A broken or huge picture is judged here, with an error of one line; Pillow's warnings would only be printed beside it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [height, width, 3] RGB, upright.

    EXIF rotation is applied, grey, palette and CMYK are converted, 16 bits are scaled to 8, alpha is dropped and
    the colours under it kept.

    Raises:
        InputError: the file is missing, broken, of no known kind, too large, or holds several pictures.
    """
    with _opened(path) as image:
        _check_size(path, image)
        _require_one(path, image)
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(path, image)


def writable_name(name: str) -> str:
    """A picture's name under which Pillow can write one: HEIC, for example, gets `.png` behind its own suffix.

    >>> writable_name("00000.jpg"), writable_name("IMG_1.HEIC")
    ('00000.jpg', 'IMG_1.HEIC.png')
    """
    return name if Path(name).suffix.lower() in _WRITTEN_SUFFIXES else f"{name}.png"


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
        InputError: the file is missing, of no known kind, too large, or holds several pictures.
    """
    with _opened(path) as image:
        _check_size(path, image)
        _require_one(path, image)
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
        return (width, height) if sideways else (height, width)


@dataclass(frozen=True, slots=True)
class Page:
    """One of a file's pictures.

    Attributes:
        length_s: seconds that it is shown; None where the file says no times.
        rgb: uint8 [height, width, 3], upright; None where it wasn't wanted.
    """

    length_s: Fraction | None
    rgb: NDArray[np.uint8] | None


def read_pages(path: Path, wanted: Container[int]) -> Iterator[Page]:
    """The pictures of a file in their order; those of numbers `wanted` with their pixels.

    Raises:
        InputError: the file is missing, broken, of no known kind or too large.
    """
    with _opened(path) as image:
        _check_size(path, image)
        for number, place in enumerate(_places(image)):
            image.seek(place)
            _check_size(path, image)
            length = None
            if image.format in _TIMED:
                # Known once the picture is decoded.
                image.load()
                length = _length(image)
            yield Page(length, _page_rgb(path, image) if number in wanted else None)


def count_pages(path: Path) -> int:
    """How many pictures a file holds; 1 where that can't be read."""
    try:
        with _opened(path) as image:
            return len(_places(image))
    # What is wrong with it shows when it is read.
    except InputError:
        return 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file's picture, not decoded yet; what goes wrong with it within the block is an InputError."""
    try:
        if path.is_file():
            _prepare(path)
        with Image.open(path) as image:
            yield image
    except InputError:
        raise
    except Exception as error:
        # Pillow's plugins raise any exception on a broken file.
        raise _unreadable(path, error) from error


def _prepare(path: Path) -> None:
    """Make Pillow able to read a file's kind, where that needs more than Pillow.

    Raises:
        InputError: what it needs isn't installed.
    """
    with path.open("rb") as file:
        head = file.read(_BRAND_BYTES)
    if head[4:8] != b"ftyp":
        return
    brands = [head[at : at + 4] for at in (8, *range(16, min(len(head), int.from_bytes(head[:4])), 4))]
    if _AVIF_BRANDS.isdisjoint(brands) and not _HEIF_BRANDS.isdisjoint(brands):
        try:
            import pillow_heif
        except ImportError as error:
            raise InputError(
                f"picture {str(path)!r} is HEIC, which needs pillow-heif: pip install 'vidparts[heif]', or convert it"
            ) from error
        pillow_heif.register_heif_opener()
    elif not _AVIF_BRANDS.isdisjoint(brands) and not features.check("avif"):
        raise InputError(f"picture {str(path)!r} is AVIF, which this build of Pillow can't read; convert it")


def _require_one(path: Path, image: Image.Image) -> None:
    count = len(_places(image))
    if count > 1:
        raise InputError(
            f"{str(path)!r} holds {count} pictures ({image.format}), where one is expected; "
            "give it alone to a command that takes videos, or save the one that is wanted"
        )


def _places(image: Image.Image) -> Sequence[int]:
    """Where the pictures of a file are, as Pillow counts."""
    count: int = getattr(image, "n_frames", 1)
    if image.format not in _SEVERAL or count == 1:
        return range(1)
    if image.format == "PNG" and getattr(image, "default_image", False):
        # Shown only by what knows no animations.
        return range(1, count)
    if image.format != "TIFF":
        return range(count)
    places = []
    for place in range(count):
        image.seek(place)
        if not _is_thumbnail(image):
            places.append(place)
    image.seek(0)
    return places or range(1)


def _is_thumbnail(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    # A reduced picture or a mask of another one, by either of TIFF's two ways to say so.
    return bool(int(tags.get(254, 0)) & 0b101) or tags.get(255) == 2


def _length(image: Image.Image) -> Fraction:
    """Seconds that the loaded picture is shown; Pillow gives milliseconds, as a float where PNG has a fraction."""
    return (Fraction(image.info.get("duration", 0)) / 1000).limit_denominator(65535)


def _page_rgb(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image.copy())
    assert upright is not None
    return _to_rgb(path, upright)


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
    rows = max(1, BAND_PX // width)
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


def write_palette_png(path: Path, labels: NDArray[np.uint8], colors: NDArray[np.uint8]) -> None:
    """Write a label map as a palette PNG; the file appears complete or not at all.

    Args:
        path: the file.
        labels: uint8 [h, w]; 0 is the background, shown black.
        colors: uint8 [k, 3], RGB of the labels 1..k.

    Raises:
        OutputError: it can't be written.
    """
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, *colors.ravel().tolist()])
    partial = partial_path(path)
    with output_errors(path):
        remove(partial)
        image.save(partial, format="PNG")
        partial.replace(path)


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
