"""Part co-segmentation: the parts that the objects of pictures share (paper section 4).

The parts are a codebook like that of videos, so that parts found on pictures can colour a video, and the other way
round. Differences from the authors' code are those of `coseg`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.assignment import assigner_of
from pipeline.cluster.codebook import Codebook, codebook_sha256, load_codebook, save_codebook
from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.failures import Failure, raise_failures
from pipeline.forecast.picture_dry_run import PictureEstimate, estimate_pictures
from pipeline.forecast.picture_memory import size_picture_run
from pipeline.geometry import resize_labels
from pipeline.graph import StageReport
from pipeline.media.inputs import resolve_pictures
from pipeline.media.pictures import write_palette_png, write_picture
from pipeline.painting.styles import paint
from pipeline.progress import Progress, Silent
from pipeline.records import PartMap
from pipeline.runs.manifest import make_picture_manifest
from pipeline.runs.notebook import files_html
from pipeline.runs.picture_files import AlbumFiles
from pipeline.runs.picture_record import AlbumRecord, ClustersRecord, PartsRecord, PictureRecord, album_record
from pipeline.runs.picture_workspace import PictureWorkspace, failures_of, picture_run, require_startable
from pipeline.runs.record import CODEBOOK, save_record
from pipeline.stages.engine import open_engine
from pipeline.stages.fit import Fitted
from pipeline.stages.picture_parts import fit_album, fit_around, refine_with_crf
from pipeline.stages.picture_set import Album, open_album

ARRAYS, LABELS, PROCESSED, PAINTED = "labels.npz", "_labels.png", "_labels_processed.png", "_parts.png"


@dataclass(frozen=True, slots=True)
class PartsResult:
    """What a part co-segmentation did.

    Attributes:
        directory: for each picture <name>_labels.png, <name>_labels_processed.png and <name>_parts.png;
            labels.npz, overview.png, codebook.safetensors and run.json.
        codebook: the parts.
        record: what run.json says.
        failures: pictures that couldn't be used.
    """

    directory: Path
    codebook: Codebook
    record: AlbumRecord
    failures: tuple[Failure, ...]

    @property
    def codebook_file(self) -> Path:
        """The parts' file."""
        return self.directory / CODEBOOK

    def labels(self, name: str) -> NDArray[np.uint8]:
        """A picture's parts at the processed size, uint8 [h, w]; 0 is the background, 1..K the parts."""
        with np.load(self.directory / ARRAYS) as arrays:
            return np.asarray(arrays[f"{name}/labels"])

    def raise_failures(self) -> None:
        """Raise an error of the first failure's kind that names every failed picture; nothing if none failed."""
        raise_failures(self.failures, f" ({len(self.record.pictures)} other pictures are finished)")

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return files_html(self.summary(), sorted(self.directory.glob("overview*.png")))

    def summary(self) -> str:
        """What was found and where it is, for a person."""
        return f"{self.codebook.parts} parts of {len(self.record.pictures)} pictures: {self.directory}"


def parts(
    images: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    codebook: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> PartsResult:
    """Find the parts that the objects of pictures share, and write label maps, paintings and an overview.

    Args:
        images: pictures, directories of pictures, globs or text files of paths; sizes may differ.
        output: the directory to write. For each picture: <stem>_labels.png at its own size and
            <stem>_labels_processed.png at the processed one (palette PNGs; 0 is the background), <stem>_parts.png.
            For all: labels.npz with uint8 `<stem>/labels` at the processed size, overview.png, the codebook and
            run.json.
        settings: the defaults if None; `cluster.parts` is the number of parts, `pictures` has augmentations and stages.
        codebook: use its parts, such as those of a video, instead of fitting.
        overwrite: write into a directory that isn't empty.
        resume: continue an interrupted run, to the same results; begins a new one where there is none.
        progress: receives progress and messages.

    Raises:
        InputError: no picture can be read; single failures are listed in the result.
        UsageError: there are fewer foreground descriptors than parts; with `resume`, the interrupted run was begun with
            other settings or pictures; or the run would take more memory than it may.
        OutputError: the directory isn't empty, can't be written, or another run is at work on it.
        ModelError: the model can't be loaded, or the codebook doesn't fit.
        Interrupted, KeyboardInterrupt: with a message that says what is kept, if anything is.
    """
    settings, progress = settings or Settings(), progress or Silent()
    require_startable(output, overwrite=overwrite, resume=resume)
    pictures = resolve_pictures([str(image) for image in images])
    given = load_codebook(codebook) if codebook else None
    if given:
        _require_no_fit(settings)
    engine = open_engine(settings, progress, given, str(codebook))
    manifest = make_picture_manifest("parts", pictures, engine, codebook_sha256(given) if given else None)
    sized = size_picture_run(pictures, engine, fits=given is None)
    with picture_run(output, manifest, progress, resume=resume) as work:
        if isinstance(work, AlbumRecord):
            return PartsResult(output, load_codebook(output / CODEBOOK), work, failures_of(work))
        with open_album(pictures, sized, progress, work.fit, kept=True) as album:
            album.failures += work.failures()
            fitted, record = _finish(album, work, given)
    return PartsResult(output, fitted.codebook, record, tuple(album.failures))


def estimate_parts(
    images: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    codebook: Path | None = None,
    progress: Progress | None = None,
) -> PictureEstimate:
    """Say what `parts` would take; the arguments are those of it.

    Raises:
        InputError: no picture can be read.
        ModelError: the model can't be loaded, or the codebook doesn't fit.
        UsageError: the run would take more memory than it may.
    """
    settings, progress = settings or Settings(), progress or Silent()
    given = load_codebook(codebook) if codebook else None
    pictures = resolve_pictures([str(image) for image in images])
    engine = open_engine(settings, progress, given, str(codebook))
    finish = partial(_finish, given=given)
    return estimate_pictures(pictures, engine, finish, fits=given is None, progress=progress)


def codebook_around(
    images: Sequence[str | Path],
    centroids: NDArray[np.float32],
    part_centroids: NDArray[np.float32],
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Codebook:
    """A codebook of clusters that were found elsewhere, such as by another clustering.

    Args:
        images: pictures whose saliency votes which clusters are foreground.
        centroids: clusters of all L2-normalised descriptors, float32 [k, channels].
        part_centroids: parts of the foreground, float32 [parts, channels].
        settings: the defaults if None.
        progress: receives progress and messages.

    Raises:
        InputError: no picture can be read.
        UsageError: the clusters don't fit the descriptors.
        ModelError: the model can't be loaded.
    """
    settings, progress = settings or Settings(), progress or Silent()
    pictures = resolve_pictures([str(image) for image in images])
    with open_album(pictures, open_engine(settings, progress), progress) as album:
        return fit_around(album, centroids, part_centroids).codebook


def _require_no_fit(settings: Settings) -> None:
    if settings.pictures.three_stages or settings.pictures.crop_augmentations:
        raise UsageError(
            "--three-stages and --crop-augmentations say how parts are found, but --codebook brings its own; "
            "leave out either"
        )


def _finish(album: Album, work: PictureWorkspace, given: Codebook | None) -> tuple[Fitted, AlbumRecord]:
    """Find the parts where none are given, label all pictures and write what there is to write."""
    fitted = Fitted(given, (), None) if given else fit_album(album)
    return fitted, _label(album, fitted, work)


def _label(album: Album, fitted: Fitted, work: PictureWorkspace) -> AlbumRecord:
    codebook = fitted.codebook
    save_codebook(codebook, work.files / CODEBOOK)
    with _Files(work, album, codebook) as files:
        assigner = assigner_of(codebook, album.engine.settings.saliency, album.engine.extractor.device)
        refine = refine_with_crf(album.engine.settings.crf)
        reports = album.label(files.left(range(len(album.pictures))), assigner.energies, refine, files.write)
    if not files.rows:
        raise album.failures[0].error
    files.join_arrays(ARRAYS)
    record = _record(album, fitted, files.rows, reports)
    save_record(record, work.files)
    return record


def _record(album: Album, fitted: Fitted, rows: Sequence[PictureRecord], reports: Sequence[StageReport]) -> AlbumRecord:
    codebook = fitted.codebook
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in codebook.part_colors)
    clusters = ClustersRecord.of(codebook.votes, codebook.salient, fitted.seconds)
    found = PartsRecord(codebook_sha256=codebook_sha256(codebook), part_colors=colors)
    return album_record("parts", album, rows, clusters, reports, fitted.warnings, found)


class _Files(AlbumFiles):
    """Writes each picture's label maps and painting."""

    def __init__(self, work: PictureWorkspace, album: Album, codebook: Codebook) -> None:
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
