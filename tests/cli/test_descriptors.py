import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.cli.descriptors import parse_point
from pipeline.errors import UsageError

Runner = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> Runner:
    """Run a command on the tiny model in this process; returns exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        options = ["--model", tiny_model, "--load-size", 48, "--stride", 8, "--device", "cpu"]
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in [*arguments, *options]])
        for number, handler in handlers.items():
            signal.signal(number, handler)
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return call


def assert_one_line(result: tuple[int, str, str], expected: int, *words: str) -> None:
    code, _, err = result
    lines = [line for line in err.splitlines() if "error:" in line]
    assert code == expected, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture
def pair(parity_dir: Path) -> list[Path]:
    return [parity_dir / "cat.png", parity_dir / "cup.png"]


def test_match(run: Runner, pair: list[Path], tmp_path: Path) -> None:
    code, out, err = run("match", *pair, "-o", tmp_path, "--pairs", 2, "--threshold", 0)
    assert code == 0, err
    assert out.startswith("2 pairs of ")
    content = json.loads((tmp_path / "matches.json").read_text())
    assert content["features"]["layer"] == 9
    assert content["features"]["log_bin"]
    assert_one_line(run("match", *pair, "-o", tmp_path), 4, "matches.json", "--overwrite")
    code, out, err = run("match", *pair, "-o", tmp_path, "--no-log-bin", "--layer", 3, "--all", "--overwrite")
    assert code == 0, err
    content = json.loads((tmp_path / "matches.json").read_text())
    assert content["asked"] is None
    assert content["features"]["layer"] == 3
    assert not content["features"]["log_bin"]
    assert len(content["pairs"]) == content["best_buddies"]


def test_no_pair_is_an_answer(run: Runner, pair: list[Path], tmp_path: Path) -> None:
    code, out, err = run("match", *pair, "-o", tmp_path, "--threshold", 1)
    assert code == 0, err
    assert out.startswith("0 pairs of 0")
    assert "warning: no pair" in err
    assert json.loads((tmp_path / "matches.json").read_text())["pairs"] == []


def test_pca_similarity_saliency_and_layers(run: Runner, pair: list[Path], tmp_path: Path) -> None:
    commands = {
        "pca": (pair, "cup-colors.png"),
        "saliency": (pair, "cat.npz"),
        "similarity": ([*pair, "--point", "10,12.5", "--top", 1], "cup.png"),
        "layers": ([*pair, "--point", "10,12.5", "--parts", 2], "tsne.png"),
    }
    for name, (arguments, file) in commands.items():
        out = tmp_path / name
        code, stdout, stderr = run(name, *arguments, "-o", out)
        assert code == 0, stderr
        assert str(out / file) in stdout.splitlines()
        assert all(Path(line.removeprefix("report: ")).is_file() for line in stdout.splitlines())
        assert_one_line(run(name, *arguments, "-o", out), 4, "--overwrite")


def test_one_that_fails_is_the_exit_code(run: Runner, pair: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name in ("pca", "saliency"):
        result = run(name, tmp_path / "broken.png", pair[0], "-o", tmp_path / name)
        assert_one_line(result, 3, "broken.png", "are finished")
        assert (tmp_path / name / "cat.npz").is_file()


@pytest.mark.parametrize("text", ["", "3", "a,b", "1,2,3", "1;2"])
def test_a_point_that_is_none(text: str, run: Runner, pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected X,Y"):
        parse_point(text)
    assert_one_line(run("similarity", *pair, "-o", tmp_path, "--point", text), 2, "--point")


def test_points_outside_and_not_a_number(run: Runner, pair: list[Path], tmp_path: Path) -> None:
    for text in ("5000,1", "nan,1", "inf,2"):
        assert_one_line(run("similarity", *pair, "-o", tmp_path, f"--point={text}"), 2, "outside")


@pytest.mark.parametrize("facet", ["key", "query", "value", "token"])
@pytest.mark.parametrize("layer", [0, 11])
@pytest.mark.parametrize("bins", [(), ("--log-bin",)])
def test_features_of_every_facet(
    facet: str, layer: int, bins: tuple[str, ...], run: Runner, pair: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "f.npz"
    # Torch has no graph to compile for each of them.
    words = ["--facet", facet, "--layer", layer, "--backend", "torch"]
    code, _, err = run("features", pair[0], "-o", file, *words, *bins)
    assert code == 0, err
    with np.load(file) as found:
        assert found["cat/descriptors"].shape == (6, 8, 48 * (17 if bins else 1))
        assert found["cat/saliency"].shape == (6, 8)


def test_a_picture_that_is_too_small_is_brought_to_size(run: Runner, pair: list[Path], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "dot.png")
    for name in ("pca", "saliency", "layers"):
        code, _, err = run(name, tmp_path / "dot.png", "-o", tmp_path / name)
        assert code in (0, 2), err
        assert "Traceback" not in err
    assert run("match", tmp_path / "dot.png", pair[0], "-o", tmp_path / "match")[0] == 0
