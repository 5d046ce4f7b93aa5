from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipeline.cli.app import app, main

Runner = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run a command in this process; returns exit code and stderr."""

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return int(left.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture
def small(tiny_model: Path, tmp_path: Path) -> list[object]:
    """Options with which a tiny picture takes a second."""
    file = tmp_path / "small.yaml"
    file.write_text("cluster: {sample_interval: 3, restarts: 2}\nsaliency: {threshold: 0.35}\n")
    return ["--model", tiny_model, "--load-size", 48, "--stride", 8, "--device", "cpu", "--config", file]


def test_both_commands(run: Runner, tmp_path: Path, parity_dir: Path, small: list[object]) -> None:
    pictures = [parity_dir / "cat.png", parity_dir / "cup.png"]
    assert run("coseg", *pictures, "-o", tmp_path / "c", "--refine", "crf", *small)[0] == 0
    assert (tmp_path / "c" / "cat_mask.png").is_file()
    options = ["--parts", 2, "--crop-augmentations", 1, "--three-stages", "--palette", "davis"]
    assert run("parts", *pictures, "-o", tmp_path / "p", *options, *small)[0] == 0
    codebook = tmp_path / "p" / "codebook.safetensors"
    assert run("parts", pictures[0], "-o", tmp_path / "q", "--codebook", codebook, *small)[0] == 0
    for name in ("p", "q"):
        assert (tmp_path / name / "cat_parts.png").is_file()


def test_what_a_user_gets_wrong_is_one_line(run: Runner, tmp_path: Path, parity_dir: Path, small: list[object]) -> None:
    cat, text = parity_dir / "cat.png", tmp_path / "text.png"
    text.write_text("not a picture")
    taken = tmp_path / "small.yaml"
    for expected, word, arguments in (
        (2, "200 parts", ("parts", cat, "-o", tmp_path / "out", "--parts", 200)),
        (2, "crop_augmentations", ("parts", cat, "-o", tmp_path / "out", "--crop-augmentations", -1)),
        (2, "--refine", ("coseg", cat, "-o", tmp_path / "out", "--refine", "magic")),
        (3, "none.png", ("coseg", "none.png", "-o", tmp_path / "out")),
        (3, "text.png", ("parts", text, "-o", tmp_path / "out")),
        (4, "--overwrite", ("coseg", cat, "-o", tmp_path)),
        (4, "is a file", ("parts", cat, "-o", taken)),
        (5, "none.safetensors", ("parts", cat, "-o", tmp_path / "out", "--codebook", "none.safetensors")),
    ):
        code, err = run(*arguments, *small)
        lines = [line for line in err.splitlines() if "error:" in line]
        assert code == expected, err
        assert len(lines) == 1, err
        assert word in lines[0]
    assert not (tmp_path / "out").exists()


def test_help_names_the_options() -> None:
    assert {"coseg", "parts"} <= set(get_command(app).commands)
    for command, option in (("coseg", "--remove-outliers"), ("parts", "--three-stages")):
        assert option in CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
