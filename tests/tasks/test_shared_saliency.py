"""Saliency that the frames of a fit share: it is in the codebook, and a frame needs none of its own to be labelled."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster.codebook import load_codebook, save_codebook
from pipeline.config import Settings, with_values
from pipeline.errors import CodebookError
from pipeline.features.extractor import Extractor
from pipeline.media.label_store import open_labels
from pipeline.stages import motion_window
from pipeline.tasks.fit import fit
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]

SIZES = {"one": (48, 64), "two": (64, 48)}


@pytest.fixture
def shared(small_settings: Settings) -> Settings:
    """Few frames to fit, so that most are only labelled."""
    values = {"saliency.shared": True, "saliency.places": 1.0, "saliency.source": "both", "cluster.frames": 3}
    return with_values(small_settings, {**values, "saliency.half_size": False, "saliency.threshold": 0.2})


def labels_of(result: Path) -> np.ndarray:
    return np.stack([labels for _, _, labels in open_labels(result / "labels.zarr").frames()])


def test_only_the_frames_of_the_fit_are_asked_for_saliency_and_motion(
    tmp_path: Path, make_clip: ClipMaker, shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    attended, moved = [], []
    extract, motion = Extractor.extract, motion_window.motion_saliency

    def counted(self: Extractor, images: list[object], *, saliency: bool = False) -> object:
        attended.append(len(images) if saliency else 0)
        return extract(self, images, saliency=saliency)

    def watched(*arguments: object) -> object:
        moved.append(1)
        return motion(*arguments)

    monkeypatch.setattr(Extractor, "extract", counted)
    monkeypatch.setattr(motion_window, "motion_saliency", watched)
    clip = make_clip(tmp_path / "walk.mp4", frames=12)
    segment([clip], tmp_path / "out", shared).raise_failures()
    assert (sum(attended), sum(moved)) == (3, 3)
    segment([clip], tmp_path / "own", with_values(shared, {"saliency.shared": False})).raise_failures()
    assert sum(attended) > 3 + 12 - 1
    assert sum(moved) > 3 + 12 - 1


@pytest.mark.parametrize("values", [{"run.batch": 1}, {"run.batch": 5}, {"keyframes.interval": 2}])
def test_its_codebook_labels_a_clip_as_its_fit_did(
    tmp_path: Path, make_clip: ClipMaker, shared: Settings, values: dict[str, object]
) -> None:
    settings = with_values(shared, values)
    clip = make_clip(tmp_path / "walk.mp4", frames=12)
    segment([clip], tmp_path / "out", settings).raise_failures()
    segment([clip], tmp_path / "again", settings, codebook=tmp_path / "out" / "codebook.safetensors").raise_failures()
    found = labels_of(tmp_path / "out" / "walk")
    assert found.any()
    assert np.array_equal(found, labels_of(tmp_path / "again" / "walk"))


def test_what_is_shared_counts_in_labels(tmp_path: Path, make_clip: ClipMaker, shared: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=6)
    segment([clip], tmp_path / "out", shared).raise_failures()
    book = tmp_path / "out" / "codebook.safetensors"
    codebook = load_codebook(book)
    assert codebook.shared is not None
    tables, share = np.zeros_like(codebook.shared), {}
    for name, everywhere in (("nothing", 0.0), ("everything", 1.0)):
        tables[:, -1] = everywhere
        save_codebook(replace(codebook, shared=tables), tmp_path / f"{name}.safetensors")
        segment([clip], tmp_path / name, shared, codebook=tmp_path / f"{name}.safetensors").raise_failures()
        share[name] = float((labels_of(tmp_path / name / "walk") > 0).mean())
    found = float((labels_of(tmp_path / "out" / "walk") > 0).mean())
    assert share["nothing"] < found < share["everything"]


def test_several_inputs_share_nothing_with_each_other(tmp_path: Path, make_clip: ClipMaker, shared: Settings) -> None:
    clips = [make_clip(tmp_path / f"{name}.mp4", frames=6, size_hw=size) for name, size in SIZES.items()]
    segment(clips, tmp_path / "out", shared).raise_failures()
    codebook = load_codebook(tmp_path / "out" / "codebook.safetensors")
    assert codebook.shared is not None
    assert codebook.shared.shape[0] == 3
    # Its rows are of these inputs: for others, and for these as others, it is that of all.
    book = fit(clips, tmp_path / "book.safetensors", shared)
    assert book.shared is not None
    assert np.array_equal(book.shared, codebook.shared[:1])
    for given in ("book.safetensors", "out/codebook.safetensors"):
        segment(clips, tmp_path / given[:3], shared, codebook=tmp_path / given, overwrite=True).raise_failures()
    for name in SIZES:
        assert np.array_equal(labels_of(tmp_path / "boo" / name), labels_of(tmp_path / "out" / name))


def test_a_codebook_without_it_is_refused_where_it_is_asked_for(
    tmp_path: Path, make_clip: ClipMaker, shared: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=4)
    segment([clip], tmp_path / "out", with_values(shared, {"saliency.shared": False})).raise_failures()
    with pytest.raises(CodebookError, match=r"without shared saliency.*set it to false"):
        segment([clip], tmp_path / "again", shared, codebook=tmp_path / "out" / "codebook.safetensors")
