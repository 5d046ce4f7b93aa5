"""Sandbox for one fuzz case: a forked process with resource limits and an audit hook.

A case plays in a folder: it may write below `out` and, while it runs, below `tmp`, and nowhere else but into the cache
of the ViT's graphs.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import faulthandler
import json
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

CPU_SECONDS = 40
"""CPU limit of a case, which counts as hanging above it; usually 0.2 s, the largest picture takes 20 s."""

WALL_SECONDS = 150
"""Wall time limit of a case, which counts as hanging above it."""

MEMORY_MIB = 2048
"""Memory limit above the parent process's; a cutout of a 144 megapixel picture takes 1.9 GiB."""

_THREAD_SECONDS = 3
_ADDRESS_SPACE_MIB = 6 * 1024
_FILE_MIB = 256
_CODES = frozenset({0, 2, 3, 4, 5})
_KNOWN_LINES = re.compile(
    r"vidparts: error: .|warning: .|model: .|'.*' (holds no unfinished run|is finished already)|$"
    # libtiff prints errors to stderr, which Pillow can't turn off.
    r"|tempfile\.tif: ."
    r"|(_?TIFF|Fax|\w+Decode|\w+PreDecode)\w*: ."
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_WATCHED = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "os.truncate": (0,), "os.chmod": (0,),
}  # fmt: skip
_FORBIDDEN = frozenset({"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect"})


@dataclass(frozen=True)
class Case:
    """Commands and check of one case.

    Attributes:
        commands: arguments of each command; they run one after the other in one process.
        check: called after all commands with their exit codes; returns a fault or None.
    """

    commands: Sequence[Sequence[object]]
    check: Callable[[Sequence[int]], str | None] = lambda _: None


Build = Callable[[Path], Case]
"""Creates a case's files in a folder; called in the forked process."""


@dataclass(frozen=True)
class Outcome:
    """Result of a case: faults (empty if fine), commands, exit codes, memory and time."""

    wrong: tuple[str, ...]
    commands: tuple[str, ...]
    codes: tuple[int, ...]
    mib: int
    seconds: float


class Running:
    """A case in a forked process."""

    def __init__(self, build: Build, folder: Path) -> None:
        """Fork it; `folder` is created, with the sub-folders `play` and `log`."""
        self._folder = folder
        self._play = folder / "play" / "a" / "b" / "c"
        self._log = folder / "log"
        for made in (self._log, self._play / "out", self._play / "tmp", self._play / "bait"):
            made.mkdir(parents=True)
        (self._play / "bait" / "kept.txt").write_text("nobody may touch this\n")
        self._started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _play(build, self._play, self._log)

    def poll(self) -> Outcome | None:
        """The outcome once the process has exited, else None; kills it after `WALL_SECONDS`."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        seconds = time.monotonic() - self._started
        if pid == 0:
            if seconds > WALL_SECONDS:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        base = int(_read(self._log / "base") or 0)
        return self._judge(status, usage.ru_maxrss // 1024 - base, seconds)

    def _judge(self, status: int, mib: int, seconds: float) -> Outcome:
        commands = tuple(_read(self._log / "commands").splitlines())
        codes = tuple(json.loads(_read(self._log / "codes") or "[]"))
        wrong = list(_read(self._log / "wrong").splitlines())
        wrong += _signs_of_death(status, len(codes), seconds, self._log)
        if mib > MEMORY_MIB:
            wrong.append(f"memory: {mib} MiB, {MEMORY_MIB} are allowed")
        for number, code in enumerate(codes):
            wrong += judge_output(code, _read(self._log / f"{number}.err"))
        return Outcome(tuple(wrong), commands, codes, mib, seconds)


def judge_output(code: int, stderr: str) -> Iterator[str]:
    """Faults in how a command ended."""
    lines = stderr.splitlines()
    errors = [line for line in lines if line.startswith("vidparts: error: ")]
    if code not in _CODES:
        yield f"exit code {code}"
    if "Traceback" in stderr or "Exception ignored" in stderr:
        yield f"traceback: {' | '.join(line[:200] for line in lines[-12:])}"
    elif any(not _KNOWN_LINES.match(line) for line in lines):
        yield f"noise: {next(line for line in lines if not _KNOWN_LINES.match(line))[:300]}"
    if len(errors) != (code != 0):
        yield f"{len(errors)} lines of error with exit code {code}"
    if any(len(line) > 2000 for line in errors):
        yield f"a line of {max(map(len, errors))} characters: {errors[0][:200]}..."


def forget(folder: Path) -> None:
    """Remove a case's files, with any permissions."""
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(place).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _signs_of_death(status: int, done: int, seconds: float, log: Path) -> Iterator[str]:
    last = " | ".join(_read(log / f"{done}.err").splitlines()[-8:])[-900:]
    if not os.WIFSIGNALED(status):
        if os.WEXITSTATUS(status):
            yield f"the case ended early, with {os.WEXITSTATUS(status)}: {last}"
    elif os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        yield f"hang: ended after {seconds:.0f} s (or {CPU_SECONDS} s of computing) {last}"
    else:
        yield f"crash: signal {signal.Signals(os.WTERMSIG(status)).name} {last}"


def _play(build: Build, play: Path, log: Path) -> None:
    """The forked process; never returns."""
    code = 1
    try:
        os.setsid()
        _redirect(log / "build")
        case = build(play)
        (log / "commands").write_text(
            "".join(_shown(words, play) + "\n" for words in case.commands), encoding="utf-8", errors="replace"
        )
        (log / "base").write_text(str(_resident_mib()))
        before = _snapshot(play)
        outside = _limit(play, log)
        codes: list[int] = []
        for number, words in enumerate(case.commands):
            _redirect(log / str(number))
            codes.append(_command([str(word) for word in words]))
            (log / "codes").write_text(json.dumps(codes))
        wrong = [*outside, *_touched(before, _snapshot(play))]
        complaint = case.check(codes)
        wrong += [complaint.replace("\n", " ")] if complaint else []
        (log / "wrong").write_text("\n".join(wrong), errors="replace")
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here, and tells of whatever happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _shown(words: Sequence[object], play: Path) -> str:
    return " ".join(map(str, words)).replace(f"{play}{os.sep}", "").replace("\n", "\\n")


def _command(words: list[str]) -> int:
    from pipeline.cli import main

    code = 0
    try:
        main(words)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1 if left.code else 0
    except BaseException:  # noqa: BLE001 - what a command lets through is what is looked for
        traceback.print_exc()
        code = 1
    # Threads of a global pool end with the interpreter.
    kept = {threading.main_thread(), *concurrent.futures.thread._threads_queues}
    for thread in set(threading.enumerate()) - kept:
        if not thread.daemon:
            thread.join(_THREAD_SECONDS)
            if thread.is_alive():
                print(f"Traceback: thread {thread.name} was left", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _redirect(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, suffix in ((1, ".out"), (2, ".err")):
        handle = os.open(log.with_name(log.name + suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)


def _limit(play: Path, log: Path) -> list[str]:
    """Set limits and the audit hook; returns the list to which forbidden writes and calls are added."""
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024  # type: ignore[index]
    cpu = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_AS, ((used + _ADDRESS_SPACE_MIB) * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu + CPU_SECONDS, cpu + CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_MIB * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    faulthandler.dump_traceback_later(WALL_SECONDS - 5)
    os.environ["TMPDIR"] = str(play / "tmp")
    tempfile.tempdir = None  # What the process above has found.
    os.chdir(play)
    cache = user_cache_path("vidparts", appauthor=False)
    allowed = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in (play / "out", play / "tmp", log, cache))
    wrong: list[str] = []

    def watch(event: str, details: tuple) -> None:
        if event in _FORBIDDEN:
            wrong.append(f"it called {event} {str(details)[:200]}")
        elif event == "open":
            _require_inside(event, (details[0],) if details[2] & _WRITING else (), allowed, wrong)
        elif event in _WATCHED:
            _require_inside(event, [details[number] for number in _WATCHED[event]], allowed, wrong)

    sys.addaudithook(watch)
    return wrong


def _require_inside(event: str, paths: Sequence[object], allowed: tuple[str, ...], wrong: list[str]) -> None:
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            place = os.fsdecode(path)
            inside = f"{os.path.realpath(os.path.dirname(place) or '.')}{os.sep}"  # noqa: PTH120
            # Names relative to a directory descriptor (dir_fd) have no folder; shutil.rmtree uses them.
            known = inside.startswith(allowed) or place == os.devnull or os.sep not in place
            if not known and os.path.realpath(place) + os.sep not in allowed:
                wrong.append(f"it wrote outside: {event} {place[:300]}")


def _snapshot(play: Path) -> dict[str, tuple]:
    """Metadata of all files that may not change; `tmp` must be empty again."""
    found: dict[str, tuple] = {}
    for folder, folders, files in os.walk(play.parents[2]):
        if Path(folder) == play:
            folders.remove("out")
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            facts = os.lstat(path)
            changing = stat.S_ISDIR(facts.st_mode) and path == str(play / "tmp")
            found[path] = (facts.st_mode, facts.st_size, 0 if changing else facts.st_mtime_ns, facts.st_ino)
    return found


def _touched(before: dict[str, tuple], after: dict[str, tuple]) -> Iterator[str]:
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield f"it changed {path!r}, which isn't its output"


def _resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""
