from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.media.inputs import Still, resolve_visuals
from pipeline.media.video_source import VideoSource


def picture(path: Path, size_hw: tuple[int, int] = (9, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size_hw, 3), np.uint8)).save(path)
    return path


def test_pictures_of_any_sizes_and_videos_each_with_a_name(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    picture(tmp_path / "set" / "b.png", (9, 7))
    picture(tmp_path / "set" / "a.png", (5, 6))
    clip = make_clip(tmp_path / "a.mp4", frames=2)
    sources = resolve_visuals([str(tmp_path / "set"), str(clip), str(tmp_path / "set" / "*.png")])
    assert [source.name for source in sources] == ["a", "b", "a-2", "a-3", "b-2"]
    assert [isinstance(source, Still) for source in sources] == [True, True, False, True, True]
    assert isinstance(sources[2], VideoSource)
    assert [source.count() for source in sources] == [1, 1, 2, 1, 1]
    assert [frame.size_hw for source in sources[:2] for frame in source.frames()] == [(5, 6), (9, 7)]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist"):
        resolve_visuals([str(tmp_path / "none.png")])
    with pytest.raises(InputError, match="no input"):
        resolve_visuals([])
