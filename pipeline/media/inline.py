"""Pictures that lie within a page: scaled down, as JPEG, and as `data:` addresses."""

from __future__ import annotations

import base64
import io

from PIL import Image


def scaled(picture: Image.Image, long_side: int) -> Image.Image:
    """A picture whose longer side is at most `long_side` pixels."""
    scale = min(1.0, long_side / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """A picture as JPEG, of a quality from 0 to 95."""
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=quality, optimize=True)
    return encoded.getvalue()


def data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    """Bytes as a `data:` address.

    >>> data_uri(b"abc", "image/png")
    'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
