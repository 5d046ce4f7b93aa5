"""Progress on a terminal and for a program, and that every command over pictures says where it is."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, with_values
from pipeline.progress import Bars, JsonLines, Silent
from pipeline.tasks.features import features
from pipeline.tasks.layers import layers
from pipeline.tasks.match import match
from pipeline.tasks.parts import parts
from pipeline.tasks.pca import pca
from pipeline.tasks.saliency import saliency
from pipeline.tasks.segment import segment
from pipeline.tasks.similarity import similarity

MakeClip = Callable[..., Path]


class Recorder(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[str, int | None, str]] = []
        self.names: list[list[str]] = []

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        self.passes.append((name, total, unit))
        self.names.append([])

    def advance(self, frames: int = 1, name: str = "") -> None:
        self.names[-1] += [name] * frames


@pytest.fixture
def pictures(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> list[Path]:
    files = [tmp_path / f"{name}.png" for name in ("ant", "bee", "cat")]
    for number, file in enumerate(files):
        Image.fromarray(make_picture(number, (48, 64))).save(file)
    return files


def test_a_bar_shows_the_unit_the_time_left_and_the_name() -> None:
    shown = io.StringIO()
    bars = Bars(shown)
    bars.start("label", 2, "picture")
    bars.advance(name="a-very-long-name-of-a-recording-0017")
    bars.advance(name="line\nbreak")
    bars.finish()
    last = shown.getvalue().split("\r")[-1]
    assert "label: 100%" in last
    assert "picture/s, line\\nbreak]" in last
    assert "\n" not in shown.getvalue().rstrip("\n")


def test_a_program_is_told_the_name() -> None:
    told = io.StringIO()
    lines = JsonLines(told)
    lines.start("label", 1, "picture")
    lines.advance(name="bee")
    lines.finish()
    events = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["start", "progress", "end"]
    assert (events[0]["unit"], events[1]["name"]) == ("picture", "bee")


@pytest.mark.parametrize("command", [saliency, pca, layers, parts])
def test_one_bar_over_all_pictures_names_each(
    command: Callable[..., object], pictures: list[Path], small_settings: Settings, tmp_path: Path
) -> None:
    told = Recorder()
    command(pictures, tmp_path / "out", small_settings, progress=told)
    assert told.passes
    assert all((total, unit) == (3, "picture") for _, total, unit in told.passes)
    assert all(sorted(names) == ["ant", "bee", "cat"] for names in told.names)


def test_commands_with_an_output_of_their_own_name_each_picture(
    pictures: list[Path], small_settings: Settings, tmp_path: Path
) -> None:
    told = Recorder()
    features(pictures, tmp_path / "features.npz", small_settings, progress=told)
    match(pictures[0], pictures[1], tmp_path / "match", small_settings, progress=told)
    similarity(pictures[0], pictures[1], tmp_path / "similarity", small_settings, point=(5, 5), progress=told)
    assert told.passes == [("features", 3, "picture"), ("match", 2, "picture"), ("paint", 1, "picture")]
    assert told.names == [["ant", "bee", "cat"], ["ant", "bee"], ["bee"]]


def test_of_several_inputs_each_says_which_it_is(make_clip: MakeClip, small_settings: Settings, tmp_path: Path) -> None:
    told, settings = Recorder(), with_values(small_settings, {"cluster.frames": 4})
    clips = [make_clip(tmp_path / name, frames=4) for name in ("one.mp4", "two.mp4")]
    segment(clips, tmp_path / "out", settings, progress=told)
    assert told.passes == [("fit", 4, "frame"), ("one (1 of 2)", 4, "frame"), ("two (2 of 2)", 4, "frame")]
    assert told.names[0] == ["one", "one", "two", "two"]
