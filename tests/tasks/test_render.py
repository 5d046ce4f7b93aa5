import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.media.clip_reader import frame_times
from pipeline.tasks.render import render
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]


@pytest.fixture
def result(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> Path:
    return segment([make_clip(tmp_path / "walk.mp4", frames=5)], tmp_path / "out", small_settings).finished[0].directory


def name_source(result: Path, path: Path) -> None:
    record = json.loads((result / "run.json").read_text())
    record["source"]["path"] = str(path)
    (result / "run.json").write_text(json.dumps(record))


def test_the_same_style_gives_the_same_bytes(tmp_path: Path, result: Path) -> None:
    render(result, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (result / "overlay.mp4").read_bytes()


def test_a_strangers_record_leads_nowhere(tmp_path: Path, result: Path) -> None:
    (tmp_path / "list.txt").write_text("walk.mp4\n")
    for path in (tmp_path / "list.txt", tmp_path / "*.mp4", Path("/dev/zero"), Path("/nowhere"), Path("x" * 5000)):
        name_source(result, path)
        with pytest.raises(InputError):
            render(result, tmp_path / "again.mp4")
        assert not (tmp_path / "again.mp4").exists()


def test_a_source_that_lacks_frames_is_no_clip(tmp_path: Path, result: Path, make_clip: ClipMaker) -> None:
    name_source(result, make_clip(tmp_path / "short.mp4", frames=3))
    with pytest.raises(InputError, match="has 3 frames"):
        render(result, tmp_path / "again.mp4")
    assert not (tmp_path / "again.mp4").exists()


def test_pictures_of_a_glob_are_found_again(tmp_path: Path, small_settings: Settings) -> None:
    rng = np.random.default_rng(0)
    for name in ("a1", "b1", "a2", "b2", "b3"):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (finished,) = segment([f"{tmp_path}/b*.png"], tmp_path / "out", small_settings).finished
    assert render(finished.directory, tmp_path / "again.mp4").frames == 3
    assert len(list(frame_times(tmp_path / "again.mp4"))) == 3
    assert (tmp_path / "again.mp4").read_bytes() == (finished.directory / "overlay.mp4").read_bytes()
