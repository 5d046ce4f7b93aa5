"""Where standard streams are closed, full or without a reader: the work is done, and nothing but one line is said."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.streams import Lasting
from pipeline.tasks.verify import verify

ARGUMENTS = ["--load-size", "48", "--stride", "8", "--parts", "2", "--device", "cpu", "--backend", "torch"]


@pytest.fixture
def command(tiny_model: Path, make_clip, tmp_path: Path) -> list[str]:
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    program = [sys.executable, "-m", "pipeline", "segment", str(clip), "-o", str(tmp_path / "out")]
    return [*program, "--model", str(tiny_model), *ARGUMENTS]


def run(command: list[str], redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("2>&-", 0, ""),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        (">/dev/full", 4, "vidparts: error: standard output can't be written: No space left on device"),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
def test_no_stream_ends_a_run(command: list[str], tmp_path: Path, redirection: str, code: int, said: str) -> None:
    done = run(command, redirection)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert said in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clusters.jpg",
        "codebook.safetensors",
        "report.html",
        "walk",
    ]
    assert verify(tmp_path / "out" / "walk").frames == 3


def test_a_wrong_command_keeps_its_code_without_any_stream() -> None:
    command = [sys.executable, "-m", "pipeline", "segment"]
    assert run(command, ">&- 2>&-").returncode == 2
    assert run(command, "2>/dev/full").returncode == 2


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, os.strerror(28))


def test_a_lasting_stream_writes_until_that_fails() -> None:
    kept = io.StringIO()
    assert Lasting(kept).write("a") == 1
    assert kept.getvalue() == "a"
    nowhere = Lasting(None)
    assert nowhere.write("a") == 1
    assert not nowhere.isatty()
    full = Lasting(Full())
    assert full.write("a") == 1
    assert full.error is not None
    assert full.error.errno == 28
    full.flush()
