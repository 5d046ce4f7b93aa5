"""How a run begins: fresh, resumed, or over already; never replaces results unasked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import OutputError, UsageError
from pipeline.failures import Failure
from pipeline.media.source import Source
from pipeline.runs.manifest import Manifest
from pipeline.runs.record import CODEBOOK, RECORD, InputResult, load_record
from pipeline.runs.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Over:
    """An earlier run is over: nothing is to be done, and the failures of inputs that can't be finished stand."""

    results: tuple[InputResult, ...]
    failures: tuple[Failure, ...] = ()


def begin_run(
    work: Workspace, sources: Sequence[Source], manifest: Manifest, codebook: Path | None, *, overwrite: bool
) -> Manifest | Over | None:
    """How `--resume` begins: with what an earlier run has left, where it fits.

    Args:
        work: where the run works.
        sources: its inputs.
        manifest: what it would be begun with.
        codebook: the codebook it was given, which may lie where its own would.
        overwrite: whether finished results may be replaced.

    Returns:
        The manifest of an interrupted run, whose finished work is kept; or a run that is over; None where nothing was
        begun.

    Raises:
        UsageError: the earlier run was made with other settings or inputs; names each difference.
        OutputError: other results are in the way.
    """
    begun = work.manifest()
    if begun is None:
        finished = () if overwrite else _finished_results(work, sources, codebook, manifest)
        return Over(finished) if finished else None
    require_same(work, begun, manifest)
    failures = work.concluded()
    return begun if failures is None else Over(_published_results(work, sources), failures)


def require_room(work: Workspace, sources: Sequence[Source], codebook: Path | None) -> None:
    """Refuse to touch earlier results and an unfinished run, before any work is done.

    The codebook that the run is given may lie where its own would.

    Raises:
        OutputError: names what is in the way.
    """
    if work.unfinished:
        raise OutputError(f"'{work.output}' holds an unfinished run; --resume continues it, --overwrite starts again")
    taken = _taken(work.output, sources, codebook)
    if taken:
        hint = f", --codebook '{taken[0]}' to use its parts" if taken == [work.output / CODEBOOK] else ""
        raise OutputError(f"'{taken[0]}' exists; give another --output{hint}, or --overwrite to replace it")


def require_same(work: Workspace, begun: Manifest, now: Manifest) -> None:
    """Refuse to continue a run with other settings or inputs than it was begun with.

    Raises:
        UsageError: names each difference.
    """
    differences = begun.differences(now)
    if differences:
        raise UsageError(
            f"the unfinished run in '{work.output}' was begun with {', '.join(differences)}; "
            "give --resume the same settings and inputs, or --overwrite to start again"
        )


def _finished_results(
    work: Workspace, sources: Sequence[Source], codebook: Path | None, now: Manifest
) -> tuple[InputResult, ...]:
    """The results of a run that ended after its last input was finished; none where nothing is in the way."""
    if not all((work.output / source.name / RECORD).is_file() for source in sources):
        require_room(work, sources, codebook)
        return ()
    results = []
    for source, given in zip(sources, now.inputs, strict=True):
        directory = work.output / source.name
        record = load_record(directory)
        differences = now.differences_from(record, given)
        if differences:
            raise UsageError(
                f"'{directory}' is finished, and was made with {', '.join(differences)}; "
                "give another --output, or --overwrite to replace it"
            )
        results.append(InputResult(source.name, directory, record))
    return tuple(results)


def _published_results(work: Workspace, sources: Sequence[Source]) -> tuple[InputResult, ...]:
    """The results of the inputs that a run has finished."""
    names = [source.name for source in sources if work.is_published(source.name)]
    return tuple(InputResult(name, work.output / name, load_record(work.output / name)) for name in names)


def _taken(output: Path, sources: Sequence[Source], codebook: Path | None) -> list[Path]:
    taken = [output / source.name for source in sources if (output / source.name).exists()]
    file = output / CODEBOOK
    if file.exists() and not (codebook and file.samefile(codebook)):
        taken.append(file)
    return taken
