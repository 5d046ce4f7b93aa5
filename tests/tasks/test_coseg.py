import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import Settings, with_values
from pipeline.errors import InputError, OutputError
from pipeline.features.extractor import Extractor
from pipeline.geometry import resize_labels
from pipeline.media.inputs import resolve_pictures
from pipeline.progress import Silent
from pipeline.records import DescribedBatch, Prepared
from pipeline.stages import picture_set
from pipeline.stages.engine import open_engine
from pipeline.stages.picture_set import open_album
from pipeline.tasks.coseg import ERASED, coseg, cosegment, find_common, mask_refinement

NAMES = ("cat", "cup")


@pytest.fixture
def golden_settings(tiny_model: Path) -> Settings:
    """Settings of the goldens."""
    values = {"model": str(tiny_model), "features": {"load_size": 96}, "saliency": {"threshold": 0.35, "votes": 0.5}}
    return Settings.model_validate({**values, "cluster": {"sample_interval": 10}, "run": {"device": "cpu"}})


def scenes(folder: Path, sizes: Sequence[tuple[int, int]], seed: int = 0) -> list[Path]:
    """Pictures of a bright disc on a dark background."""
    rng = np.random.default_rng(seed)
    files = []
    for number, (height, width) in enumerate(sizes):
        y, x = np.mgrid[:height, :width]
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(height, width) * 0.3) ** 2
        picture = np.where(disc[..., None], (220, 120, 60), (40, 60, 70)) + rng.normal(size=(height, width, 3)) * 8
        files.append(folder / f"scene{number}.png")
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(files[-1])
    return files


def mask_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_given_the_goldens_clusters_the_masks_are_theirs(
    tmp_path: Path, parity_dir: Path, golden_settings: Settings
) -> None:
    goldens = np.load(parity_dir / "expected.npz")
    files = [parity_dir / f"{name}.png" for name in NAMES]
    result = coseg(files, tmp_path / "out", golden_settings, centroids=goldens["coseg/centroids"])
    for name in NAMES:
        expected = goldens[f"{name}/coseg/mask"]
        assert (result.mask(name) == expected).mean() > 0.98
        # Masks have the size of the picture.
        written = mask_of(result.mask_file(name))
        with Image.open(parity_dir / f"{name}.png") as picture:
            assert written.shape == picture.size[::-1]
        assert set(np.unique(written)) == {0, 255}
        assert (resize_labels(written // 255, expected.shape) == expected).mean() > 0.98


@pytest.mark.parametrize("refine", ["grabcut", "crf", "none"])
def test_a_set_of_different_sizes(tmp_path: Path, small_settings: Settings, refine: str) -> None:
    sizes = [(60, 80), (90, 64), (50, 50)]
    settings = with_values(small_settings, {"pictures.refine": refine})
    result = coseg(scenes(tmp_path, sizes), tmp_path / "out", settings)
    names = [f"scene{number}" for number in range(3)]
    expected = {f"{name}{end}" for name in names for end in ("_mask.png", "_cutout.png")}
    assert {path.name for path in result.directory.iterdir()} == expected | {"overview.png", "run.json", "masks.npz"}
    for name, size in zip(names, sizes, strict=True):
        mask = mask_of(result.mask_file(name))
        assert mask.shape == size
        assert set(np.unique(mask)) <= {0, 255}
        with Image.open(result.directory / f"{name}_cutout.png") as cutout, Image.open(tmp_path / f"{name}.png") as own:
            assert np.array_equal(np.asarray(cutout)[mask > 0], np.asarray(own)[mask > 0])
    record = json.loads((result.directory / "run.json").read_text())
    assert record["task"] == "coseg"
    assert [row["name"] for row in record["pictures"]] == names
    assert record["pictures"][1]["width"] == 64
    assert sum(record["pictures"][0]["shares"]) == pytest.approx(1, abs=1e-5)
    result.raise_failures()
    assert "3 pictures" in result.summary()


def test_the_plain_mask_is_the_nearest_clusters(tmp_path: Path, small_settings: Settings) -> None:
    settings = with_values(small_settings, {"pictures.refine": "none", "features.stride": 4})
    pictures = resolve_pictures([str(path) for path in scenes(tmp_path, [(48, 64), (48, 48)])])
    engine = open_engine(settings, Silent())
    with open_album(pictures, engine, Silent()) as album:
        common = find_common(album)
        for picture, mask in zip(pictures, cosegment(pictures, engine), strict=True):
            grid = engine.extractor.extract([picture.read()]).descriptors[0].numpy()
            grid /= np.linalg.norm(grid, axis=2, keepdims=True)
            nearest = ((grid[:, :, None] - common.foreground.clustering.centroids) ** 2).sum(3).argmin(2)
            centres = [
                np.floor((np.arange(side) + 0.5) * cells / side).astype(int)
                for side, cells in zip(mask.shape, nearest.shape, strict=True)
            ]
            assert (common.salient[nearest][np.ix_(*centres)] == mask).mean() > 0.99


def odd_one_out(folder: Path) -> list[Path]:
    files = scenes(folder, [(48, 48)] * 4)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)).save(files[1])
    return files


def outlier_settings(files: list[Path], settings: Settings) -> Settings:
    """Settings with which only the least similar picture is an outlier."""
    from pipeline.cluster.outliers import similarity_to_mean

    with open_album(
        resolve_pictures([str(file) for file in files]), open_engine(settings, Silent()), Silent()
    ) as album:
        similarity = similarity_to_mean(np.stack([album.token(index) for index in album.fill()]))
    assert int(similarity.argmin()) == 1
    limit = float(np.sort(similarity)[:2].mean())
    return with_values(settings, {"pictures.remove_outliers": True, "pictures.outlier_similarity": limit})


def test_an_outlier_has_an_empty_mask_and_no_say(tmp_path: Path, small_settings: Settings) -> None:
    files = odd_one_out(tmp_path)
    settings = outlier_settings(files, small_settings)
    result = coseg(files, tmp_path / "out", settings)
    assert [row.name for row in result.record.pictures if row.outlier] == ["scene1"]
    assert "left out as unlike the others: scene1" in result.summary()
    assert mask_of(result.mask_file("scene1")).max() == 0
    alone = coseg([file for file in files if file.stem != "scene1"], tmp_path / "alone", small_settings)
    for name in ("scene0", "scene2", "scene3"):
        assert np.array_equal(mask_of(result.mask_file(name)), mask_of(alone.mask_file(name)))


def test_all_outliers_is_one_clear_line(tmp_path: Path, small_settings: Settings) -> None:
    values = {"pictures.remove_outliers": True, "pictures.outlier_similarity": 1.0}
    with pytest.raises(InputError, match=r"all 4 pictures are outliers.*--remove-outliers"):
        coseg(odd_one_out(tmp_path), tmp_path / "out", with_values(small_settings, values))
    assert not (tmp_path / "out").exists()


def test_nothing_salient_and_everything_salient(
    tmp_path: Path, small_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    files = scenes(tmp_path, [(48, 64), (64, 48)])
    nothing = coseg(files, tmp_path / "nothing", with_values(small_settings, {"saliency.threshold": 1.0}))
    assert len(nothing.record.clusters.salient) == 1
    assert "nothing is salient" in nothing.record.warnings[0]
    assert "warning: nothing is salient" in capsys.readouterr().err
    values = {"saliency.threshold": 0.0, "saliency.votes": 0.0}
    everything = coseg(files, tmp_path / "everything", with_values(small_settings, values))
    assert len(everything.record.clusters.salient) == len(everything.record.clusters.votes)
    assert mask_of(everything.mask_file("scene0")).min() == 255


def test_a_picture_whose_attention_errs_gets_the_masks_of_the_others(
    tmp_path: Path, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = picture_set.describe_for_votes

    def attend(batch: Sequence[Prepared], extractor: Extractor) -> DescribedBatch:
        """To the disc, but in the first picture to its left edge."""
        found = real(batch, extractor)
        rows, cols = found.saliency.shape[1:]
        y, x = np.mgrid[:rows, :cols]
        disc = (x - cols / 2 + 0.5) ** 2 + (y - rows / 2 + 0.5) ** 2 < (rows * 0.3) ** 2
        maps = [x < 2 if item.frame.index == 0 else disc for item in batch]
        return replace(found, saliency=torch.from_numpy(np.stack(maps).astype(np.float32)))

    monkeypatch.setattr(picture_set, "describe_for_votes", attend)
    files, found = scenes(tmp_path, [(64, 96)] * 6), []
    for shared in (False, True):
        values = {
            "saliency.shared": shared,
            "saliency.threshold": 0.4,
            "saliency.places": 1.0,
            "pictures.refine": "none",
        }
        result = coseg(files, tmp_path / f"out{shared}", with_values(small_settings, values))
        found.append(result.mask("scene0"))
    disc = result.mask("scene1")
    edge = np.zeros_like(disc)
    edge[:, : disc.shape[1] // 8] = True
    assert found[0][edge].mean() > 0.5
    assert found[1][edge].mean() < 0.1
    assert (found[1] & disc).sum() > 0.7 * disc.sum()


def test_one_picture_only_and_no_load_size(tmp_path: Path, small_settings: Settings) -> None:
    # `load_size: null` can only be set in a config file.
    features = {**small_settings.features.model_dump(), "load_size": None}
    settings = Settings.model_validate({**small_settings.model_dump(exclude_unset=True), "features": features})
    result = coseg(scenes(tmp_path, [(40, 56)]), tmp_path / "out", settings)
    assert result.mask("scene0").shape == (40, 56)


def test_pictures_of_every_kind(tmp_path: Path, small_settings: Settings) -> None:
    (base,) = scenes(tmp_path, [(40, 60)])
    with Image.open(base) as image:
        rgb = image.convert("RGB")
        rgb.convert("L").save(tmp_path / "grey.png")
        Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257).save(tmp_path / "deep.png")
        rgb.convert("RGBA").save(tmp_path / "alpha.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        rgb.save(tmp_path / "turned.jpg", exif=exif)
    names = ("grey.png", "deep.png", "alpha.png", "turned.jpg")
    result = coseg([tmp_path / name for name in names], tmp_path / "out", small_settings)
    assert mask_of(result.mask_file("grey")).shape == (40, 60)
    assert mask_of(result.mask_file("turned")).shape == (60, 40)


def test_a_picture_that_fails_takes_none_down(tmp_path: Path, small_settings: Settings) -> None:
    good = scenes(tmp_path, [(48, 48), (50, 48)])
    bad = tmp_path / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:60])
    result = coseg([good[0], bad, good[1]], tmp_path / "out", small_settings)
    assert [row.name for row in result.record.pictures] == ["scene0", "scene1"]
    assert list(result.record.failures) == ["bad"]
    with pytest.raises(InputError, match=r"bad.*2 other pictures are finished"):
        result.raise_failures()
    with pytest.raises(InputError, match="broken"):
        coseg([bad], tmp_path / "none", small_settings)
    assert not (tmp_path / "none").exists()


def test_a_picture_smaller_than_a_patch_fails_alone(tmp_path: Path, small_settings: Settings) -> None:
    features = {**small_settings.features.model_dump(), "load_size": None}
    settings = Settings.model_validate({**small_settings.model_dump(exclude_unset=True), "features": features})
    result = coseg(scenes(tmp_path, [(48, 48), (12, 48), (48, 40)]), tmp_path / "out", settings)
    assert [failure.name for failure in result.failures] == ["scene1"]
    assert "smaller than one patch" in str(result.failures[0].error)


def test_some_pictures_can_stand_for_all(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 48 + 4 * number) for number in range(5)])
    result = coseg(files, tmp_path / "out", with_values(small_settings, {"pictures.fit": 2}))
    assert len(result.record.pictures) == 5
    assert max(result.record.clusters.votes) <= 2


def test_results_that_exist_are_not_touched(tmp_path: Path, small_settings: Settings) -> None:
    files = scenes(tmp_path, [(48, 48)])
    coseg(files, tmp_path / "out", small_settings)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(OutputError, match="--overwrite"):
        coseg(files, tmp_path / "out", small_settings)
    coseg(files, tmp_path / "out", small_settings, overwrite=True)
    after = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "run.json"}
    assert after == {path: content for path, content in before.items() if path.name != "run.json"}


def test_a_mask_that_grabcut_erases_is_kept_with_a_note() -> None:
    refine = mask_refinement(Settings())
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    for side, note in ((6, ERASED), (20, "")):
        energies = np.zeros((2, 60, 80), dtype=np.float32)
        energies[1] = 1.0
        energies[1, 20 : 20 + side, 30 : 30 + side] = -1.0
        labels, said = refine(energies, noise)
        assert said == note
        assert labels.any()
    # Nothing is erased where there was nothing.
    labels, said = refine(np.stack([np.zeros((60, 80)), np.ones((60, 80))]).astype(np.float32), noise)
    assert (labels.any(), said) == (False, "")


def test_empty_masks_and_notes_are_warnings_in_the_record(
    tmp_path: Path, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = scenes(tmp_path, [(60, 80), (64, 64), (50, 70)])
    answers = iter([("some", "the first note"), ("none", ""), ("some", "the first note")])

    def refined(energies: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, str]:
        fill, note = next(answers)
        return np.full(image.shape[:2], fill == "some", dtype=np.uint8), note

    monkeypatch.setattr("pipeline.tasks.coseg.mask_refinement", lambda _: refined)
    said: list[str] = []
    progress = Silent()
    monkeypatch.setattr(progress, "say", said.append, raising=False)
    result = coseg(files, tmp_path / "out", small_settings, progress=progress)
    expected = ["nothing was found in scene1", "the first note: scene0, scene2"]
    assert [warning for warning in result.record.warnings if "salient" not in warning] == expected
    assert [line for line in said if any(warning in line for warning in expected)] == [
        f"warning: {w}" for w in expected
    ]
