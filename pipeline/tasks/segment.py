"""Parts of videos, end to end: fit a codebook on sampled frames, then stream every frame (paper section 5.1).

Neither pass does the other's work: what pass 1 has computed of a frame, pass 2 takes from its cache.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.cache import FeatureCache
from pipeline.cluster.codebook import load_codebook, save_codebook
from pipeline.config import Settings
from pipeline.errors import OutputError, VidpartsError
from pipeline.media.contract import Source
from pipeline.media.sources import resolve_inputs
from pipeline.tasks.engine import open_engine
from pipeline.tasks.fit import Failure, Fitted, fit_codebook
from pipeline.tasks.progress import Progress, Silent
from pipeline.tasks.stream import InputResult, Streaming

CODEBOOK = "codebook.safetensors"


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What a run did.

    Attributes:
        codebook: the file of the parts.
        finished: the inputs that were segmented.
        failures: the inputs that couldn't be.
    """

    codebook: Path
    finished: tuple[InputResult, ...]
    failures: tuple[Failure, ...]

    def raise_failures(self) -> None:
        """Raise the first failure's kind of error, naming every input that failed; nothing where none did."""
        if self.failures:
            lines = "; ".join(f"{failure.name}: {failure.error}" for failure in self.failures)
            done = f" ({len(self.finished)} other inputs are finished)" if self.finished else ""
            raise type(self.failures[0].error)(lines + done)

    def summary(self) -> str:
        """Seconds per stage, and where the files are, for a person."""
        lines = []
        for result in self.finished:
            lines.append(f"{result.directory}: {result.record.source.frames} frames")
            lines.extend(stage.line() for stage in result.record.stages)
        fit_seconds = self.finished[0].record.fit_seconds if self.finished else None
        if fit_seconds is not None:
            lines.append(f"{'fit':<12} {fit_seconds:9.2f} s")
        return "\n".join([*lines, f"codebook: {self.codebook}"])


def segment(
    inputs: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    codebook: Path | None = None,
    overwrite: bool = False,
    save_frames: bool = False,
    progress: Progress | None = None,
) -> SegmentResult:
    """Find the parts in inputs and paint them.

    Args:
        inputs: videos, directories of frames, globs or text files of paths.
        output: directory of the results; OUT/<name>/ for each input, OUT/codebook.safetensors for all.
        settings: defaults where None.
        codebook: use its parts instead of fitting.
        overwrite: replace results that exist.
        save_frames: also write the painted frames under the input's own names.
        progress: told how far it is.

    Raises:
        InputError: no input can be read; one that fails among others is listed in the result's `failures`.
        OutputError: results exist, or can't be written.
        ModelError: the model can't be had, or the codebook doesn't fit.
    """
    settings, progress = settings or Settings(), progress or Silent()
    sources = resolve_inputs([str(item) for item in inputs], settings.input.fps)
    given = load_codebook(codebook) if codebook else None
    _require_room(sources, output, overwrite, codebook)
    engine = open_engine(settings, progress, given, str(codebook))
    failures: list[Failure] = []
    with _workspace(output) as folder, FeatureCache(folder) as cache:
        fitted = Fitted(given, (), None) if given else fit_codebook(sources, engine, cache, progress, failures)
        for warning in fitted.warnings:
            progress.say(f"warning: {warning}")
        file = output / CODEBOOK
        if codebook is None or not file.exists() or not file.samefile(codebook):
            save_codebook(fitted.codebook, file)
        streaming = Streaming(output, engine, fitted, file, cache, save_frames, progress)
        lost = {failure.name for failure in failures}
        finished = []
        for number, source in enumerate(sources):
            if source.name in lost:
                continue
            try:
                finished.append(streaming.run(number, source))
            except VidpartsError as error:
                failures.append(Failure(source.name, error))
    return SegmentResult(file, tuple(finished), tuple(failures))


def _require_room(sources: Sequence[Source], output: Path, overwrite: bool, codebook: Path | None) -> None:
    """Refuse to touch earlier results, before any work is done."""
    if overwrite:
        return
    taken = [output / source.name for source in sources if (output / source.name).exists()]
    file = output / CODEBOOK
    if file.exists() and not (codebook and file.samefile(codebook)):
        taken.append(file)
    if taken:
        hint = f", --codebook '{file}' to use its parts" if taken == [file] else ""
        raise OutputError(f"'{taken[0]}' exists; give another --output{hint}, or --overwrite to replace it")


@contextlib.contextmanager
def _workspace(output: Path) -> Iterator[Path]:
    """A directory for the fit's cache, on the output's own disk; /tmp may be memory."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fit-", dir=output) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(f"'{output}' can't be written: {error.strerror or error}") from error
