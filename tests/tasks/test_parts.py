import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cluster.codebook import load_codebook, save_codebook
from pipeline.config import Settings, with_values
from pipeline.errors import CodebookError, InputError, OutputError, UsageError
from pipeline.media.label_store import open_labels
from pipeline.tasks.parts import codebook_around, parts
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]
NAMES = ("cat", "cup")


def scenes(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    """Pictures of a disc of two colours on a dark background."""
    rng = np.random.default_rng(0)
    files = []
    for number, (height, width) in enumerate(sizes):
        y, x = np.mgrid[:height, :width]
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(height, width) * 0.35) ** 2
        picture = np.where(disc[..., None], (220, 120, 60), (40, 60, 70))
        picture = np.where((disc & (y < height / 2))[..., None], (60, 80, 220), picture)
        noisy = picture + rng.normal(size=(height, width, 3)) * 8
        files.append(folder / f"scene{number}.png")
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(files[-1])
    return files


@pytest.fixture
def golden_settings(tiny_model: Path) -> Settings:
    """Settings of the goldens."""
    values = {"model": str(tiny_model), "features": {"load_size": 96}, "saliency": {"threshold": 0.35, "votes": 0.5}}
    return Settings.model_validate({**values, "cluster": {"sample_interval": 10}, "run": {"device": "cpu"}})


def test_given_the_goldens_clusters_the_parts_are_theirs(
    tmp_path: Path, parity_dir: Path, golden_settings: Settings, tiny_model: Path
) -> None:
    goldens = np.load(parity_dir / "expected.npz")
    files = [parity_dir / f"{name}.png" for name in NAMES]
    tables = goldens["parts/centroids"], goldens["parts/part_centroids"]
    file = tmp_path / "goldens.safetensors"
    save_codebook(codebook_around(files, *tables, golden_settings), file)
    # Layer, stride and load size come from the codebook.
    settings = Settings.model_validate({"model": str(tiny_model), "run": {"device": "cpu"}})
    result = parts(files, tmp_path / "out", settings, codebook=file)
    for name in NAMES:
        found = result.labels(name).astype(np.int64) - 1
        assert (found == goldens[f"{name}/parts/labels"]).mean() > 0.999


def test_a_set_of_different_sizes(tmp_path: Path, small_settings: Settings) -> None:
    sizes = [(60, 80), (90, 64), (50, 50)]
    result = parts(scenes(tmp_path, sizes), tmp_path / "out", small_settings)
    names = [f"scene{number}" for number in range(3)]
    ends = ("_labels.png", "_labels_processed.png", "_parts.png")
    common = {"overview.png", "run.json", "labels.npz", "codebook.safetensors"}
    assert {path.name for path in result.directory.iterdir()} == {
        f"{name}{end}" for name in names for end in ends
    } | common
    for name, size in zip(names, sizes, strict=True):
        labels = result.labels(name)
        assert labels.dtype == np.uint8
        assert min(labels.shape) == 48
        assert labels.max() <= 3
        with Image.open(result.directory / f"{name}_labels_processed.png") as image:
            assert np.array_equal(np.asarray(image), labels)
        with Image.open(result.directory / f"{name}_labels.png") as image:
            assert image.mode == "P"
            assert image.size == size[::-1]
            full = np.asarray(image)
            colored = np.asarray(image.convert("RGB"))
        assert np.array_equal(colored[full > 0], result.codebook.part_colors[full[full > 0] - 1])
        with Image.open(result.directory / f"{name}_parts.png") as image:
            assert image.size == size[::-1]
    assert len(np.unique(np.concatenate([result.labels(name).ravel() for name in names]))) > 1
    record = json.loads((result.directory / "run.json").read_text())
    assert [row["name"] for row in record["pictures"]] == names
    assert len(record["parts"]["part_colors"]) == 3
    assert "3 parts of 3 pictures" in result.summary()


def test_parts_of_pictures_colour_a_video_and_the_other_way_round(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=4)
    found = parts(scenes(tmp_path, [(48, 64), (64, 48)]), tmp_path / "pictures", small_settings)
    video = segment([clip], tmp_path / "video", small_settings, codebook=found.codebook_file)
    video.raise_failures()
    expected = tuple(tuple(color) for color in found.codebook.part_colors.tolist())
    assert video.finished[0].record.part_colors == expected
    own = segment([clip], tmp_path / "own", small_settings)
    # Frames of a directory as single pictures get the same labels as the video.
    frames = segment([clip], tmp_path / "frames", small_settings, codebook=own.codebook, save_frames=True)
    folder = tmp_path / "stills"
    folder.mkdir()
    from pipeline.media.inputs import resolve_inputs

    for frame in resolve_inputs([str(clip)], fps=25)[0].frames():
        Image.fromarray(frame.rgb).save(folder / f"still{frame.index}.png")
    still = parts([folder], tmp_path / "still", small_settings, codebook=own.codebook)
    for index, _, labels in open_labels(frames.finished[0].directory / "labels.zarr").frames():
        assert np.array_equal(still.labels(f"still{index}"), labels)
    assert still.codebook_file.read_bytes() == own.codebook.read_bytes()
    assert still.record.clusters.fit_seconds is None


def test_pictures_alone_have_the_parts_of_their_video(tmp_path: Path, small_settings: Settings) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    scenes(folder, [(48, 64)] * 3)
    video = segment([folder], tmp_path / "video", small_settings)
    pictures = parts([folder], tmp_path / "pictures", small_settings)
    codebooks = load_codebook(video.codebook), pictures.codebook
    assert np.array_equal(codebooks[0].part_centroids, codebooks[1].part_centroids)
    for index, _, labels in open_labels(video.finished[0].directory / "labels.zarr").frames():
        assert np.array_equal(pictures.labels(f"scene{index}"), labels)


def test_crops_change_the_clusters_and_not_who_votes(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 64), (64, 48)])
    plain = parts(files, tmp_path / "plain", small_settings)
    settings = with_values(small_settings, {"pictures.crop_augmentations": 3})
    crops = [parts(files, tmp_path / name, settings) for name in ("a", "b")]
    assert not np.array_equal(plain.codebook.centroids, crops[0].codebook.centroids)
    assert crops[0].codebook.votes.max() <= 2
    assert crops[0].codebook.origin.frames == 2
    assert np.array_equal(crops[0].codebook.part_centroids, crops[1].codebook.part_centroids)


@pytest.fixture
def gentle(small_settings: Settings) -> Settings:
    """A CRF that doesn't smooth away the few cells of tiny pictures."""
    return with_values(small_settings, {"crf.gaussian_weight": 1.0, "crf.bilateral_weight": 1.0, "cluster.parts": 2})


@pytest.mark.parametrize(("crops", "unary_px"), [(0, None), (1, None), (0, 2)])
def test_three_stages_drop_what_not_every_picture_has(
    tmp_path: Path, gentle: Settings, crops: int, unary_px: int | None
) -> None:
    files = scenes(tmp_path, [(48, 64), (64, 48), (48, 48)])
    values = {"pictures.crop_augmentations": crops, "features.stride": 4, "crf.unary_px": unary_px}
    plain = with_values(gentle, values)
    one = parts(files, tmp_path / "one", plain).codebook
    result = parts(files, tmp_path / "three", with_values(plain, {"pictures.three_stages": True}))
    three, k = result.codebook, len(one.centroids)
    assert three.parts == 2
    assert not any("one stage" in warning for warning in result.record.warnings)
    # Dropped parts become background clusters, appended to those of the votes.
    assert len(three.centroids) > k
    assert np.array_equal(three.centroids[:k], one.centroids)
    assert np.array_equal(three.salient[:k], one.salient)
    assert not three.salient[k:].any()
    assert not three.votes[k:].any()
    assert not np.array_equal(three.part_centroids, one.part_centroids)


def test_where_three_stages_leave_nothing_there_is_one(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 64), (64, 48), (48, 48)])
    values = {"pictures.three_stages": True, "crf.gaussian_weight": 1000.0}
    found = parts(files, tmp_path / "three", with_values(small_settings, values))
    assert any("going on with one stage" in warning for warning in found.record.warnings)
    one = parts(files, tmp_path / "one", small_settings)
    assert np.array_equal(found.codebook.part_centroids, one.codebook.part_centroids)


def test_the_codebook_decides_and_other_settings_are_refused(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 48)])
    first = parts(files, tmp_path / "one", small_settings)
    with pytest.raises(CodebookError, match=r"stride 8 \(now 4\)"):
        other = with_values(small_settings, {"features.stride": 4})
        parts(files, tmp_path / "two", other, codebook=first.codebook_file)
    with pytest.raises(UsageError, match="--three-stages"):
        other = with_values(small_settings, {"pictures.three_stages": True})
        parts(files, tmp_path / "two", other, codebook=first.codebook_file)
    assert not (tmp_path / "two").exists()


def test_one_picture_is_a_set(tmp_path: Path, small_settings: Settings) -> None:
    result = parts(scenes(tmp_path, [(48, 64)]), tmp_path / "out", small_settings)
    assert result.labels("scene0").shape == (48, 64)


def test_more_parts_than_there_is(tmp_path: Path, small_settings: Settings) -> None:
    with pytest.raises(UsageError, match="200 parts were asked for, but the foreground has only"):
        parts(scenes(tmp_path, [(48, 48)]), tmp_path / "out", with_values(small_settings, {"cluster.parts": 200}))
    assert not (tmp_path / "out").exists()


def test_nothing_salient_and_everything_salient(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 64), (64, 48)])
    nothing = parts(files, tmp_path / "nothing", with_values(small_settings, {"saliency.threshold": 1.0}))
    assert nothing.codebook.salient.sum() == 1
    assert "nothing is salient" in nothing.record.warnings[0]
    values = {"saliency.threshold": 0.0, "saliency.votes": 0.0}
    everything = parts(files, tmp_path / "everything", with_values(small_settings, values))
    assert everything.codebook.salient.all()
    assert everything.labels("scene0").min() > 0


def test_a_picture_that_fails_takes_none_down(tmp_path: Path, small_settings: Settings) -> None:
    good = scenes(tmp_path, [(48, 48), (50, 48)])
    bad = tmp_path / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:60])
    result = parts([good[0], bad, good[1]], tmp_path / "out", small_settings)
    assert [row.name for row in result.record.pictures] == ["scene0", "scene1"]
    with pytest.raises(InputError, match=r"bad.*2 other pictures are finished"):
        result.raise_failures()
    with pytest.raises(InputError, match="broken"):
        parts([bad], tmp_path / "none", small_settings, codebook=result.codebook_file)
    assert not (tmp_path / "none").exists()


def test_some_pictures_can_stand_for_all(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 48 + 4 * number) for number in range(6)])
    result = parts(files, tmp_path / "out", with_values(small_settings, {"pictures.fit": 3}))
    assert len(result.record.pictures) == 6
    assert result.codebook.origin.frames == 3


def test_results_that_exist_are_not_touched(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 48)])
    first = parts(files, tmp_path / "out", small_settings)
    before = first.codebook_file.stat().st_mtime_ns
    with pytest.raises(OutputError, match="--overwrite"):
        parts(files, tmp_path / "out", small_settings)
    assert first.codebook_file.stat().st_mtime_ns == before
    again = parts(files, tmp_path / "out", small_settings, codebook=first.codebook_file, overwrite=True)
    assert np.array_equal(again.codebook.centroids, first.codebook.centroids)
