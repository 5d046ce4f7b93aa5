import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, load_settings, with_defaults
from pipeline.errors import InputError, OutputError
from pipeline.media.clip_reader import frame_times
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.label_store import LabelWriter, open_labels
from pipeline.runs.integrity import tree_sha256
from pipeline.runs.record import load_record
from pipeline.tasks.segment import segment
from pipeline.tasks.verify import verify

ClipMaker = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_clip: ClipMaker, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    values = {"features.load_size": 48, "features.stride": 8, "cluster.parts": 3, "cluster.sample_interval": 3}
    settings = load_settings(overrides={"model": str(tiny_model), "saliency.threshold": 0.35, **values})
    clip = make_clip(folder / "walk.mp4", frames=18)
    return segment([clip], folder / "out", settings).finished[0].directory


@pytest.fixture
def result(tmp_path: Path, finished: Path) -> Path:
    """A finished result to corrupt."""
    return Path(shutil.copytree(finished, tmp_path / "walk"))


def flip(file: Path, where: float) -> None:
    content = bytearray(file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    file.write_bytes(content)


def cut(file: Path, bytes_off: int) -> None:
    file.write_bytes(file.read_bytes()[:-bytes_off])


def edit_record(result: Path, **changes: Any) -> None:
    record = json.loads((result / "run.json").read_text())
    for dotted, value in changes.items():
        *parents, key = dotted.split("__")
        target = record
        for parent in parents:
            target = target[parent]
        target[key] = value
    (result / "run.json").write_text(json.dumps(record))


def accept_files(result: Path) -> None:
    """Update the checksums to the current files."""
    edit_record(result, files={name: tree_sha256(result / name) for name in ("overlay.mp4", "labels.zarr")})


def test_a_finished_result_is_whole(result: Path) -> None:
    assert verify(result).frames == 18
    assert set(load_record(result).files) == {"overlay.mp4", "labels.zarr"}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("overlay.mp4", lambda file: flip(file, 0.5)),
        ("overlay.mp4", lambda file: cut(file, 100)),
        ("overlay.mp4", Path.unlink),
        ("labels.zarr/c/0/0/0", lambda file: flip(file, 0.7)),
        ("labels.zarr/c/1/0/0", lambda file: cut(file, 1)),
        ("labels.zarr/c/1/0/0", Path.unlink),
        ("labels.zarr/zarr.json", lambda file: flip(file, 0.3)),
        ("labels.zarr", lambda folder: (folder / "more").write_text("")),
        ("labels.zarr", lambda folder: (folder / "link").symlink_to("/dev/zero")),
        ("run.json", lambda file: cut(file, 10)),
        ("run.json", Path.unlink),
    ],
)
def test_any_damage_is_found(result: Path, file: str, damage: Callable[[Path], object]) -> None:
    damage(result / file)
    with pytest.raises(InputError, match=file.split("/", maxsplit=1)[0]) as found:
        verify(result)
    assert "\n" not in str(found.value)


def copy_without(result: Path, frame: int, shift: int = 0) -> None:
    """Rewrite the clip without a frame, or with a frame at another time."""
    store = open_labels(result / "labels.zarr")
    from pipeline.media.inputs import resolve_inputs

    (source,) = resolve_inputs([str(result / "overlay.mp4")], 25)
    pictures = [each.rgb for each in source.frames()]
    info = source.probe()
    with ClipWriter(result / "again.mp4", info.size_hw, info) as clip:
        for index, pts in enumerate(store.pts):
            moment = Fraction(pts) * store.time_base / info.time_base
            if index != frame or shift:
                clip.write(int(moment) + (shift if index == frame else 0), pictures[index])
    (result / "again.mp4").replace(result / "overlay.mp4")


def test_a_clip_that_lacks_a_frame_is_found_where_its_checksum_is_right(result: Path) -> None:
    copy_without(result, 17)
    accept_files(result)
    with pytest.raises(InputError, match=r"not complete: 'overlay.mp4' has 17 frames, its labels have 18"):
        verify(result)


def test_a_clip_that_lacks_a_frame_in_the_middle_is_found(result: Path) -> None:
    copy_without(result, 7)
    accept_files(result)
    with pytest.raises(InputError, match=r"frame 7 of 'overlay.mp4' is at 0.320000 s, not 0.280000 s"):
        verify(result)


def test_a_frame_at_another_time_is_found(result: Path) -> None:
    copy_without(result, 7, shift=20)
    accept_files(result)
    with pytest.raises(InputError, match="frame 7"):
        verify(result)


def test_labels_that_lack_frames_are_found_where_their_checksum_is_right(result: Path) -> None:
    store = open_labels(result / "labels.zarr")
    labels = [each for _, _, each in store.frames()]
    with LabelWriter(result / "less.zarr", store.size_hw, store.source_size_hw, store.time_base, store.parts) as writer:
        for pts, each in zip(store.pts[:-1], labels, strict=False):
            writer.write(pts, each)
    shutil.rmtree(result / "labels.zarr")
    (result / "less.zarr").rename(result / "labels.zarr")
    copy_without(result, 99)
    accept_files(result)
    with pytest.raises(InputError, match=r"labels have 17 frames, run.json says 18"):
        verify(result)


@pytest.mark.parametrize("lost", [0, 5, 17])
def test_a_run_that_loses_a_frame_is_not_called_done(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    real = ClipWriter.write
    seen: list[int] = []

    def forgetful(self: ClipWriter, pts: int, rgb: np.ndarray) -> None:
        seen.append(pts)
        if len(seen) != lost + 1:
            real(self, pts, rgb)

    clip = make_clip(tmp_path / "walk.mp4", frames=18)
    monkeypatch.setattr(ClipWriter, "write", forgetful)
    broken = segment([clip], tmp_path / "out", small_settings)
    with pytest.raises(OutputError, match="is not complete"):
        broken.raise_failures()
    assert not (tmp_path / "out" / "walk").exists()
    monkeypatch.undo()
    (finished,) = segment([clip], tmp_path / "out", small_settings, resume=True).finished
    assert verify(finished.directory).frames == 18


@pytest.mark.parametrize(
    "chosen",
    [{"every": 2}, {"start": 0.1, "end": 0.5}, {"start": 0.1, "end": 0.5, "every": 3}],
)
def test_a_span_and_a_step_are_whole_too(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, chosen: dict[str, Any]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=18, pts=[7 + 33 * number + number % 3 for number in range(18)])
    settings = with_defaults(small_settings, {"input": chosen})
    (finished,) = segment([clip], tmp_path / "out", settings).finished
    assert verify(finished.directory).frames == finished.record.source.frames > 2


def test_painted_frames_belong_to_a_result(tmp_path: Path, small_settings: Settings) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((48, 64, 3), 60 * number, np.uint8)).save(folder / f"{number}.png")
    (finished,) = segment([folder], tmp_path / "out", small_settings, save_frames=True).finished
    assert verify(finished.directory).frames == 3
    (finished.directory / "frames" / "1.png").unlink()
    with pytest.raises(InputError, match=r"frames' is damaged"):
        verify(finished.directory)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", {"../../etc/passwd": "0" * 64}),
        ("files", {"overlay.mp4": "short"}),
        ("source__time_base", "1/0"),
        ("source__time_base", f"1/{10**18}"),
        ("source__path", ""),
        ("source__frames", -1),
        ("part_colors", [[300, 0, 0]]),
        ("part_colors", [[0, 0, 0]] * 256),
        ("settings", {"input": {"every": 0}}),
        ("more", 1),
    ],
)
def test_a_strangers_record_is_refused(result: Path, field: str, value: Any) -> None:
    edit_record(result, **{field: value})
    with pytest.raises(InputError, match=r"run.json' can't be read"):
        load_record(result)


def test_a_record_of_a_gigabyte_is_refused_unread(result: Path) -> None:
    with (result / "run.json").open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="MiB"):
        load_record(result)


def test_times_of_a_clip(result: Path) -> None:
    assert list(frame_times(result / "overlay.mp4")) == [Fraction(number, 25) for number in range(18)]
