"""Fitting a codebook of the parts that inputs share: pass 1 alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.cluster.codebook import Codebook, save_codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.config import Settings
from pipeline.failures import Failure
from pipeline.forecast.memory import size_run
from pipeline.forecast.workload import count_work
from pipeline.media.inputs import resolve_inputs
from pipeline.progress import Progress, Silent
from pipeline.runs.outputs import require_free
from pipeline.stages.engine import open_engine
from pipeline.stages.fit import fit_codebook


def fit(
    inputs: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Codebook:
    """Find the parts that inputs share, and write them as a codebook.

    Args:
        inputs: videos, directories of frames, globs or text files of paths.
        output: the codebook's file.
        settings: the defaults if None.
        overwrite: replace a file that exists.
        progress: receives progress and messages.

    Raises:
        InputError: an input can't be read; here one failure fails the run, since the codebook would be another.
        OutputError: the file exists or can't be written.
        ModelError: the model can't be loaded.
        UsageError: the fit would take more memory than it may.
    """
    settings, progress = settings or Settings(), progress or Silent()
    require_free([output], overwrite)
    sources = resolve_inputs([str(item) for item in inputs], settings.input.fps)
    engine = open_engine(settings, progress)
    capacity = size_run(count_work(sources, engine, fits=True, paints=False), engine)
    engine = replace(engine, settings=capacity.settings)
    with tempfile.TemporaryDirectory(prefix="vidparts-") as folder:
        failures: list[Failure] = []
        with FeatureCache(Path(folder), capacity.cache_bytes) as cache:
            fitted = fit_codebook(sources, engine, cache, progress, failures)
    if failures:
        raise failures[0].error
    for warning in fitted.warnings:
        progress.say(f"warning: {warning}")
    codebook = fitted.codebook.for_others()
    save_codebook(codebook, output)
    return codebook
