"""Building the record of a finished input from its manifest and what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster.codebook import codebook_sha256
from pipeline.errors import InputError
from pipeline.media.label_store import LabelStore
from pipeline.media.source import Source
from pipeline.runs.integrity import result_checksums
from pipeline.runs.manifest import Manifest
from pipeline.runs.record import ModelRecord, RunRecord, SourceRecord, StageRecord
from pipeline.runs.sinks import Sinks
from pipeline.stages.engine import Engine
from pipeline.stages.fit import Fitted


def build_record(
    manifest: Manifest,
    number: int,
    sinks: Sinks,
    store: LabelStore,
    stages: Sequence[StageRecord],
    warnings: Sequence[str],
    engine: Engine,
    fitted: Fitted,
    folder: Path,
) -> RunRecord:
    """The record of one input, whose files are complete.

    Args:
        manifest: what the run was begun with.
        number: of the input among those of the manifest.
        sinks: what its labels went into.
        store: its labels.
        stages: where the time went.
        warnings: what a person should know of the labels.
        engine: model and settings.
        fitted: the codebook, and what pass 1 warned of.
        folder: where the result's files are.

    Raises:
        InputError: the input could not be read for its checksum.
    """
    identity = engine.extractor.identity
    return RunRecord(
        packages=manifest.packages,
        device=manifest.device,
        backend=manifest.backend,
        processor=manifest.processor,
        source=_source_record(sinks.source, manifest.inputs[number].sha256, store),
        settings=manifest.settings,
        model=ModelRecord(name=identity.name, fingerprint=identity.fingerprint, notes=identity.notes),
        codebook_sha256=codebook_sha256(fitted.codebook),
        seed=manifest.settings.run.seed,
        part_colors=tuple(tuple(color) for color in fitted.codebook.part_colors.tolist()),
        part_names=fitted.codebook.part_names,
        files=result_checksums(folder),
        steadiness=sinks.steadiness(),
        fit_seconds=fitted.seconds,
        stages=tuple(stages),
        warnings=(
            *fitted.warnings,
            *warnings,
            *sinks.source.problems,
            *sinks.warnings,
        ),
    )


def _source_record(source: Source, checksum: str | None, store: LabelStore) -> SourceRecord:
    info, report = source.probe(), source.report
    if checksum is None:
        raise InputError(f"'{source.path}' changed while it was read; give a file that stays as it is")
    return SourceRecord(
        path=str(source.path.absolute()),
        sha256=checksum,
        frames=len(store),
        width=info.size_hw[1],
        height=info.size_hw[0],
        time_base=str(info.time_base),
        first_pts=store.pts[0],
        last_pts=store.pts[-1],
        lost_frames=report.lost_frames,
        corrupt_frames=report.corrupt_frames,
        missing_frames=report.missing_frames,
    )
