"""How results show themselves in a notebook: pictures and a legend as HTML, with everything inline."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from pipeline.errors import InputError
from pipeline.media.inline import data_uri, jpeg, scaled
from pipeline.media.kinds import is_picture
from pipeline.media.pictures import read_picture
from pipeline.records import Part

_MOST = 12
_LONG_SIDE_PX = 360
QUALITY = 80
"""Of the JPEG pictures in a notebook."""
_SWATCH = "display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px"


def files_html(title: str, files: Iterable[Path]) -> str:
    """The pictures among some files, small, and the names of all of them."""
    paths = list(files)
    shown = [(path.name, found) for path in paths if is_picture(path) and (found := _small(path)) is not None][:_MOST]
    names = "<br>".join(html.escape(str(path)) for path in paths[:_MOST])
    rest = f"<br>and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    return f"<p><b>{html.escape(title)}</b></p>{strip_html(shown)}<p><small>{names}{rest}</small></p>"


def strip_html(pictures: Sequence[tuple[str, bytes]]) -> str:
    """JPEG pictures beside each other, each with its name."""
    figures = [
        '<figure style="margin:0 8px 8px 0;display:inline-block">'
        f'<img style="display:block;max-height:180px;border-radius:4px" src="{data_uri(content)}" '
        f'alt="{html.escape(name)}"><figcaption><small>{html.escape(name)}</small></figcaption></figure>'
        for name, content in pictures
    ]
    return f"<div>{''.join(figures)}</div>"


def legend_html(parts: Iterable[tuple[Part, str]]) -> str:
    """Parts with their colours, names and a figure each."""
    rows = [
        '<span style="margin-right:16px;white-space:nowrap">'
        f'<i style="{_SWATCH};background:#{bytes(part.color).hex()}"></i>'
        f"{html.escape(part.name)} <small>{html.escape(figure)}</small></span>"
        for part, figure in parts
    ]
    return f"<p>{''.join(rows)}</p>"


def _small(path: Path) -> bytes | None:
    try:
        picture = Image.fromarray(read_picture(path))
    except InputError:
        return None
    return jpeg(scaled(picture, _LONG_SIDE_PX), QUALITY)
