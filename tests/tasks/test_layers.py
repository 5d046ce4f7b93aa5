import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from pipeline.config import Settings, with_values
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.features.vit import Backbone
from pipeline.tasks import layers as module
from pipeline.tasks.layers import layers

ClipMaker = Callable[..., Path]
FILES = ["layers.png", "facets.png", "tsne.png", "layers.json"]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the pictures of each ViT pass."""
    counted: list[int] = []
    forward = Backbone.forward

    def count(self: Backbone, pixels: Tensor, *args: object, **kwargs: object) -> object:
        counted.append(len(pixels))
        return forward(self, pixels, *args, **kwargs)

    monkeypatch.setattr(Backbone, "forward", count)
    return counted


def read(folder: Path) -> dict:
    return json.loads((folder / "layers.json").read_text())


def test_three_figures_from_one_pass_a_picture(
    parity_dir: Path, tmp_path: Path, small_settings: Settings, passes: list[int]
) -> None:
    pictures = [parity_dir / "cat.png", parity_dir / "cup.png"]
    outcome = layers(pictures, tmp_path, small_settings, point=(30, 30))
    assert [file.name for file in outcome.files] == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert passes == [1, 1]
    content = read(tmp_path)
    assert content["pictures"] == ["cat", "cup"]
    assert content["point"] == [30, 30]
    assert len(content["explained"]) == 12
    assert all(0 < sum(shares) <= 1 and shares == sorted(shares, reverse=True) for shares in content["explained"])
    assert [entry["layer"] for entry in content["nearest"]] == [9, 11]
    with Image.open(parity_dir / "cup.png") as cup:
        for entry in content["nearest"]:
            for facet in ("token", "query", "value", "key"):
                assert 0 < entry[facet][0] < cup.width
                assert 0 < entry[facet][1] < cup.height
    for name in FILES[:3]:
        assert np.ptp(np.asarray(Image.open(tmp_path / name))) > 100


def test_one_picture_is_compared_with_itself_at_its_most_salient_place(
    parity_dir: Path, tmp_path: Path, small_settings: Settings
) -> None:
    layers([parity_dir / "cat.png"], tmp_path, with_values(small_settings, {"features.log_bin": True}))
    content = read(tmp_path)
    assert not content["features"]["log_bin"]
    for entry in content["nearest"]:
        assert all(entry[facet] == content["point"] for facet in ("token", "query", "value", "key"))


def test_of_many_some_are_shown_evenly_spread(
    tmp_path: Path,
    make_clip: ClipMaker,
    small_settings: Settings,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TSNE_POINTS", 60)
    clip = make_clip(tmp_path / "walk.mp4", frames=40)
    layers([clip], tmp_path / "out", small_settings)
    assert len(passes) == 18
    names = read(tmp_path / "out")["pictures"]
    assert names[0] == "walk 1"
    assert names[-1] == "walk 38"


def test_what_cannot_be_asked(parity_dir: Path, tmp_path: Path, small_settings: Settings) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="outside"):
        layers([parity_dir / "cat.png"], tmp_path / "a", small_settings, point=(-1, 3))
    with pytest.raises(InputError, match="broken"):
        layers([tmp_path / "broken.png"], tmp_path / "b", small_settings)
    with pytest.raises(InputError, match="broken"):
        # The point belongs to the picture that can't be read.
        layers([tmp_path / "broken.png", parity_dir / "cat.png"], tmp_path / "c", small_settings, point=(3, 3))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "tsne.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        layers([parity_dir / "cat.png"], tmp_path / "d", small_settings)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["tsne.png"]


def test_one_that_fails_leaves_the_others(parity_dir: Path, tmp_path: Path, small_settings: Settings) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    outcome = layers([tmp_path / "broken.png", parity_dir / "cat.png"], tmp_path / "out", small_settings)
    assert [failure.name for failure in outcome.failures] == ["broken"]
    assert read(tmp_path / "out")["pictures"] == ["cat"]
