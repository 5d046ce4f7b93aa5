"""The GPU's benchmark on the CPU: every step measures something, and time that is up leaves the rest out."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import cuda
from pipeline.config import Settings


@pytest.fixture
def options(tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings) -> argparse.Namespace:
    config = tmp_path / "small.yaml"
    config.write_text(small_settings.model_dump_json(exclude_unset=True))
    return argparse.Namespace(
        clip=make_clip(tmp_path / "walk.mp4", frames=12),
        model=small_settings.model,
        device="cpu",
        config=config,
        minutes=30.0,
        frames=8,
        compared=4,
        points=300,
        presets=["draft"],
        out=tmp_path / "found.json",
    )


def test_every_step_is_measured(
    options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "SIDE", 2048)
    found = cuda.measure(options, tmp_path)
    assert list(found) == [
        *("device", "peaks, TFLOP/s", "crf", "k-means", "default", "draft"),
        "agreement with the CPU",
    ]
    assert not any("left out" in facts for facts in found.values())
    assert min(found["peaks, TFLOP/s"].values()) > 0
    assert found["crf"]["equal"] > 0.99
    assert (found["default"]["frames"], found["draft"]["frames"]) == (8, 8)
    # Of peaks that are measured in turn: beside other work it may be more than 1.
    assert found["default"]["share of the products' peak"] > 0
    assert found["agreement with the CPU"] == {"frames": 4, "equal": 1.0, "equal where steady": 1.0}
    assert json.loads(options.out.read_text()) == json.loads(json.dumps(found))
    assert "k-means: points 300" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_named(options: argparse.Namespace, tmp_path: Path) -> None:
    options.minutes = 0.01
    found = cuda.measure(options, tmp_path)
    assert "name" in found["device"]
    assert all("left out" in facts for name, facts in found.items() if name != "device")
