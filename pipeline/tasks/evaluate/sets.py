"""Co-segmentation benchmarks, and the parts of CUB's birds and CelebA's faces."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cluster.assignment import assigner_of
from pipeline.cluster.codebook import load_codebook, save_codebook
from pipeline.cluster.fit import Descriptors
from pipeline.cluster.kmeans import thin
from pipeline.config import with_defaults
from pipeline.evaluation.datasets.celeba import load_faces
from pipeline.evaluation.datasets.coseg import load_sets
from pipeline.evaluation.datasets.cub import load_birds
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.factorisation import factorise
from pipeline.evaluation.protocols.celeba import evaluate_celeba
from pipeline.evaluation.protocols.coseg import evaluate_coseg
from pipeline.evaluation.protocols.cub import evaluate_cub
from pipeline.evaluation.protocols.predictors import FitParts, PartLabels, SegmentParts
from pipeline.evaluation.published import COSEG
from pipeline.evaluation.reports import Run, Summary
from pipeline.geometry import resize_labels, resize_nearest
from pipeline.progress import Progress
from pipeline.records import EnergyMap
from pipeline.refine.crf import refine_labels
from pipeline.stages.batches import prepare
from pipeline.stages.energies import assign, describe_for_labels
from pipeline.stages.engine import Engine
from pipeline.stages.picture_parts import fit_album
from pipeline.stages.picture_set import Album, Energies, Sink, open_album
from pipeline.tasks.coseg import cosegment, mask_refinement
from pipeline.tasks.evaluate.request import Request, with_notes

BIRD_PARTS = 4
"""Parts in the paper's Table 1."""

FACE_PARTS = 8
"""Parts that SCOPS finds in CelebA."""

METHOD_NOTES = {
    "ours": (),
    "dff": ("Method: deep feature factorisation by NMF of the same descriptors, without saliency (baseline).",),
}


def evaluate_sets(request: Request) -> Summary:
    """Co-segmentation: each set's common foreground against its masks.

    The paper's figures are shown beside ours where the data's folder has a benchmark's name, such as `MSRC`.
    """
    sets = load_sets(request.data)
    engine = request.open_engine()
    run = request.open_run(engine, method=request.method)
    label = _label_by_factors if request.method == "dff" else None

    def segment(pictures: Sequence[Picture]) -> list[NDArray[np.bool_]]:
        return cosegment(pictures, engine, request.aside, label)

    refined = f"Masks refined by: {engine.settings.pictures.refine}."
    summary = evaluate_coseg(sets, segment, run, benchmark_of(request.data))
    return with_notes(run, summary, engine, [*METHOD_NOTES[request.method], refined])


def benchmark_of(folder: Path) -> str | None:
    """The benchmark of the paper's Table 2 that a folder is named after, or None.

    >>> benchmark_of(Path("data/PASCAL_VOC")), benchmark_of(Path("holidays"))
    ('PASCAL-VOC', None)
    """
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in COSEG}
    return plain.get(re.sub(r"[^a-z0-9]", "", folder.resolve().name.lower()))


def evaluate_birds(request: Request) -> Summary:
    """CUB-200-2011: parts of all birds against their landmarks; four parts by default."""
    birds = load_birds(request.data)
    return _evaluate_parts(request, BIRD_PARTS, lambda fit, parts, run: evaluate_cub(birds, fit, parts, run))


def evaluate_faces(request: Request) -> Summary:
    """Unaligned CelebA: parts of all faces against their landmarks; eight parts by default."""
    faces = load_faces(request.data)
    return _evaluate_parts(request, FACE_PARTS, lambda fit, parts, run: evaluate_celeba(faces, fit, parts, run))


def _evaluate_parts(request: Request, parts: int, measure: Callable[[FitParts, int, Run], Summary]) -> Summary:
    parts = with_defaults(request.settings, {"cluster": {"parts": parts}}).cluster.parts
    engine = request.open_engine(cluster__parts=parts)
    # With fewer pictures the fit finds other parts, so a limit makes other results of the same pictures.
    run = request.open_run(engine, limit=request.limit, method=request.method)

    def energies_of(album: Album, pictures: Sequence[Picture]) -> Energies:
        if request.method == "dff":
            return _factor_energies(album, parts)
        file = request.output / f"parts-{_digest(pictures, engine)}.safetensors"
        return _part_energies(album, file, overwrite=request.overwrite)

    fit = _fitter(engine, request.aside, request.output, energies_of)
    fitted = engine.settings.pictures.fit
    note = f"Parts of each pass are fitted on {'all' if fitted is None else f'at most {fitted}'} of its pictures."
    return with_notes(run, measure(fit, parts, run), engine, [*METHOD_NOTES[request.method], note])


def _part_energies(album: Album, file: Path, *, overwrite: bool) -> Energies:
    """Find a set's parts, and return what gives a picture's energies; the codebook is kept, for a run that goes on."""
    if file.is_file() and not overwrite:
        codebook = load_codebook(file)
    else:
        codebook = fit_album(album).codebook
        _require_all(album)
        save_codebook(codebook, file)
    return assigner_of(codebook, album.engine.settings.saliency, album.engine.extractor.device).energies


def _fitter(
    engine: Engine,
    progress: Progress,
    folder: Path,
    energies_of: Callable[[Album, Sequence[Picture]], Energies],
) -> FitParts:
    def fit(pictures: Sequence[Picture]) -> SegmentParts:
        with contextlib.ExitStack() as opened:
            album = opened.enter_context(open_album(pictures, engine, progress, folder))
            return _segmenter(album, energies_of(album, pictures), opened.pop_all())

    return fit


def _factor_energies(album: Album, parts: int) -> Energies:
    """Fill a set's cache, factorise a sample of it, and return what gives a picture's energies."""
    settings = album.engine.settings
    album.fill()
    _require_all(album)
    sample = np.concatenate([thin(block, settings.cluster.sample_interval) for block in Descriptors(album.cache)])
    factors = factorise(sample, parts, settings.run.seed)
    return lambda descriptors: torch.from_numpy(factors.energies(descriptors.cpu().numpy()))


def _label_by_factors(album: Album, sink: Sink) -> None:
    energies = _factor_energies(album, parts=1)
    album.label(range(len(album.pictures)), energies, mask_refinement(album.engine.settings), sink)


def _segmenter(album: Album, energies: Energies, opened: contextlib.ExitStack) -> SegmentParts:
    places = {picture.name: index for index, picture in enumerate(album.pictures)}
    engine = album.engine

    def segment(pictures: Sequence[Picture]) -> Iterator[PartLabels]:
        with opened:
            frames = album.frames([places[picture.name] for picture in pictures])
            batches = prepare(frames, engine.extractor, engine.settings.run.batch)
            for feature in describe_for_labels(batches, engine, album.cache, 0):
                yield _part_labels(assign(feature, energies, engine.extractor, engine.settings), engine)
            _require_all(album)

    return segment


def _part_labels(item: EnergyMap, engine: Engine) -> PartLabels:
    """A picture's parts after the CRF, and for its background the part of the nearest centroid."""
    energies, image, size_hw = item.energies.cpu().numpy(), item.image, item.frame.size_hw
    labels = resize_labels(refine_labels(energies, image, engine.settings.crf), size_hw)
    nearest = torch.from_numpy(1 + energies[1:].argmin(axis=0).astype(np.uint8))
    processed = resize_nearest(nearest, (image.shape[0], image.shape[1])).numpy()
    return PartLabels(labels, np.where(labels > 0, labels, resize_labels(processed, size_hw)))


def _require_all(album: Album) -> None:
    if album.failures:
        raise album.failures[0].error


def _digest(pictures: Sequence[Picture], engine: Engine) -> str:
    """A digest of what a fit depends on."""
    settings, named = engine.settings, [f"{picture.name} {picture.crop}" for picture in pictures]
    sections = (settings.features, settings.saliency, settings.cluster, settings.pictures)
    facts = [*named, engine.fingerprint, str(settings.run.seed), *(each.model_dump_json() for each in sections)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
