"""Report: one page that says what a run has found, with its edits applied."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import OutputError, VidpartsError
from pipeline.files import output_errors, write_file
from pipeline.progress import Progress, Silent
from pipeline.reporting.facts import CORRECTED, RunFacts, run_facts
from pipeline.reporting.gallery import find_gallery, gallery_page
from pipeline.reporting.page import MARK
from pipeline.reporting.run_page import REPORT, run_page
from pipeline.runs.edits import edits_place
from pipeline.runs.record import LABELS, RECORD
from pipeline.tasks.edit import results_in
from pipeline.tasks.render import render

_TAIL = 100


def report(output: Path, *, progress: Progress | None = None) -> Path:
    """Write OUT/report.html anew, with the edits of the run; where they change pictures, clips are painted again.

    Args:
        output: the directory of a run, OUT, or of one of its inputs; or of a command on pictures or an evaluation.
        progress: receives progress and messages.

    Returns:
        The page.

    Raises:
        InputError: there is no finished result.
        OutputError: the page can't be written.
    """
    progress = progress or Silent()
    page = output / REPORT
    _require_own(page)
    gallery = None if not output.is_dir() or _holds_videos(output) else find_gallery(output)
    if gallery is not None:
        write_file(page, gallery_page(output, gallery))
        return page
    facts = load_run(output)
    for each in facts.inputs:
        if each.repainted and _is_stale(each.directory):
            try:
                render(each.directory, each.directory / CORRECTED, overwrite=True, progress=progress)
            except VidpartsError as error:
                progress.say(f"warning: {each.name}: the clip isn't painted again: {error}")
    page = facts.output / REPORT
    write_file(page, run_page(facts))
    return page


def load_run(output: Path) -> RunFacts:
    """What there is to tell of a run, given OUT or OUT/<name>.

    Raises:
        InputError: there is no finished result, or it can't be read.
    """
    folder = output.parent if (output / RECORD).is_file() else output
    return run_facts(folder, results_in(folder))


def _require_own(page: Path) -> None:
    with output_errors(page):
        if page.exists() and (not page.is_file() or page.is_symlink() or MARK not in page.read_bytes()[-_TAIL:]):
            raise OutputError(f"'{page}' wasn't written by vidparts; rename it, and run `vidparts report` again")


def _holds_videos(output: Path) -> bool:
    return any((folder / LABELS).is_dir() for folder in (output, *(each for each in output.iterdir() if each.is_dir())))


def _is_stale(result: Path) -> bool:
    clip, edits = result / CORRECTED, edits_place(result)
    return not clip.is_file() or clip.stat().st_mtime_ns < edits.stat().st_mtime_ns
