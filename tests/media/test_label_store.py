import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import InputError, OutputError
from pipeline.files import partial_path
from pipeline.media.label_layout import zstd_content_size
from pipeline.media.label_store import LabelWriter, open_labels

SIZE = (6, 9)


def maps(frames: int, parts: int = 4) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(frames)
    return [random.integers(0, parts + 1, SIZE).astype(np.uint8) for _ in range(frames)]


def writer(path: Path, **options: Any) -> LabelWriter:
    return LabelWriter(path, SIZE, (60, 91), Fraction(1001, 30000), 4, **{"chunk_frames": 4, **options})


def stored(path: Path, labels: list[NDArray[np.uint8]], names: bool = False, **options: Any) -> Path:
    with writer(path, **options) as store:
        for number, label in enumerate(labels):
            store.write(3 * number - 5, label, f"n{number}" if names else "")
    return path


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 8, 11])
def test_labels_come_back(tmp_path: Path, frames: int) -> None:
    labels = maps(frames)
    store = open_labels(stored(tmp_path / "labels.zarr", labels))
    got = list(store.frames())
    assert [(index, pts) for index, pts, _ in got] == [(number, 3 * number - 5) for number in range(frames)]
    assert all(np.array_equal(mine, theirs) for (_, _, mine), theirs in zip(got, labels, strict=True))
    assert np.array_equal(store[-1], labels[-1])
    assert len(store) == frames
    assert (store.size_hw, store.source_size_hw, store.time_base, store.parts) == (
        SIZE,
        (60, 91),
        Fraction(1001, 30000),
        4,
    )
    with pytest.raises(IndexError):
        store[frames]


def test_a_store_is_a_zarr_array_that_anyone_can_read(tmp_path: Path) -> None:
    labels = maps(10)
    array = zarr.open_array(str(stored(tmp_path / "labels.zarr", labels, names=True)), mode="r")
    assert (array.metadata.zarr_format, array.dtype, array.shape, array.chunks) == (
        3,
        np.uint8,
        (10, *SIZE),
        (4, *SIZE),
    )
    assert np.array_equal(array[:], np.stack(labels))
    assert array.attrs["pts"] == [3 * number - 5 for number in range(10)]
    assert array.attrs["time_base"] == "1001/30000"
    assert array.attrs["source_size"] == [60, 91]
    assert array.attrs["parts"] == 4
    assert array.attrs["frame_names"][9] == "n9"


def test_frames_have_names(tmp_path: Path) -> None:
    assert open_labels(stored(tmp_path / "a.zarr", maps(3), names=True)).name(2) == "n2"
    assert open_labels(stored(tmp_path / "b.zarr", maps(3))).name(2) == "00002"


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 13), chunk=st.integers(1, 14))
def test_result_does_not_depend_on_chunking(tmp_path_factory: pytest.TempPathFactory, frames: int, chunk: int) -> None:
    path = stored(tmp_path_factory.mktemp("x") / "labels.zarr", maps(frames), chunk_frames=chunk)
    assert all(
        np.array_equal(got, want) for (_, _, got), want in zip(open_labels(path).frames(), maps(frames), strict=True)
    )


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    assert tree(stored(tmp_path / "a", maps(9))) == tree(stored(tmp_path / "b", maps(9)))


def test_empty_frames_are_stored_too(tmp_path: Path) -> None:
    path = stored(tmp_path / "labels.zarr", [np.zeros(SIZE, np.uint8)] * 6)
    assert [int(labels.max()) for _, _, labels in open_labels(path).frames()] == [0] * 6
    assert (path / "c" / "0" / "0" / "0").is_file()


def test_an_error_leaves_nothing_and_the_old_store_untouched(tmp_path: Path) -> None:
    path = stored(tmp_path / "labels.zarr", maps(3))
    before = tree(path)
    with pytest.raises(KeyboardInterrupt), writer(path) as store:
        for label in maps(9):
            store.write(store.frames, label)
        raise KeyboardInterrupt
    assert tree(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_store_replaces_the_old_one(tmp_path: Path) -> None:
    path = stored(tmp_path / "labels.zarr", maps(3))
    stored(path, maps(11))
    assert len(open_labels(path)) == 11
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_of_no_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no frame was selected"), writer(tmp_path / "labels.zarr"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder doesn't exist"), writer(tmp_path / "no" / "labels.zarr"):
        pass


@pytest.mark.parametrize(
    ("pts", "label"), [(0, np.full(SIZE, 5, np.uint8)), (0, np.zeros((2, 2), np.uint8)), (-9, np.zeros(SIZE, np.uint8))]
)
def test_refuses_what_does_not_fit(tmp_path: Path, pts: int, label: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"got .*expected|does not follow"), writer(tmp_path / "labels.zarr") as store:
        store.write(-5, maps(1)[0])
        store.write(pts, label)


@pytest.mark.parametrize("stopped_after", [1, 3, 4, 5, 7, 8, 10])
@pytest.mark.parametrize("killed", [True, False])
def test_resumes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int, killed: bool
) -> None:
    labels = maps(11)
    if killed:
        monkeypatch.setattr(LabelWriter, "checkpoint", whole_chunks_only)
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "labels.zarr", keep_partial=True) as store:
        for number, label in enumerate(labels[:stopped_after]):
            store.write(3 * number - 5, label)
        raise KeyboardInterrupt
    monkeypatch.undo()
    # What a writer leaves that dies while it writes a chunk.
    (partial_path(tmp_path / "labels.zarr") / "c" / "2" / "0").mkdir(parents=True, exist_ok=True)
    (partial_path(tmp_path / "labels.zarr") / "c" / "2" / "0" / "0.1234.partial").write_bytes(b"half")
    again = writer(tmp_path / "labels.zarr")
    safe = again.resume()
    assert safe == again.frames == (stopped_after // 4 * 4 if killed else stopped_after)
    with again:
        found = list(again.stored())
        for number, label in list(enumerate(labels))[safe:]:
            again.write(3 * number - 5, label)
    assert [pts for pts, _ in found] == [3 * number - 5 for number in range(safe)]
    assert all(np.array_equal(*pair) for pair in zip(labels[:safe], (each for _, each in found), strict=True))
    assert tree(tmp_path / "labels.zarr") == tree(stored(tmp_path / "whole.zarr", labels))
    assert not partial_path(tmp_path / "labels.zarr").exists()


def whole_chunks_only(self: LabelWriter, real: Callable[[LabelWriter], None] = LabelWriter.checkpoint) -> None:
    if self.frames % 4 == 0:
        real(self)


def test_a_slow_chunk_is_on_the_disk_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.media.label_store.CHECKPOINT_S", -1.0)
    path, labels = tmp_path / "labels.zarr", maps(6)
    with writer(path) as store:
        for number, label in enumerate(labels):
            store.write(3 * number - 5, label)
            assert writer(path).resume() == number + 1
    monkeypatch.undo()
    assert tree(path) == tree(stored(tmp_path / "whole.zarr", labels))


def test_resumes_when_the_journal_or_a_chunk_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt), writer(path, keep_partial=True) as store:
        for number, label in enumerate(maps(9)):
            store.write(number, label)
        raise KeyboardInterrupt
    journal = partial_path(path) / "frames.jsonl"
    journal.write_bytes(journal.read_bytes()[:-3])
    assert writer(path).resume() == 8
    chunk = partial_path(path) / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:8])
    assert writer(path).resume() == 0
    shutil.rmtree(partial_path(path))
    assert writer(path).resume() == 0


def edit(path: Path, *keys: str | int, value: object) -> None:
    content = json.loads((path / "zarr.json").read_text())
    target = content
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    (path / "zarr.json").write_text(json.dumps(content))


HOSTILE: list[tuple[tuple[str | int, ...], object]] = [
    (("shape",), [10**9, 6, 9]),
    (("shape",), [10, 10**6, 10**6]),
    (("shape",), [10, 6]),
    (("data_type",), "float64"),
    (("node_type",), "group"),
    (("zarr_format",), 2),
    (("fill_value",), 1),
    (("chunk_grid", "configuration", "chunk_shape"), [2**31, 6, 9]),
    (("chunk_grid", "configuration", "chunk_shape"), [4, 3, 9]),
    (("chunk_key_encoding", "configuration", "separator"), "."),
    (("codecs", 1, "name"), "numcodecs.pickle"),
    (("codecs",), []),
    (("storage_transformers",), [{"name": "x"}]),
    (("extra",), 1),
    (("attributes",), {}),
    (("attributes", "format"), "another"),
    (("attributes", "pts"), [0, 1, 2]),
    (("attributes", "pts"), [0] * 10),
    (("attributes", "pts"), ["a"] * 10),
    (("attributes", "pts"), [n + 2**64 for n in range(10)]),
    (("attributes", "time_base"), "1/0"),
    (("attributes", "time_base"), "__import__('os')"),
    (("attributes", "parts"), 1000),
    (("attributes", "source_size"), [10**9, 10**9]),
    (("attributes", "frame_names"), ["../../x"] * 10),
    (("attributes", "frame_names"), ["/etc/x"] * 10),
    (("attributes", "frame_names"), [".."] * 10),
    (("attributes", "frame_names"), ["a"]),
    (("attributes", "frame_names"), ["same"] * 10),
    (("attributes", "frame_names"), [f"{n}\ud800" for n in range(10)]),
    (("attributes", "source_size"), [65536, 65536]),
    (("attributes", "time_base"), f"1/{10**60}"),
]


@pytest.mark.parametrize(("keys", "value"), HOSTILE, ids=lambda value: str(value)[:40])
def test_a_hostile_description_is_refused(tmp_path: Path, keys: tuple[str | int, ...], value: object) -> None:
    path = stored(tmp_path / "labels.zarr", maps(10))
    edit(path, *keys, value=value)
    with pytest.raises(InputError, match="damaged or of another kind") as caught:
        open_labels(path)
    assert "\n" not in str(caught.value)


def _drop(chunk: Path) -> None:
    chunk.unlink()


def _cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-6])


def _flip(chunk: Path) -> None:
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 0x55
    chunk.write_bytes(data)


def _bomb(chunk: Path) -> None:
    from numcodecs import Zstd

    chunk.write_bytes(Zstd().encode(bytes(50_000_000)))


def _two(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes() * 2)


def _bomb_behind(chunk: Path) -> None:
    from numcodecs import Zstd

    chunk.write_bytes(chunk.read_bytes() + Zstd().encode(bytes(50_000_000)))


def _outside(chunk: Path) -> None:
    other = chunk.parents[4] / "other"
    shutil.move(chunk, other)
    chunk.symlink_to(other)


def _label_too_high(chunk: Path) -> None:
    from numcodecs import Zstd

    chunk.write_bytes(Zstd().encode(np.full((4, *SIZE), 200, np.uint8)))


@pytest.mark.parametrize("damage", [_drop, _cut, _flip, _bomb, _two, _bomb_behind, _outside, _label_too_high])
def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = stored(tmp_path / "labels.zarr", maps(10))
    damage(path / "c" / "1" / "0" / "0")
    store = open_labels(path)
    assert np.array_equal(store[0], maps(10)[0])
    with pytest.raises(InputError, match="chunk 1") as caught:
        store[4]
    assert "\n" not in str(caught.value)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label store"):
        open_labels(tmp_path)
    with pytest.raises(InputError, match="no label store"):
        open_labels(tmp_path / "gone")
    real = stored(tmp_path / "labels.zarr", maps(3))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "zarr.json").symlink_to(real / "zarr.json")
    with pytest.raises(InputError, match="no label store"):
        open_labels(tmp_path / "linked")
    for content in ("", "[]", "null", "{" * 100_000, '{"a": NaN}', "\udcff"):
        (real / "zarr.json").write_bytes(os.fsencode(content))
        with pytest.raises(InputError, match="damaged"):
            open_labels(real)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 70_000), level=st.sampled_from([1, 5, 19]), checksum=st.booleans())
def test_reads_the_size_in_a_zstd_header(size: int, level: int, checksum: bool) -> None:
    from numcodecs import Zstd

    assert zstd_content_size(Zstd(level=level, checksum=checksum).encode(bytes(size))[:18]) == size


def test_reads_no_size_where_there_is_none() -> None:
    for head in (
        b"",
        b"\x28\xb5\x2f\xfd",
        b"nonsense of any length",
        b"\x28\xb5\x2f\xfd\x00\x58",
        b"\x28\xb5\x2f\xfd\xc0\x58\x01",
    ):
        assert zstd_content_size(head) is None
