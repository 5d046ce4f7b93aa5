"""Whether a run may begin, or go on: earlier results are touched only where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import OutputError, UsageError
from pipeline.media.source import Source
from pipeline.runs.manifest import Plan
from pipeline.runs.record import FILE_NAME, load_record
from pipeline.runs.result import InputResult
from pipeline.runs.workspace import Workspace

CODEBOOK = "codebook.safetensors"


def require_room(work: Workspace, sources: Sequence[Source], codebook: Path | None) -> None:
    """Refuse to touch earlier results and an unfinished run, before any work is done.

    Args:
        work: where the run would work.
        sources: its inputs.
        codebook: the codebook it was given; that may lie where its own would.

    Raises:
        OutputError: names what is in the way.
    """
    if work.unfinished:
        raise OutputError(
            f"'{work.output}' holds an unfinished run; --resume goes on with it, --overwrite begins again"
        )
    taken = _taken(work.output, sources, codebook)
    if taken:
        hint = f", --codebook '{taken[0]}' to use its parts" if taken == [work.output / CODEBOOK] else ""
        raise OutputError(f"'{taken[0]}' exists; give another --output{hint}, or --overwrite to replace it")


def require_same(work: Workspace, begun: Plan, now: Plan) -> None:
    """Refuse to go on with a run by other means than it was begun with.

    Raises:
        UsageError: names each thing that differs, with both values.
    """
    differences = begun.differences(now)
    if differences:
        raise UsageError(
            f"the unfinished run in '{work.output}' was begun with {', '.join(differences)}; "
            "give --resume the same settings and inputs, or --overwrite to begin again"
        )


def finished_results(
    work: Workspace, sources: Sequence[Source], codebook: Path | None, now: Plan
) -> tuple[InputResult, ...]:
    """The results of a run that ended after its last input was finished; none where nothing is in the way.

    Raises:
        OutputError: there are other results in the way.
        UsageError: there are results of these inputs, made otherwise; names what differs.
    """
    if not all((work.output / source.name / FILE_NAME).is_file() for source in sources):
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


def published_results(work: Workspace, sources: Sequence[Source]) -> tuple[InputResult, ...]:
    """The results of the inputs that a run has finished."""
    names = [source.name for source in sources if work.is_published(source.name)]
    return tuple(InputResult(name, work.output / name, load_record(work.output / name)) for name in names)


def _taken(output: Path, sources: Sequence[Source], codebook: Path | None) -> list[Path]:
    taken = [output / source.name for source in sources if (output / source.name).exists()]
    file = output / CODEBOOK
    if file.exists() and not (codebook and file.samefile(codebook)):
        taken.append(file)
    return taken
