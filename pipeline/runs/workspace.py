"""The unfinished part of a run, in OUT/.run, and the lock that keeps a second run out of OUT.

    OUT/.lock                    held by the running process
    OUT/.owner                   its process id, for the message to a second one
    OUT/.run/manifest.json       what the run was begun with; without it the rest is ignored
    OUT/.run/fit/                descriptors of the sampled frames; fit.json once the codebook is written
    OUT/.run/inputs/<name>/      an input's result as it grows; becomes OUT/<name> when it is complete
    OUT/.run/plan.json           how the work is divided among workers (pipeline.distributed)
    OUT/.run/packets/<name>      what a video's packets say, so that no worker counts them again
    OUT/.run/shards/<name>/<start>/  labels of some of an input's frames; `whole` beside them: it can't be cut
    OUT/.run/scratch/            shards as they grow
    OUT/.run/failures.json       of a concluded run: the inputs that can't be finished, and why

Every input has its directory from the beginning, so one that is gone is finished.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import Interrupted, OutputError, VidpartsError
from pipeline.failures import Failure, load_failures, save_failures
from pipeline.files import output_errors, publish, remove, sync, write_file
from pipeline.runs.manifest import Manifest

FOLDER = ".run"
LOCK = ".lock"
OWNER = ".owner"

_log = logging.getLogger(__name__)


class Workspace:
    """The directories of one run into one OUT.

    Attributes:
        output: OUT.
        folder: the directory of all that is unfinished.
        fit: the directory of pass 1.
        plan: the file that says how the work is divided among workers.
        scratch: where shards grow.
    """

    def __init__(self, output: Path) -> None:
        """Say where; nothing is made yet."""
        self.output = output
        self.folder = output / FOLDER
        self._manifest = self.folder / "manifest.json"
        self._failures = self.folder / "failures.json"
        self._inputs = self.folder / "inputs"
        self.fit = self.folder / "fit"
        self.plan = self.folder / "plan.json"
        self.scratch = self.folder / "scratch"

    @property
    def unfinished(self) -> bool:
        """Whether an interrupted run with any progress is here."""
        return self._manifest.exists() and not self._failures.exists() and self.has_progress()

    def manifest(self) -> Manifest | None:
        """What the unfinished run was begun with; None where there is none.

        Raises:
            OutputError: it can't be read.
        """
        if not self._manifest.is_file():
            return None
        self._require_plain()
        try:
            return Manifest.model_validate_json(self._manifest.read_bytes())
        except (OSError, ValidationError) as error:
            raise OutputError(
                f"the unfinished run in '{self.output}' is damaged or of another version; start again with --overwrite"
            ) from error

    def _require_plain(self) -> None:
        """Refuse what would lead elsewhere: what is written into an unfinished run must stay in it."""
        found = [Path(folder, name) for folder, folders, files in os.walk(self.folder) for name in (*folders, *files)]
        for path in (self.folder, *found):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise OutputError(
                    f"'{path}' of an unfinished run is no plain file; start again with --overwrite, which removes it"
                )

    def begin(self, manifest: Manifest) -> None:
        """Remove what an earlier run left, and begin a new one.

        Raises:
            OutputError: it can't be written.
        """
        places = self._places(manifest)
        with output_errors(self.folder):
            self.discard()
            for place in places:
                place.mkdir(parents=True)
            for folder in dict.fromkeys([*(place.parent for place in places), self.folder, self.output]):
                sync(folder)
        # From now on the rest counts.
        write_file(self._manifest, manifest.model_dump_json(indent=2).encode())

    def _places(self, manifest: Manifest) -> list[Path]:
        """The directories that a run begins with."""
        return [self.fit, *(self.partial(given.name) for given in manifest.inputs)]

    def partial(self, name: str) -> Path:
        """Where an input's result grows."""
        return self._inputs / name

    def packets(self, name: str) -> Path:
        """Where it is kept what a video's packets say."""
        return self.folder / "packets" / name

    def shards(self, name: str) -> Path:
        """Where the shards of an input are."""
        return self.folder / "shards" / name

    def empty(self, name: str) -> None:
        """Drop what there is of an input's result."""
        remove(self.partial(name))
        with output_errors(self.partial(name)):
            self.partial(name).mkdir()

    def publish(self, name: str) -> Path:
        """Give an input's complete result its place, and return that.

        Raises:
            OutputError: it can't be moved.
        """
        target = self.output / name
        with output_errors(target):
            publish(self.partial(name), target)
        return target

    def is_published(self, name: str) -> bool:
        """Whether this run, or the one it resumes, has finished an input."""
        return not self.partial(name).exists() and (self.output / name).is_dir()

    def has_progress(self) -> bool:
        """Whether anything was computed that a resumed run would keep."""
        try:
            manifest = self.manifest()
        except OutputError:
            return True
        if manifest is None:
            return False
        journals = (file for file in self._inputs.rglob("frames.jsonl") if file.stat().st_size)
        finished = any(self.is_published(given.name) for given in manifest.inputs)
        described = any(file.stat().st_size for file in self.fit.glob("*"))
        begun = finished or self.plan.exists() or described or any(self._inputs.glob("*/labels.zarr"))
        return begun or next(journals, None) is not None

    def conclude(self, failures: Sequence[Failure]) -> None:
        """End a run: remove its working files, and where inputs failed, keep that for a later --resume.

        Raises:
            OutputError: it can't be written.
        """
        if not failures:
            self.discard()
            return
        if self.concluded() is None:
            save_failures(self._failures, failures)
        for left in self.folder.iterdir():
            if left not in (self._manifest, self._failures):
                remove(left)

    def concluded(self) -> tuple[Failure, ...] | None:
        """The failures of a concluded run; None where there is none, or it isn't concluded.

        Raises:
            OutputError: they can't be read.
        """
        return load_failures(self._failures) if self._failures.is_file() else None

    def discard(self) -> None:
        """Remove all that is unfinished, the manifest first: without it the rest is ignored."""
        with contextlib.suppress(OSError):
            self._manifest.unlink(missing_ok=True)
        remove(self.folder)


@contextlib.contextmanager
def locked(output: Path, wait_s: float = 0) -> Iterator[None]:
    """Lock a directory against other runs; it is made if need be, and removed again if it stays empty.

    The lock ends with its process, however that ends.

    Args:
        output: the directory.
        wait_s: seconds to wait for another that holds it: a server needs some to notice that a machine is gone.

    Raises:
        OutputError: another run holds it, or the directory can't be written.
    """
    from filelock import FileLock, Timeout

    existed = output.is_dir()
    file, owner = output / LOCK, output / OWNER
    lock = FileLock(file, timeout=wait_s)
    with output_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"another run (process {_owner(owner)}) is writing into '{output}'; "
                "wait for it, or give another --output"
            ) from error
        except NotImplementedError as error:
            _log.warning("'%s': this file system has no locks (%s); keep other runs out", output, error)
    try:
        _sign(owner)
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
            # While it is still held: another run could lock it in between.
            file.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            # On Windows a file that is open stays.
            file.unlink(missing_ok=True) if os.name == "nt" else None
            if not existed:
                output.rmdir()


def _sign(owner: Path) -> None:
    # Only for the message to a second run; a full disk doesn't matter here.
    with contextlib.suppress(OSError):
        remove(owner)
        with owner.open("x") as file:
            file.write(f"{os.getpid()}\n")


def _owner(owner: Path) -> str:
    try:
        with owner.open() as file:
            return f"{int(file.read(20))}"
    except (OSError, ValueError):
        return "of another machine"


@contextlib.contextmanager
def kept_for_resume(work: Workspace) -> Iterator[None]:
    """When a run ends early, keep what `--resume` can use, and nothing else."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        if not work.has_progress():
            work.discard()
            raise
        kept = f"interrupted; what is finished is kept in '{work.output}': the same command with --resume continues"
        raise type(stop)(kept) from None
    except VidpartsError as error:
        # If it isn't resumable, resuming would fail in the same way.
        if not (error.resumable and work.has_progress()):
            work.discard()
            raise
        raise type(error)(f"{error}; what is finished is kept: --resume continues") from error
