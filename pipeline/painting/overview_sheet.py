"""Overview sheets of many pictures with their results, and cut-outs on a checkerboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.geometry import fitted_size
from pipeline.painting.palettes import checkerboard

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

CHECKER_SHARE = 1 / 24
"""Side of a checkerboard's squares as a share of the picture's height: the same in all pictures of a sheet's row."""
CHECKER_GREYS = (255, 214)

ROW_PX = 220
"""Height of a picture on a sheet."""
WIDTH_PX = 1800
"""A sheet's width at most."""
MARGIN_PX, GAP_PX, CAPTION_PX, HEADER_PX, LEGEND_PX = 28, 12, 30, 64, 36
_PAPER, _INK, _SOFT_INK = (255, 255, 255), (32, 32, 36), (110, 110, 118)


def cut_out(rgb: Picture, mask: NDArray[np.bool_]) -> Picture:
    """The masked part of a picture on a checkerboard, whose squares scale with the picture.

    Args:
        rgb: uint8 [height, width, 3].
        mask: bool [height, width].
    """
    side = max(2, round(mask.shape[0] * CHECKER_SHARE))
    height, width = mask.shape
    return np.where(mask[..., None], rgb, checkerboard((height, width), side, CHECKER_GREYS)[..., None])


@dataclass(frozen=True, slots=True)
class _Tile:
    """Pictures of one size, shown one above the other, and a caption."""

    caption: str
    pictures: tuple[Picture, ...]

    @property
    def width(self) -> int:
        return int(self.pictures[0].shape[1])

    @property
    def height(self) -> int:
        return len(self.pictures) * (ROW_PX + GAP_PX) - GAP_PX + CAPTION_PX


class Sheet:
    """A page of pictures in rows, each above its results; only what the page shows is held in memory.

    Args:
        title: the page's heading.
        legend: names and RGB colours, shown beside the heading.
    """

    def __init__(self, title: str, legend: Sequence[tuple[str, Colour]] = ()) -> None:
        """Make an empty page."""
        self._title, self._legend = title, tuple(legend)
        self._tiles: list[_Tile] = []

    def __len__(self) -> int:
        """Number of pictures on the page."""
        return len(self._tiles)

    def add(self, caption: str, pictures: Sequence[Picture]) -> None:
        """Add a picture and its results.

        Args:
            caption: stands under them.
            pictures: uint8 [height, width, 3] of one shape, the picture first.
        """
        self._tiles.append(_Tile(caption, tuple(_shrink(picture) for picture in pictures)))

    def draw(self) -> Picture:
        """The page, uint8 [height, width, 3]."""
        rows, legend = self._rows(), _wrapped(self._legend, self._legend_left)
        header = HEADER_PX + LEGEND_PX * max((entry.line for entry in legend), default=0)
        right = max([entry.right for entry in legend], default=self._legend_left)
        width = max([MARGIN_PX + _row_width(row) for row in rows] + [right]) + MARGIN_PX
        height = 2 * MARGIN_PX + header + sum(_row_height(row) + GAP_PX for row in rows)
        page = Image.new("RGB", (width, height), _PAPER)
        ImageDraw.Draw(page).text((MARGIN_PX, MARGIN_PX), self._title, _INK, _font(26))
        for entry in legend:
            entry.draw(page)
        top = MARGIN_PX + header
        for row in rows:
            _draw_row(page, row, top)
            top += _row_height(row) + GAP_PX
        return np.asarray(page)

    @property
    def _legend_left(self) -> int:
        return MARGIN_PX + round(_font(26).getlength(self._title)) + 30

    def _rows(self) -> list[list[_Tile]]:
        rows: list[list[_Tile]] = []
        for tile in self._tiles:
            if not rows or _row_width([*rows[-1], tile]) > WIDTH_PX - 2 * MARGIN_PX:
                rows.append([])
            rows[-1].append(tile)
        return rows


@dataclass(frozen=True, slots=True)
class _Entry:
    """A colour of the legend and its name, at a place of the header."""

    name: str
    colour: Colour
    left: int
    line: int

    @property
    def right(self) -> int:
        return self.left + 34 + round(_font(18).getlength(self.name)) + 20

    def draw(self, page: Image.Image) -> None:
        draw, top = ImageDraw.Draw(page), MARGIN_PX + self.line * LEGEND_PX
        draw.rounded_rectangle((self.left, top + 4, self.left + 26, top + 28), 5, self.colour)
        draw.text((self.left + 34, top + 5), self.name, _SOFT_INK, _font(18))


def _wrapped(legend: Sequence[tuple[str, Colour]], left: int) -> list[_Entry]:
    """The legend in lines that begin at `left` and are no wider than a sheet."""
    entries: list[_Entry] = []
    for name, colour in legend:
        last = entries[-1] if entries else None
        entry = _Entry(name, colour, last.right if last else left, last.line if last else 0)
        if last and entry.right > WIDTH_PX - MARGIN_PX:
            entry = _Entry(name, colour, left, last.line + 1)
        entries.append(entry)
    return entries


def _shrink(picture: Picture) -> Picture:
    """The picture in a row's height; one much wider than high is made to fit a row's width."""
    height, width = fitted_size(picture.shape[:2], (ROW_PX, WIDTH_PX - 2 * MARGIN_PX))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _row_width(row: Sequence[_Tile]) -> int:
    return sum(tile.width + GAP_PX for tile in row) - GAP_PX


def _row_height(row: Sequence[_Tile]) -> int:
    return max(tile.height for tile in row)


def _draw_row(page: Image.Image, row: Sequence[_Tile], top: int) -> None:
    draw, left = ImageDraw.Draw(page), MARGIN_PX
    for tile in row:
        for number, picture in enumerate(tile.pictures):
            page.paste(Image.fromarray(picture), (left, top + number * (ROW_PX + GAP_PX)))
        caption = _fitting(tile.caption, tile.width)
        draw.text((left, top + tile.height - CAPTION_PX + 4), caption, _SOFT_INK, _font(16))
        left += tile.width + GAP_PX


def _fitting(text: str, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if _font(16).getlength(text) <= width:
        return text
    while text and _font(16).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
