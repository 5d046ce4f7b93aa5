"""The unfinished part of a run over a set of pictures, in OUT/.run; what is finished in it survives any end.

OUT/.run/manifest.json    what the run was begun with; without it the rest is ignored
OUT/.run/fit/             descriptors of the pictures of the fit
OUT/.run/files/           the results; they go to OUT together, run.json last
OUT/.run/arrays/          label maps at the processed size, a file for each finished page of pictures
OUT/.run/pages.jsonl      a line for each finished page
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.documents import Document
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.failures import Failure, FailureRecord
from pipeline.files import append_synced, output_errors, sync, write_file
from pipeline.progress import Progress
from pipeline.runs.manifest import Manifest, compared_settings
from pipeline.runs.outputs import require_empty
from pipeline.runs.picture_record import AlbumRecord, PictureRecord, load_album_record
from pipeline.runs.record import RECORD
from pipeline.runs.resume import require_same
from pipeline.runs.workspace import Workspace, kept_for_resume, locked


class Page(Document):
    """Pictures whose results are on the disk, and all that had failed by then."""

    rows: tuple[PictureRecord, ...]
    failures: tuple[FailureRecord, ...]


class PictureWorkspace(Workspace):
    """The directories of one run over pictures into one OUT.

    Attributes:
        files: where results wait until all of them are complete.
        arrays: where the label maps of finished pages are.
    """

    def __init__(self, output: Path) -> None:
        """Say where; nothing is made yet."""
        super().__init__(output)
        self.files, self.arrays = self.folder / "files", self.folder / "arrays"
        self._journal = self.folder / "pages.jsonl"

    def _places(self, manifest: Manifest) -> list[Path]:
        return [self.fit, self.files, self.arrays]

    def has_progress(self) -> bool:
        """Whether anything was computed that a resumed run would keep."""
        described = any(file.is_file() and file.stat().st_size for file in self.fit.rglob("*"))
        return described or bool(self._journal.is_file() and self._journal.stat().st_size)

    def pages(self) -> list[Page]:
        """The finished pages in their order; a line that a crash has torn is cut off, so that the next one is whole."""
        if not self._journal.is_file():
            return []
        found: list[Page] = []
        for line in self._journal.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                found.append(Page.model_validate_json(line if line.endswith("\n") else ""))
            except ValidationError:
                write_file(self._journal, "".join(f"{page.model_dump_json()}\n" for page in found).encode())
                break
        return found

    def failures(self) -> list[Failure]:
        """What had failed when the last page was finished."""
        pages = self.pages()
        return [record.failure() for record in pages[-1].failures] if pages else []

    def add_page(self, rows: Sequence[PictureRecord], failures: Sequence[Failure]) -> None:
        """Note a page as finished, once its files are on the disk.

        Raises:
            OutputError: it can't be written.
        """
        page = Page(rows=tuple(rows), failures=tuple(FailureRecord.of(failure) for failure in failures))
        with output_errors(self._journal):
            for folder in (self.files, self.arrays):
                sync(folder)
            append_synced(self._journal, f"{page.model_dump_json()}\n".encode())

    def publish_files(self) -> None:
        """Move the results to OUT, run.json last, and remove the rest.

        Raises:
            OutputError: a file can't be moved.
        """
        with output_errors(self.output):
            for file in sorted(self.files.iterdir(), key=lambda file: (file.name == RECORD, file.name)):
                file.replace(self.output / file.name)
            sync(self.output)
        self.discard()


def require_startable(output: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse to touch earlier results and an unfinished run, before any work is done.

    Raises:
        OutputError: names what is in the way.
    """
    if overwrite or resume:
        require_empty(output, overwrite=True)
    elif PictureWorkspace(output).unfinished:
        raise OutputError(f"'{output}' holds an unfinished run; --resume continues it, --overwrite starts again")
    else:
        require_empty(output, overwrite=False)


@contextlib.contextmanager
def picture_run(
    output: Path, manifest: Manifest, progress: Progress, *, resume: bool
) -> Iterator[PictureWorkspace | AlbumRecord]:
    """Begin or continue a run over pictures; its results are in `output` when the block ends without an error.

    A directory that holds other things keeps them; what has the name of a new file is replaced.

    Args:
        output: where the results belong.
        manifest: what the run depends on.
        progress: told how it begins.
        resume: continue an interrupted run, to the same results.

    Returns:
        Where to work; with `resume` the record of a run that is complete, where one is there.

    Raises:
        UsageError: the interrupted or finished run was made with other settings or pictures; names each difference.
        OutputError: it can't be written, or another run is at work on it.
    """
    with locked(output):
        work = PictureWorkspace(output)
        begun = work.manifest() if resume else None
        if begun is not None:
            require_same(work, begun, manifest)
        elif resume and (output / RECORD).is_file():
            progress.say(f"'{output}' is finished already: there is nothing to resume")
            yield _finished(output, manifest)
            return
        elif resume:
            require_empty(output, overwrite=False, hidden=True)
            progress.say(f"'{output}' holds no unfinished run: beginning a new one")
        with kept_for_resume(work):
            if begun is None:
                work.begin(manifest)
            yield work
            work.publish_files()


def failures_of(record: AlbumRecord) -> tuple[Failure, ...]:
    """The failures that a finished run has recorded."""
    return tuple(Failure(name, InputError(message)) for name, message in record.failures.items())


def _finished(output: Path, now: Manifest) -> AlbumRecord:
    record = load_album_record(output)
    done = {
        "task": record.task,
        "model": record.model.fingerprint[:12],
        "settings": compared_settings(record.settings, now.device),
        "pictures": sorted([*(row.name for row in record.pictures), *record.failures]),
    }
    wanted = {
        "task": now.task,
        "model": now.fingerprint[:12],
        "settings": compared_settings(now.settings, now.device),
        "pictures": sorted(given.name for given in now.inputs),
    }
    differing = [name for name in done if done[name] != wanted[name]]
    if differing:
        raise UsageError(
            f"'{output}' is finished, and was made with other {' and '.join(differing)}; "
            "give another --output, or --overwrite to replace it"
        )
    return record
