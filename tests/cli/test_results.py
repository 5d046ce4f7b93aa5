"""The commands for finished results on the command line: edit, export, report, view."""

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli.app import main
from pipeline.cluster.codebook import load_codebook
from pipeline.config import Settings
from pipeline.tasks.segment import segment


@pytest.fixture
def run(make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path) -> Path:
    segment([make_clip(tmp_path / "clip.mp4")], tmp_path / "out", small_settings)
    return tmp_path / "out"


def call(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_parts_are_corrected_and_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--name", "1=head", "--merge", "2+3", "--color", "1=#FF8800", "--order", "2,1")
    assert call("edit", run, *words) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ +2 +#\w{6} +part 2\n +1 +#ff8800 +head\n +3 +merged into 2\n", shown)
    assert call("edit", run / "clip", "--hide", "1") == 0
    assert call("edit", run, "--undo") == 0
    capsys.readouterr()
    assert call("edit", run) == 0
    assert "hidden" not in capsys.readouterr().out


def test_a_codebooks_parts_are_named_and_nothing_else(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = run / "codebook.safetensors"
    assert call("edit", book, "--name", "1=ear") == 0
    assert "  ear\n" in capsys.readouterr().out
    assert load_codebook(book).part_names[0] == "ear"
    assert call("edit", book, "--name", "1=ear", "--hide", "1") == 2
    assert "parts can be named only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--name", "head"], "got 'head', expected a part's number and a value, such as --name 1=head"),
        (["--name", "7=head"], "names part 7, but there are the parts 1 to 3"),
        (["--merge", "2"], "expected numbers of parts, such as --merge 2+3"),
        (["--merge", "2+x"], "expected numbers of parts"),
        (["--color", "1=red"], "this edit can't be made"),
        (["--undo"], "there is no edit to undo"),
        (["--undo", "--hide", "1"], "--undo and --reset stand alone"),
    ],
)
def test_a_wrong_edit_is_one_line_and_writes_nothing(
    run: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("edit", run, *words) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert errors.count("\n") == 1
    assert not (run / "edits.json").exists()


def test_exit_codes_are_those_of_the_errors(run: Path, tmp_path: Path) -> None:
    assert call("edit", tmp_path, "--hide", "1") == 3
    assert call("report", tmp_path / "none") == 3
    assert call("view", tmp_path / "none") == 3
    assert call("export", run / "clip", "-o", tmp_path / "csv", "--format", "csv", "--images", "png") == 2
    assert call("export", run / "clip", "-o", tmp_path / "csv", "--format", "csv") == 0
    assert call("export", run / "clip", "-o", tmp_path / "csv", "--format", "csv") == 4
    (run / "edits.json").write_text("{")
    assert call("report", run) == 3


def test_the_report_is_opened_where_asked_for(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert call("report", run, "--open") == 0
    assert opened == [(run / "report.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert call("report", run, "--open") == 0
    assert "no browser was found here; open file://" in capsys.readouterr().err


def test_a_run_ends_with_its_verdict_and_the_table_is_for_verbose(
    make_clip: Callable[..., Path], tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", make_clip(tmp_path / "clip.mp4"), "-o", tmp_path / "o", "--model", tiny_model]
    words += ["--load-size", "48", "--stride", "8", "--device", "cpu"]
    assert call(*words) == 0
    done = capfd.readouterr()
    lines = done.out.splitlines()
    assert re.fullmatch(r"4 parts in 8 frames; together they cover .* of the picture\.", lines[0])
    assert lines[1].startswith("  part 1 ")
    assert lines[-1] == f"report: {tmp_path / 'o' / 'report.html'}"
    assert len(lines) < 12
    assert "s busy" not in done.out + done.err
    # In a process of its own, where no test has set up the logging.
    command = [sys.executable, "-m", "pipeline", *map(str, words), "--overwrite", "--verbose"]
    assert "s busy" in subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("room", ["viewer.server", "tasks.edit", "tasks.report", "tasks.export", "tasks.render"])
def test_what_needs_no_model_loads_no_torch(room: str) -> None:
    if room.startswith("viewer"):
        pytest.importorskip("uvicorn", reason="the extra `view` is a test dependency")
    code = f"import sys, pipeline.{room}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_view_says_where_it_is_and_ends_with_an_interrupt(run: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra `view` is a test dependency")
    words = [sys.executable, "-m", "pipeline", "view", str(run), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"<title>vidparts</title>" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address[: address.rstrip("/").rindex("/") + 1], timeout=30)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_view_without_its_extra_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("pipeline.viewer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert call("view", run) == 2
    assert "view needs uvicorn: pip install 'vidparts[view]'" in capsys.readouterr().err
