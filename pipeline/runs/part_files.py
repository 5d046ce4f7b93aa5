"""Files of `parts`: label maps, paintings, arrays and the overview."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.codebook import Codebook
from pipeline.geometry import resize_labels
from pipeline.media.palette_png import write_palette_png
from pipeline.media.pictures import write_picture
from pipeline.painting.styles import paint
from pipeline.records import PartMap
from pipeline.runs.picture_files import AlbumFiles
from pipeline.runs.picture_record import PictureRecord
from pipeline.runs.picture_workspace import PictureWorkspace
from pipeline.stages.picture_set import Album

ARRAYS, LABELS, PROCESSED, PAINTED = "labels.npz", "_labels.png", "_labels_processed.png", "_parts.png"


class PartFiles(AlbumFiles):
    """Writes each picture's label maps and painting."""

    def __init__(self, work: PictureWorkspace, album: Album, codebook: Codebook) -> None:
        """Go on behind the last page that is finished."""
        self._colors = codebook.part_colors
        legend = [(f"part {part}", _rgb(color)) for part, color in enumerate(codebook.part_colors, 1)]
        super().__init__(work, album, "Common parts", legend)

    def _write(self, item: PartMap) -> PictureRecord:
        frame, render = item.frame, self._album.engine.settings.render
        labels = resize_labels(item.labels, frame.size_hw)
        write_palette_png(self._folder / f"{frame.name}{LABELS}", labels, self._colors)
        write_palette_png(self._folder / f"{frame.name}{PROCESSED}", item.labels, self._colors)
        self._archive.write(f"{frame.name}/labels", item.labels)
        painted = paint(frame.rgb, labels, self._colors, render.style, render.alpha)
        write_picture(self._folder / f"{frame.name}{PAINTED}", painted)
        self._overview.add(frame.name, [frame.rgb, paint(frame.rgb, labels, self._colors, "overlay", render.alpha)])
        path = self._album.pictures[frame.index].path
        return PictureRecord.of(frame, path, labels, len(self._colors))


def _rgb(color: NDArray[np.uint8]) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])
