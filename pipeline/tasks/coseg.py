"""Co-segmentation: the common object of pictures, as masks (paper section 4).

All descriptors are clustered, with k by the elbow; pictures vote by their saliency which clusters are foreground;
GrabCut or a CRF aligns the mask with the edges. Differences from the authors' code:

- where nothing is salient theirs crashes; here the most salient cluster is taken, with a warning;
- their half-size saliency needs a load size; here it is half of the processed size, whatever that is;
- their outlier removal mixes up indices; here a picture keeps its index and its files;
- a cluster without members in a picture gets no vote of it; theirs takes the mean of an empty set.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.assignment import ForegroundAssigner, with_shared
from pipeline.cluster.fit import Descriptors, Foreground, fit_foreground, foreground_of
from pipeline.cluster.outliers import similarity_to_mean
from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.failures import Failure, raise_failures
from pipeline.forecast.picture_dry_run import PictureEstimate, estimate_pictures
from pipeline.forecast.picture_memory import size_picture_run
from pipeline.geometry import resize_labels
from pipeline.graph import StageReport
from pipeline.media.inputs import resolve_pictures
from pipeline.media.pictures import write_picture
from pipeline.painting.overview_sheet import cut_out
from pipeline.progress import Progress, Silent
from pipeline.records import Frame, PartMap
from pipeline.refine.crf import refine_labels
from pipeline.refine.grabcut import enlarge_mask, refine_mask
from pipeline.runs.manifest import make_picture_manifest
from pipeline.runs.notebook import files_html
from pipeline.runs.picture_files import AlbumFiles
from pipeline.runs.picture_record import AlbumRecord, ClustersRecord, PictureRecord, album_record
from pipeline.runs.picture_workspace import PictureWorkspace, failures_of, picture_run, require_startable
from pipeline.runs.record import save_record
from pipeline.stages.engine import Engine, open_engine
from pipeline.stages.picture_set import Album, Image, Readable, Refine, Sink, open_album

ERASED = "GrabCut erased the whole mask, so it is as it was before"
MASK, CUTOUT, ARRAYS = "_mask.png", "_cutout.png", "masks.npz"


@dataclass(frozen=True, slots=True)
class CosegResult:
    """What a co-segmentation did.

    Attributes:
        directory: for each picture <name>_mask.png and <name>_cutout.png; masks.npz, overview.png and run.json.
        record: what run.json says.
        failures: pictures that couldn't be used.
    """

    directory: Path
    record: AlbumRecord
    failures: tuple[Failure, ...]

    def mask_file(self, name: str) -> Path:
        """The mask of the picture of that name, at the picture's own size."""
        return self.directory / f"{name}{MASK}"

    def mask(self, name: str) -> NDArray[np.bool_]:
        """A picture's mask at the processed size, bool [h, w]."""
        with np.load(self.directory / ARRAYS) as arrays:
            return np.asarray(arrays[f"{name}/mask"]) > 0

    def raise_failures(self) -> None:
        """Raise an error of the first failure's kind that names every failed picture; nothing if none failed."""
        raise_failures(self.failures, f" ({len(self.record.pictures)} other pictures are finished)")

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return files_html(self.summary(), sorted(self.directory.glob("overview*.png")))

    def summary(self) -> str:
        """What was found and where it is, for a person."""
        outliers = [picture.name for picture in self.record.pictures if picture.outlier]
        lines = [f"left out as unlike the others: {', '.join(outliers)}"] if outliers else []
        clusters = self.record.clusters
        found = f"{len(clusters.salient)} of {len(clusters.votes)} clusters are foreground"
        return "\n".join([*lines, f"{len(self.record.pictures)} pictures, {found}: {self.directory}"])


@dataclass(frozen=True, slots=True, eq=False)
class CommonForeground:
    """The common foreground of a set of pictures.

    Attributes:
        foreground: the clusters, and which of them are foreground.
        outliers: indices of pictures that were left out.
        seconds: that it took.
    """

    foreground: Foreground
    outliers: tuple[int, ...]
    seconds: float

    @property
    def salient(self) -> NDArray[np.bool_]:
        """Which of them are foreground, bool [k]."""
        return self.foreground.votes.salient

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        return (self.foreground.votes.warning,) if self.foreground.votes.warning else ()


def coseg(
    images: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    centroids: NDArray[np.float32] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> CosegResult:
    """Find the object that pictures have in common, and write masks, cut-outs and an overview.

    Args:
        images: pictures, directories of pictures, globs or text files of paths; sizes may differ.
        output: the directory to write: for each picture <stem>_mask.png (0 and 255, at the picture's own size) and
            <stem>_cutout.png; masks.npz with uint8 `<stem>/mask` (0 and 1, at the processed size), overview.png and
            run.json.
        settings: the defaults if None; `pictures` says how masks are refined and whether outliers are left out.
        centroids: clusters to use instead of fitting some, float32 [k, channels]; the pictures' votes still say
            which are foreground.
        overwrite: write into a directory that isn't empty.
        resume: continue an interrupted run, to the same results; begins a new one where there is none.
        progress: receives progress and messages.

    Raises:
        InputError: no picture can be read, or all are outliers; single failures are listed in the result.
        UsageError: with `resume`, the interrupted run was begun with other settings or pictures; or the run would take
            more memory than it may.
        OutputError: the directory isn't empty, can't be written, or another run is at work on it.
        ModelError: the model can't be loaded.
        Interrupted, KeyboardInterrupt: with a message that says what is kept, if anything is.
    """
    settings, progress = settings or Settings(), progress or Silent()
    require_startable(output, overwrite=overwrite, resume=resume)
    pictures = resolve_pictures([str(image) for image in images])
    engine = open_engine(settings, progress)
    given = None if centroids is None else hashlib.sha256(np.ascontiguousarray(centroids).tobytes()).hexdigest()
    manifest = make_picture_manifest("coseg", pictures, engine, given)
    sized = size_picture_run(pictures, engine, fits=True)
    with picture_run(output, manifest, progress, resume=resume) as work:
        if isinstance(work, AlbumRecord):
            return CosegResult(output, work, failures_of(work))
        with open_album(pictures, sized, progress, work.fit, kept=True) as album:
            album.failures += work.failures()
            record = _finish(album, work, centroids)
    return CosegResult(output, record, tuple(album.failures))


def estimate_coseg(
    images: Sequence[str | Path], settings: Settings | None = None, *, progress: Progress | None = None
) -> PictureEstimate:
    """Say what `coseg` would take; the arguments are those of it.

    Raises:
        InputError: no picture can be read.
        ModelError: the model can't be loaded.
        UsageError: the run would take more memory than it may.
    """
    settings, progress = settings or Settings(), progress or Silent()
    pictures = resolve_pictures([str(image) for image in images])
    return estimate_pictures(pictures, open_engine(settings, progress), _finish, fits=True, progress=progress)


def _finish(album: Album, work: PictureWorkspace, centroids: NDArray[np.float32] | None = None) -> AlbumRecord:
    """Find the common foreground, write all masks and what else there is to write."""
    common = find_common(album, centroids)
    with _Files(work, album, common.outliers) as files:
        reports = label_common(album, common, files.write, files.left)
    files.join_arrays(ARRAYS)
    clusters = ClustersRecord.of(common.foreground.votes.counts, common.salient, common.seconds)
    record = album_record("coseg", album, files.rows, clusters, reports, common.warnings)
    save_record(record, work.files)
    return record


def cosegment(
    pictures: Sequence[Readable],
    engine: Engine,
    progress: Progress | None = None,
    label: Callable[[Album, Sink], object] | None = None,
) -> list[NDArray[np.bool_]]:
    """The masks of a set that fits in memory, for other programs and evaluations.

    Args:
        pictures: pictures with a name and a path.
        engine: model and settings.
        progress: receives progress and messages.
        label: sends label maps of an opened set's pictures to a sink; None: those of its common foreground.

    Returns:
        bool [height, width] each, at the pictures' own sizes; empty for outliers.

    Raises:
        InputError: a picture can't be read, or all are outliers.
    """
    masks: dict[int, NDArray[np.bool_]] = {}

    def collect(items: Iterator[PartMap]) -> None:
        for item in items:
            masks[item.frame.index] = resize_labels(item.labels, item.frame.size_hw) > 0

    with open_album(pictures, engine, progress or Silent()) as album:
        if label is None:
            label_common(album, find_common(album), collect)
        else:
            label(album, collect)
        if album.failures:
            raise album.failures[0].error
    return [masks[index] for index in range(len(pictures))]


def find_common(album: Album, centroids: NDArray[np.float32] | None = None) -> CommonForeground:
    """Cluster a set's descriptors and have its pictures vote.

    Outliers are searched among the pictures of the fit; they neither join it nor vote.

    Args:
        album: the set; its caches are filled.
        centroids: clusters to use instead of fitting some, float32 [k, channels].

    Raises:
        InputError: no picture can be read, or all are outliers.
    """
    started = time.perf_counter()
    settings = album.engine.settings
    fitted = album.fill()
    outliers = _leave_out_outliers(album, fitted) if settings.pictures.remove_outliers else ()
    if centroids is None:
        everything = Descriptors(album.cache)
        foreground = fit_foreground(album.cache, everything, settings.run.seed, settings.cluster, settings.saliency)
    else:
        foreground = foreground_of(album.cache, centroids, settings.saliency)
    common = CommonForeground(foreground, outliers, time.perf_counter() - started)
    for warning in common.warnings:
        album.progress.say(f"warning: {warning}")
    return common


def label_common(
    album: Album, common: CommonForeground, sink: Sink, left: Callable[[Iterable[int]], list[int]] = list
) -> list[StageReport]:
    """Send the masks of a set to a sink as label maps of 0 and 1; the empty masks of outliers come last.

    Args:
        album: the set.
        common: its foreground.
        sink: takes the masks.
        left: which of some pictures are still to be done.
    """
    engine, found, device = album.engine, common.foreground, album.engine.extractor.device
    clusters = ForegroundAssigner.of(found.clustering.clusters, common.salient, device)
    assigner = with_shared(clusters, found.shared, engine.settings.saliency, device)
    members = [index for index in range(len(album.pictures)) if index not in common.outliers]
    reports = album.label(left(members), assigner.energies, mask_refinement(engine.settings), sink)
    sink(_empty(frame, engine) for frame in album.frames(left(common.outliers)))
    return reports


def _leave_out_outliers(album: Album, fitted: Sequence[int]) -> tuple[int, ...]:
    least = album.engine.settings.pictures.outlier_similarity
    similarity = similarity_to_mean(np.stack([album.token(index) for index in fitted]))
    outliers = tuple(index for index, value in zip(fitted, similarity, strict=True) if value < least)
    if len(outliers) == len(fitted):
        raise InputError(
            f"all {len(fitted)} pictures are outliers: their similarity to the mean is {similarity.max():.2f} at most, "
            f"expected {least:g} of some; go without --remove-outliers, or lower pictures.outlier_similarity"
        )
    for index in outliers:
        album.leave_out(index)
    return outliers


def _empty(frame: Frame, engine: Engine) -> PartMap:
    return PartMap(frame, np.zeros(engine.extractor.preprocess(frame.rgb).shape[:2], dtype=np.uint8))


def mask_refinement(settings: Settings) -> Refine:
    """What aligns a mask with the picture's edges, given energies of background and foreground."""
    pictures, seed = settings.pictures, settings.run.seed

    def plain(energies: NDArray[np.float32], image: Image) -> tuple[Image, str]:
        return enlarge_mask(energies[1] < energies[0], image.shape[:2]).astype(np.uint8), ""

    def grabcut(energies: NDArray[np.float32], image: Image) -> tuple[Image, str]:
        mask = plain(energies, image)[0] > 0
        refined = refine_mask(mask, image, pictures.grabcut_iterations, pictures.grabcut_erosion, seed)
        if mask.any() and not refined.any():
            return mask.astype(np.uint8), ERASED
        return refined.astype(np.uint8), ""

    def crf(energies: NDArray[np.float32], image: Image) -> tuple[Image, str]:
        return refine_labels(energies, image, settings.crf), ""

    return {"none": plain, "grabcut": grabcut, "crf": crf}[pictures.refine]


class _Files(AlbumFiles):
    """Writes each picture's mask and cut-out."""

    def __init__(self, work: PictureWorkspace, album: Album, outliers: tuple[int, ...]) -> None:
        self._outliers = outliers
        super().__init__(work, album, "Common foreground")

    def _write(self, item: PartMap) -> PictureRecord:
        frame = item.frame
        mask = resize_labels(item.labels, frame.size_hw)
        cutout = cut_out(frame.rgb, mask > 0)
        write_picture(self._folder / f"{frame.name}{MASK}", mask * np.uint8(255))
        write_picture(self._folder / f"{frame.name}{CUTOUT}", cutout)
        self._archive.write(f"{frame.name}/mask", item.labels)
        outlier = frame.index in self._outliers
        self._overview.add(f"left out: {frame.name}" if outlier else frame.name, [frame.rgb, cutout])
        path = self._album.pictures[frame.index].path
        return PictureRecord.of(frame, path, mask, 1, outlier=outlier, note=item.note)
