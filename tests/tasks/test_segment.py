import dataclasses
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from pipeline.cluster.assignment import PartAssigner, normalise
from pipeline.cluster.codebook import load_codebook, save_codebook
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.config import PRESETS, Settings, with_defaults, with_values
from pipeline.errors import CodebookError, InputError, OutputError
from pipeline.media.inputs import resolve_inputs
from pipeline.media.label_store import open_labels
from pipeline.progress import Silent
from pipeline.refine.crf import refine_labels
from pipeline.runs.record import load_record
from pipeline.stages.engine import open_engine
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]


def labels_of(directory: Path) -> np.ndarray:
    return np.stack([labels for _, _, labels in open_labels(directory / "labels.zarr").frames()])


def times_of(clip: Path) -> list[int]:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        return [round(frame.pts * base * 1000) for frame in container.decode(stream)]


def decoded(clip: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in resolve_inputs([str(clip)], fps=25)[0].frames()]


def test_a_clip_end_to_end(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> None:
    pts = [0, 40, 90, 150, 160, 300, 340, 380]
    clip = make_clip(tmp_path / "in" / "walk.mp4", pts=pts)
    result = segment([clip], tmp_path / "out", small_settings)
    result.raise_failures()
    (finished,) = result.finished
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clusters.jpg",
        "codebook.safetensors",
        "walk",
    ]
    assert sorted(path.name for path in finished.directory.iterdir()) == [
        "labels.zarr",
        "measures.npz",
        "overlay.mp4",
        "run.json",
    ]
    assert times_of(finished.directory / "overlay.mp4") == pts
    labels = labels_of(finished.directory)
    assert labels.shape == (8, 48, 64)
    assert labels.max() <= 3
    assert len(np.unique(labels)) > 1
    record = load_record(finished.directory)
    assert record == finished.record
    assert record.source.frames == 8
    assert record.model.fingerprint == load_codebook(result.codebook).origin.fingerprint
    assert [stage.name for stage in record.stages] == [
        "decode", "resize", "describe", "assign", "crf", "labels", "overlay", "steadiness",
    ]  # fmt: skip
    assert record.steadiness.flicker is not None
    assert 0 <= record.steadiness.flicker <= 1
    assert str(finished.directory) in result.summary()


def whole_clip(pictures: list[np.ndarray], settings: Settings) -> np.ndarray:
    """Plain twin: the paper's method step by step on all frames at once."""
    engine = open_engine(settings, Silent())
    extractor, cluster, rule = engine.extractor, engine.settings.cluster, engine.settings.saliency
    images = [extractor.preprocess(picture) for picture in pictures]
    grids = [normalise(extractor.extract([image]).descriptors[0]).numpy() for image in images]
    flat = [grid.reshape(-1, grid.shape[-1]) for grid in grids]
    saliency = [extractor.saliency_half([picture])[0].numpy().ravel() for picture in pictures]
    every = cluster.sample_interval
    sample = np.concatenate([each[::every] for each in flat])
    previous = np.inf
    for k in range(1, cluster.max_clusters + 1):
        centroids = fit_kmeans(sample, k, engine.settings.run.seed, cluster)
        distances = [((each[:, None] - centroids[None]) ** 2).sum(2) for each in flat]
        objective = np.concatenate(distances).min(1).mean()
        if k > 1 and objective > cluster.elbow * previous:
            break
        previous = objective
    labels = [each.argmin(1) for each in distances]
    votes = np.zeros(len(centroids))
    for each, values in zip(labels, saliency, strict=True):
        for cluster_id in np.unique(each):
            votes[cluster_id] += values[each == cluster_id].mean() > rule.threshold
    salient = votes >= np.ceil(len(flat) * rule.votes)
    if not salient.any():
        all_labels, all_values = np.concatenate(labels), np.concatenate(saliency)
        means = [all_values[all_labels == c].mean() if (all_labels == c).any() else -1 for c in range(len(centroids))]
        salient = np.arange(len(centroids)) == int(np.argmax(means))
    foreground = [each[salient[mine]] for each, mine in zip(flat, labels, strict=True)]
    parts = fit_kmeans(np.concatenate([each[::every] for each in foreground]), cluster.parts, 0, cluster)
    nearest = ((np.concatenate(foreground)[:, None] - parts[None]) ** 2).sum(2).argmin(1)
    parts = parts[np.argsort(-np.bincount(nearest, minlength=len(parts)), kind="stable")]
    assigner = PartAssigner(torch.from_numpy(parts), torch.from_numpy(centroids[~salient]))
    energies = [assigner.energies(torch.from_numpy(grid)).numpy() for grid in grids]
    maps = [refine_labels(each, image, settings.crf) for each, image in zip(energies, images, strict=True)]
    return np.stack(maps)


def test_two_passes_equal_the_method_on_the_whole_clip(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=10)
    (finished,) = segment([clip], tmp_path / "out", small_settings).finished
    assert np.array_equal(labels_of(finished.directory), whole_clip(decoded(clip), small_settings))


def test_no_frame_is_described_twice(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, described: list[int]
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=12)
    settings = with_defaults(small_settings, {"cluster": {"frames": 5}})
    segment([clip], tmp_path / "out", settings).raise_failures()
    assert sum(described) == 12


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize(("batch", "depth"), [(1, 1), (3, 1), (5, 4)])
def test_labels_do_not_depend_on_batch_or_queues(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, batch: int, depth: int, preset: str | None
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=7 if preset is None else 19)
    settings = with_values(with_defaults(small_settings, {"cluster": {"frames": 4}}), {"preset": preset})
    (reference,) = segment([clip], tmp_path / "reference", settings).finished
    other = with_defaults(settings, {"run": {"batch": batch, "queue_depth": depth}})
    (found,) = segment([clip], tmp_path / "found", other).finished
    assert np.array_equal(labels_of(reference.directory), labels_of(found.directory))


def test_frames_painted_in_parallel_keep_their_order(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=9)
    one = segment([clip], tmp_path / "one", small_settings).finished[0].directory
    monkeypatch.setattr("pipeline.runs.sinks.painters", lambda device: 3)
    three = segment([clip], tmp_path / "three", small_settings).finished[0].directory
    assert (one / "overlay.mp4").read_bytes() == (three / "overlay.mp4").read_bytes()


def test_a_codebook_keeps_ids_and_colours_on_later_videos(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "a.mp4")
    first = segment([clip], tmp_path / "one", small_settings)
    again = segment([clip], tmp_path / "two", small_settings, codebook=first.codebook)
    assert np.array_equal(labels_of(first.finished[0].directory), labels_of(again.finished[0].directory))
    assert again.finished[0].record.part_colors == first.finished[0].record.part_colors
    assert again.finished[0].record.fit_seconds is None
    assert again.codebook.read_bytes() == first.codebook.read_bytes()


def test_a_codebook_of_other_settings_is_refused(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, tiny_model: Path
) -> None:
    clip = make_clip(tmp_path / "a.mp4")
    codebook = segment([clip], tmp_path / "one", small_settings).codebook
    other = Settings.model_validate({"model": str(tiny_model), "features": {"stride": 4}})
    with pytest.raises(CodebookError, match=r"stride 8 \(now 4\)"):
        segment([clip], tmp_path / "two", other, codebook=codebook)
    # Settings that aren't given come from the codebook.
    segment([clip], tmp_path / "two", Settings(model=str(tiny_model)), codebook=codebook).raise_failures()


def test_several_inputs_share_parts_and_one_that_fails_takes_none_down(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    good = [make_clip(tmp_path / f"{name}.mp4", frames=4) for name in "ab"]
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video at all")
    result = segment([good[0], bad, good[1]], tmp_path / "out", small_settings)
    assert [each.name for each in result.finished] == ["a", "b"]
    assert [each.name for each in result.failures] == ["bad"]
    with pytest.raises(InputError, match=r"bad.*2 other inputs are finished"):
        result.raise_failures()
    first, second = (labels_of(each.directory) for each in result.finished)
    assert np.array_equal(first, second)


def test_results_that_exist_are_not_touched(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=4)
    out = tmp_path / "out"
    segment([clip], out, small_settings)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="exists; give another --output"):
        segment([clip], out, small_settings)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    segment([clip], out, small_settings, overwrite=True).raise_failures()


def test_a_broken_picture_in_the_middle_leaves_no_half_result(tmp_path: Path, small_settings: Settings) -> None:
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / f"{number}.jpg")
    content = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(content[: len(content) // 2])
    settings = with_defaults(small_settings, {"cluster": {"frames": 1}})
    result = segment([folder], tmp_path / "out", settings)
    with pytest.raises(InputError, match=r"3\.jpg"):
        result.raise_failures()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clusters.jpg", "codebook.safetensors"]


def test_a_directory_of_frames_and_its_painted_frames(tmp_path: Path, small_settings: Settings) -> None:
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in (2, 10, 1):
        picture = np.full((48, 64, 3), number * 20, np.uint8)
        picture[10:30, 20:40] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(folder / f"frame{number}.png")
    settings = with_defaults(small_settings, {"input": {"fps": 10.0}})
    (finished,) = segment([folder], tmp_path / "out", settings, save_frames=True).finished
    assert times_of(finished.directory / "overlay.mp4") == [0, 100, 200]
    assert sorted(path.name for path in (finished.directory / "frames").iterdir()) == [
        "frame1.png", "frame10.png", "frame2.png",
    ]  # fmt: skip


def test_a_span_and_a_step_pick_frames(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=12)
    settings = with_defaults(small_settings, {"input": {"every": 2, "start": 0.08, "end": 0.4}})
    (finished,) = segment([clip], tmp_path / "out", settings).finished
    # Labels keep the source's times; the clip starts at the source's start.
    store = open_labels(finished.directory / "labels.zarr")
    assert [pts * store.time_base * 1000 for pts in store.pts] == [80, 160, 240, 320]
    assert times_of(finished.directory / "overlay.mp4") == [0, 80, 160, 240]


def test_a_part_that_appears_in_no_frame_is_a_warning(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=6)
    (first,) = segment([clip], tmp_path / "out", small_settings).finished
    assert not any("appears" in warning for warning in first.record.warnings)
    found = load_codebook(tmp_path / "out" / "codebook.safetensors")
    # Opposite to every descriptor of the foreground, so that no place is nearest to it.
    far = -found.part_centroids.mean(0, keepdims=True)
    parts = np.concatenate([found.part_centroids, far]).astype(np.float32)
    colors = np.concatenate([found.part_colors, found.part_colors[:1]])
    save_codebook(dataclasses.replace(found, part_centroids=parts, part_colors=colors), tmp_path / "more.safetensors")
    (second,) = segment([clip], tmp_path / "more", small_settings, codebook=tmp_path / "more.safetensors").finished
    assert f"part {len(parts)} appears in no frame" in second.record.warnings
