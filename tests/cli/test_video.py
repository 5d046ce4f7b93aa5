import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline import releases
from pipeline.cli import main

ClipMaker = Callable[..., Path]
Runner = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run a command in this process; returns exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        for number, handler in handlers.items():
            signal.signal(number, handler)
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def small(tiny_model: Path, tmp_path: Path) -> list[object]:
    """Options with which a tiny clip takes a second."""
    file = tmp_path / "small.yaml"
    file.write_text("cluster: {sample_interval: 3, restarts: 2}\nsaliency: {threshold: 0.35}\n")
    return ["--model", tiny_model, "--load-size", 48, "--stride", 8, "--parts", 3, "--device", "cpu", "--config", file]


def assert_one_line(code: int, err: str, expected: int, *words: str) -> None:
    lines = [line for line in err.splitlines() if "error:" in line]
    assert code == expected, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0], lines[0]


def test_segment_render_and_export(run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=6)
    out = tmp_path / "out"
    code, stdout, stderr = run("segment", clip, "-o", out, *small)
    assert code == 0, stderr
    assert "crf" not in stdout
    assert str(out / "walk") in stdout
    for style in ("overlay", "parts", "outline", "cutout", "side-by-side"):
        assert run("render", out / "walk", "--style", style, "-o", tmp_path / f"{style}.mp4")[0] == 0
        assert (tmp_path / f"{style}.mp4").stat().st_size > 0
    for name in ("davis", "coco", "npz"):
        assert run("export", out / "walk", "--format", name, "-o", tmp_path / name)[0] == 0
        assert any((tmp_path / name).iterdir())
    code, _, stderr = run("render", out / "walk", "-o", tmp_path / "parts.mp4")
    assert_one_line(code, stderr, 4, "parts.mp4", "--overwrite")


def test_fit_then_segment_with_the_codebook(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=6)
    codebook = tmp_path / "codebook.safetensors"
    assert run("fit", clip, "-o", codebook, *small)[0] == 0
    assert run("segment", clip, "-o", tmp_path / "out", "--codebook", codebook, *small)[0] == 0
    code, _, stderr = run("segment", clip, "-o", tmp_path / "b", "--codebook", codebook, *small, "--stride", 4)
    assert_one_line(code, stderr, 5, "stride 8 (now 4)")
    code, _, stderr = run("fit", clip, "-o", codebook, *small)
    assert_one_line(code, stderr, 4, "exists")


def test_features_writes_arrays_by_stem(run: Runner, tmp_path: Path, parity_dir: Path, tiny_model: Path) -> None:
    found = tmp_path / "out.npz"
    options = ["--model", tiny_model, "--layer", 9, "--facet", "query", "--stride", 4, "--load-size", 96]
    assert run("features", parity_dir / "cat.png", parity_dir / "cup.png", *options, "-o", found)[0] == 0
    with np.load(found) as arrays:
        assert sorted(arrays) == ["cat/descriptors", "cat/saliency", "cup/descriptors", "cup/saliency"]
        assert arrays["cat/descriptors"].shape == (23, 31, 48)
        assert arrays["cup/saliency"].shape == (23, 27)
    binned = tmp_path / "binned.npz"
    assert run("features", parity_dir / "cat.png", *options, "--log-bin", "-o", binned)[0] == 0
    with np.load(binned) as arrays:
        assert arrays["cat/descriptors"].shape == (23, 31, 48 * 17)


def test_bad_inputs_are_one_line_and_code_3(run: Runner, tmp_path: Path, small: list[object]) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    Image.new("RGB", (64, 48)).save(broken / "a.png")
    (broken / "b.png").write_bytes((broken / "a.png").read_bytes()[:60])
    sizes = tmp_path / "sizes"
    sizes.mkdir()
    Image.new("RGB", (64, 48)).save(sizes / "a.png")
    Image.new("RGB", (48, 64)).save(sizes / "b.png")
    for bad, word in (
        (text, "text.mp4"),
        (empty, "empty"),
        (broken, "b.png"),
        (sizes, "b.png"),
        ("none.mp4", "none.mp4"),
    ):
        code, _, stderr = run("segment", bad, "-o", tmp_path / "out", *small)
        assert_one_line(code, stderr, 3, word)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


@pytest.mark.parametrize(("options", "words"), [
    (["--facet", "keys"], ["--facet", "keys"]),
    (["--stride", "3"], ["stride", "3"]),
    (["--parts", "0"], ["parts", "0"]),
    (["--parts", "250"], ["250 parts"]),
    (["--layer", "12"], ["layer", "12"]),
    (["--strid", "3"], ["--strid"]),
    (["--start", "5", "--end", "2"], ["start"]),
    (["--load-size", "1"], ["load_size"]),
    (["--model", "dino_vits9"], ["dino_vits9", "dino_vits8"]),
])  # fmt: skip
def test_wrong_settings_are_one_line_and_code_2(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object], options: list[str], words: list[str]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=2)
    code, _, stderr = run("segment", clip, "-o", tmp_path / "out", *small, *options)
    assert_one_line(code, stderr, 2, *words)


@pytest.mark.parametrize("options", [["--model", "none.safetensors"], ["--codebook", "none"]])
def test_missing_models_are_one_line_and_code_5(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object], options: list[str]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=2)
    code, _, stderr = run("segment", clip, "-o", tmp_path / "out", *small, *options)
    assert_one_line(code, stderr, 5, options[1])


def test_an_existing_result_is_refused_and_untouched(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    assert run("segment", clip, "-o", tmp_path / "out", *small)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    code, _, stderr = run("segment", clip, "-o", tmp_path / "out", *small)
    assert_one_line(code, stderr, 4, "exists", "--overwrite")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_damage_is_said_or_with_strict_an_error(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=12)
    with av.open(str(clip)) as opened:
        packet = [bytes(packet) for packet in opened.demux(video=0) if packet.size][7]
    clip.write_bytes(clip.read_bytes().replace(packet, b"\xff" * len(packet)))
    code, _, stderr = run("segment", clip, "-o", tmp_path / "out", *small, "--strict")
    assert_one_line(code, stderr, 3, "is damaged", "first at 0.", "without --strict")
    code, _, stderr = run("segment", clip, "-o", tmp_path / "out", *small)
    assert code == 0
    assert "warning: walk: " in stderr
    assert "is damaged" in stderr
    code, _, stderr = run("export", tmp_path / "out" / "walk", "--format", "davis", "-o", clip)
    assert_one_line(code, stderr, 4, "is a file")


def test_names_do_not_speak_to_the_terminal(run: Runner, tmp_path: Path, small: list[object]) -> None:
    for name in ("two\nlines", "\x1b[2Jclear", "\u202eright to left"):
        code, _, stderr = run("render", tmp_path / name, "-o", tmp_path / "o.mp4")
        assert_one_line(code, stderr, 3, "run.json")
        assert stderr.rstrip("\n").isprintable()


def test_nothing_salient_falls_back_and_warns(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]
) -> None:
    config = tmp_path / "high.yaml"
    config.write_text("saliency: {threshold: 1.0}\ncluster: {sample_interval: 3}\n")
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    code, _, stderr = run("segment", clip, "-o", tmp_path / "out", *small[:-2], "--config", config)
    assert code == 0
    assert "warning: nothing is salient" in stderr
    record = json.loads((tmp_path / "out" / "walk" / "run.json").read_text())
    assert "nothing is salient" in record["warnings"][0]


def test_everything_salient_is_a_result(run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]) -> None:
    config = tmp_path / "low.yaml"
    config.write_text("saliency: {threshold: 0.0, votes: 0.0}\ncluster: {sample_interval: 3}\n")
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    assert run("segment", clip, "-o", tmp_path / "out", *small[:-2], "--config", config)[0] == 0


def test_json_progress_is_lines_of_json(run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object]) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    _, _, stderr = run("segment", clip, "-o", tmp_path / "out", "--json-progress", *small)
    events = [json.loads(line) for line in stderr.splitlines()]
    assert [event["pass"] for event in events if event["event"] == "start"] == ["fit", "walk"]
    assert [event["done"] for event in events if event["event"] == "end"] == [3, 3]


def test_info_names_models_and_versions(run: Runner) -> None:
    code, stdout, _ = run("info")
    assert code == 0
    assert "dino_vits8" in stdout
    assert re.search(r"^packages: .*\btorch \d", stdout, flags=re.MULTILINE)
    assert re.search(r"^tested with: Python 3\.11 to 3\.\d+, .*\bav 18\.\d.* to 19\.\d", stdout, flags=re.MULTILINE)


def test_info_names_releases_that_were_not_tested(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    real = releases.version
    monkeypatch.setattr(releases, "version", lambda name: "99.1" if name == "av" else real(name))
    assert re.search(r"wasn't tested with .*\bav 99\.1 \(tested: 18", run("info")[1])


def test_no_arguments_shows_the_help_and_version_works(run: Runner) -> None:
    assert "segment" in run()[1]
    assert run("--version")[1].startswith("vidparts ")


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = (
        "import sys; import pipeline, pipeline.cli; "
        "heavy = {'torch', 'timm', 'faiss', 'sklearn', 'av', 'zarr', 'cv2', 'scipy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_says_how_to_go_on(
    run: Runner, tmp_path: Path, make_clip: ClipMaker, small: list[object], number: signal.Signals
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=120, size_hw=(96, 128))
    out = tmp_path / "out"
    command = ["segment", clip, "-o", out, *small, "--load-size", 96, "--fit-frames", 3, "--json-progress"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"pass": "walk"' in line and '"progress"' in line:
            break
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert "Traceback" not in rest
    assert "--resume continues" in rest
    assert sorted(path.name for path in out.iterdir()) == [".run", "clusters.jpg", "codebook.safetensors"]
    code, _, stderr = run(*command)
    assert_one_line(code, stderr, 4, "unfinished run", "--resume", "--overwrite")
    code, _, stderr = run(*command, "--resume", "--seed", 3)
    assert_one_line(code, stderr, 2, "run.seed 0 (now 3)")
    assert run(*command, "--resume")[0] == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "clusters.jpg",
        "codebook.safetensors",
        "report.html",
        "walk",
    ]
    assert run("verify", out / "walk")[1] == f"{out / 'walk'}: 120 frames, all there\n"
    (out / "walk" / "overlay.mp4").write_bytes(b"cut")
    assert_one_line(*run("verify", out / "walk")[::2], 3, "overlay.mp4", "damaged")


def test_an_interrupt_does_not_wait_for_a_step_that_takes_longer(
    tmp_path: Path, make_clip: Callable[..., Path], small: list[object]
) -> None:
    code = """
import importlib, os, signal, sys, time
from pipeline.features.extractor import Extractor
def slow(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)
Extractor.extract = slow
app = importlib.import_module("pipeline.cli.app")
app.PATIENCE_S = 0.2
app.main(sys.argv[1:])
"""
    clip = make_clip(tmp_path / "walk.mp4")
    command = [sys.executable, "-c", code, *map(str, ["segment", clip, "-o", tmp_path / "out", *small])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130
    assert "--resume continues" in done.stderr
