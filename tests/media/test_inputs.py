from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import InputError
from pipeline.media.inputs import resolve_inputs, safe_name
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.video_source import VideoSource


def save(path: Path, value: int = 0, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)
    return path


def names(sources: list) -> list[str]:
    return [source.name for source in sources]


def test_directory_is_read_in_natural_order_without_other_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (10, 2, 1):
        save(tmp_path / "clip" / f"frame{number}.png", number)
    (tmp_path / "clip" / "notes.doc").write_text("x")
    (tmp_path / "clip" / ".hidden.png").write_text("x")
    (tmp_path / "clip" / "loop").symlink_to(tmp_path / "clip")
    source = resolve_inputs([str(tmp_path / "clip")], 25)[0]
    frames = list(source.frames())
    assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"]
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert [frame.pts for frame in frames] == [0, 1, 2]
    assert source.file_names["frame10"] == "frame10.png"
    assert "notes.doc" in caplog.text
    assert "notes.doc" in source.problems[0]


def test_directory_names_frames_in_full_where_stems_clash(tmp_path: Path) -> None:
    save(tmp_path / "a.png"), save(tmp_path / "a.bmp"), save(tmp_path / "b.png")
    source = DirectorySource(tmp_path, "x", 25)
    assert [frame.name for frame in source.frames()] == ["a.bmp", "a.png", "b"]
    assert dict(source.file_names) == {"a.bmp": "a.bmp", "a.png": "a.png", "b": "b.png"}


@pytest.mark.parametrize(("fps", "base"), [(25, "1/25"), (29.97, "100/2997"), (0.5, "2/1"), (23.976, "125/2997")])
def test_directory_counts_time_in_frames(tmp_path: Path, fps: float, base: str) -> None:
    for number in range(5):
        save(tmp_path / f"{number}.png", number)
    source = DirectorySource(tmp_path, "x", fps)
    info = source.probe()
    numerator, denominator = base.split("/")
    assert (info.time_base.numerator, info.time_base.denominator) == (int(numerator), int(denominator))
    assert (info.frames, info.size_hw, info.start_pts, info.audio) == (5, (8, 12), 0, False)


def test_directory_selects_like_a_video(tmp_path: Path) -> None:
    from pipeline.media.source import Selection

    for number in range(10):
        save(tmp_path / f"{number}.png", number)
    source = DirectorySource(tmp_path, "x", 10)
    selection = Selection(2, 0.2, 0.8)
    frames = list(source.frames(selection, wanted=[0, 2]))
    assert [(frame.index, frame.pts, frame.name) for frame in frames] == [(0, 2, "2"), (2, 6, "6")]
    assert source.count(selection) == 3


def test_directory_of_different_sizes_names_file_and_both_sizes(tmp_path: Path) -> None:
    save(tmp_path / "a.png"), save(tmp_path / "b.png", size=(13, 8))
    with pytest.raises(InputError, match=r"b\.png' is 13x8 pixels, 'a\.png' is 12x8"):
        DirectorySource(tmp_path, "x", 25).probe()


def test_directory_with_a_broken_picture_names_it(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"b\.png' is broken"):
        list(DirectorySource(tmp_path, "x", 25).frames())
    (tmp_path / "b.png").write_text("nonsense")
    with pytest.raises(InputError, match=r"b\.png' is not a picture"):
        DirectorySource(tmp_path, "x", 25).probe()


def test_directory_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(InputError, match="holds no picture"):
        resolve_inputs([str(tmp_path)], 25)[0].probe()


def test_arguments_become_sources_in_order(tmp_path: Path, make_film, monkeypatch: pytest.MonkeyPatch) -> None:
    make_film("b10.mp4"), make_film("b2.mp4"), make_film("a[1].mp4")
    save(tmp_path / "dir" / "1.png"), save(tmp_path / "dir" / "2.png"), save(tmp_path / "one.png")
    (tmp_path / "list.txt").write_text("# films\n\nb2.mp4\n  dir  \nb*.mp4\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert names(resolve_inputs(["b*.mp4"], 25)) == ["b2", "b10"]
    assert names(resolve_inputs(["a[1].mp4"], 25)) == ["a[1]"]
    sources = resolve_inputs(["list.txt", "one.png", str(tmp_path / "dir" / "*.png")], 25)
    assert names(sources) == ["b2", "dir", "b2-2", "b10", "one", "dir-2"]
    kinds = [DirectorySource if name in ("dir", "one", "dir-2") else VideoSource for name in names(sources)]
    assert [type(source) for source in sources] == kinds
    assert [source.probe().frames for source in sources] == [8, 2, 8, 8, 1, 2]


def test_names_that_differ_in_case_get_numbers(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/X.mp4", "c/x.mkv", "d/x-2.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    assert names(resolve_inputs([str(tmp_path / "*" / "*")], 25)) == ["x", "X-2", "x-3", "x-2-2"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gone.mp4", "doesn't exist"),
        ("*.nothing", "matches nothing"),
        ("", "not a path"),
        ("a\0b", "not a path"),
        ("mixed/*", "1 pictures and 1 other"),
        ("empty.txt", "names no input"),
        ("nested.txt", "list in a list"),
        ("binary.txt", "can't be read"),
        ("missing.txt", "doesn't exist"),
        ("loop", "doesn't exist"),
        ("x" * 5000, "can't be read: File name too long"),
        ("long.txt", "can't be read: File name too long"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
) -> None:
    save(tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "a.mp4").write_bytes(b"x")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "nested.txt").write_text("empty.txt\n")
    (tmp_path / "missing.txt").write_text("gone.mp4\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    (tmp_path / "long.txt").write_text("x" * 5000)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        resolve_inputs([argument], 25)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("argument", ["odd", "odd/*", "odd/\udcff.png", "\udcff", "list.txt"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    save(tmp_path / "odd" / "a.png"), save(tmp_path / "odd" / "b.png"), save(tmp_path / "\udcff" / "a.png")
    (tmp_path / "odd" / "b.png").rename(tmp_path / "odd" / "\udcff.png")
    (tmp_path / "list.txt").write_text("odd/*\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"isn't UTF-8; rename it"):
        resolve_inputs([argument], 25)[0].probe()


def test_no_argument_is_refused() -> None:
    with pytest.raises(InputError, match="no input"):
        resolve_inputs([], 25)


@given(st.text(st.characters(), max_size=300))
def test_names_are_safe_as_directories(title: str) -> None:
    name = safe_name(title)
    assert name not in ("", ".", "..")
    assert not name.startswith(".")
    assert not set(name) & set('/\\\0\n\r:*?"<>|')
    assert 0 < len(name.encode("utf-8")) <= 120
    assert safe_name(name) == name


@pytest.mark.parametrize("folder", ["clips [2024]", "a*b", "what?", "[x"])
def test_signs_of_patterns_in_names_that_exist_are_names(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "take [1]").mkdir(parents=True)
    for name in ("frame10.png", "frame2.png"):
        save(tmp_path / folder / name)
        save(tmp_path / folder / "take [1]" / f"shot [3] {name}")
    (found,) = resolve_inputs([f"{tmp_path}/{folder}/frame*.png"], fps=25)
    assert found.probe().frames == 2
    (found,) = resolve_inputs([f"{tmp_path}/{folder}/take [1]/*.png"], fps=25)
    assert list(found.file_names.values()) == ["shot [3] frame2.png", "shot [3] frame10.png"]
    (found,) = resolve_inputs([f"{tmp_path}/{folder}/take [1]/shot [3] *.png"], fps=25)
    assert found.probe().frames == 2
    with pytest.raises(InputError, match="matches nothing"):
        resolve_inputs([f"{tmp_path}/{folder}/[q]*.png"], fps=25)
