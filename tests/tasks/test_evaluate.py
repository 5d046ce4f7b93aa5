"""All evaluation protocols end to end on tiny data sets, with a tiny random model."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.cli import main
from pipeline.config import Settings, with_defaults, with_values
from pipeline.errors import InputError, ModelError, OutputError, UsageError
from pipeline.evaluation.reports import Summary
from pipeline.media.label_store import open_labels
from pipeline.media.picture_sequence import DirectorySource
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine
from pipeline.stages.picture_set import Album
from pipeline.tasks.evaluate import BENCHMARKS, evaluate, facets, sets
from pipeline.tasks.evaluate.sets import benchmark_of
from pipeline.tasks.evaluate.videos import segment_source
from pipeline.tasks.segment import segment

SIZE = (48, 64)


def disc(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc of two colours on a striped background, and its two parts."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rgb = np.stack([90 + 40 * np.sin(x / 5), 120 + 0 * x, 90 + 40 * np.cos(y / 7)], -1).astype(np.uint8)
    inside = (x - 24 - 4 * number) ** 2 + (y - 24) ** 2 < 14**2
    labels = np.where(inside, 1 + (y >= 24), 0).astype(np.uint8)
    rgb[labels == 1], rgb[labels == 2] = (220, 60, 40), (40, 60, 230)
    return rgb, labels


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def write_davis(root: Path, images: str = "JPEGImages/480p", masks: str = "Annotations/480p") -> Path:
    for sequence, frames in (("dog", 4), ("goat", 3)):
        for number in range(frames):
            rgb, labels = disc(number)
            save(root / images / sequence / f"{number:05d}.jpg", rgb)
            save(root / masks / sequence / f"{number:05d}.png", labels)
    return root


def write_parts(root: Path) -> Path:
    for clip in ("a", "b"):
        for number in range(3):
            rgb, labels = disc(number)
            save(root / clip / "frames" / f"{number}.png", rgb)
            save(root / clip / "labels" / f"{number}.png", labels)
    return root


def write_badja(root: Path) -> Path:
    """Static videos with joints at patch centres, so that each joint's nearest descriptor is its own."""
    rgb, labels = disc(0)
    scale = np.array([1080 / SIZE[0], 1920 / SIZE[1]])
    joints = [(np.array([12 + 8 * (number % 4), 20 + 8 * (number // 4 % 3)]) * scale).tolist() for number in range(37)]
    for clip in ("dog", "camel"):
        lines = []
        for number in range(3):
            save(root / "JPEGImages" / clip / f"{number:05d}.jpg", rgb)
            save(root / "Annotations" / clip / f"{number:05d}.png", labels)
            path = f"DAVIS/JPEGImages/Full-Resolution/{clip}/{number:05d}.jpg"
            lines.append({"image_path": path, "joints": joints, "visibility": [True] * 37})
        (root / "joints").mkdir(exist_ok=True)
        (root / "joints" / f"{clip}.json").write_text(json.dumps(lines))
    return root


def write_sets(root: Path) -> Path:
    for name in ("discs", "more"):
        for number in range(3):
            rgb, labels = disc(number)
            save(root / name / "images" / f"{number}.png", rgb)
            save(root / name / "masks" / f"{number}.png", (labels > 0).astype(np.uint8) * 255)
    return root


def write_spair(root: Path) -> Path:
    """Two pictures paired with themselves, so that each point's nearest descriptor is its own."""
    folder, lines = root / "SPair-71k", ["000001-a-a:cat", "000002-b-b:dog"]
    points = [[10, 12], [30, 20], [50, 40]]
    for number, line in enumerate(lines):
        picture, category = line.split("-")[1], line.rpartition(":")[2]
        save(folder / "JPEGImages" / category / f"{picture}.jpg", disc(number)[0])
        annotation = {
            **{"src_imname": f"{picture}.jpg", "trg_imname": f"{picture}.jpg", "src_kps": points, "trg_kps": points},
            **{"src_imsize": [64, 48, 3], "trg_imsize": [64, 48, 3], "trg_bndbox": [0, 0, 64, 48]},
        }
        (folder / "PairAnnotation/test").mkdir(parents=True, exist_ok=True)
        (folder / f"PairAnnotation/test/{line}.json").write_text(json.dumps(annotation))
    (folder / "Layout/large").mkdir(parents=True)
    (folder / "Layout/large/test.txt").write_text("\n".join(lines) + "\n")
    return root


def write_cub(root: Path) -> Path:
    folder = root / "CUB_200_2011"
    names = [f"{number % 3 + 1:03d}.bird/{number}.jpg" for number in range(9)]
    for number, name in enumerate(names):
        save(folder / "images" / name, disc(number % 4)[0])
    (folder / "parts").mkdir()
    tables = {
        "images.txt": names,
        "image_class_labels.txt": [number % 3 + 1 for number in range(9)],
        "train_test_split.txt": [int(number < 6) for number in range(9)],
        "bounding_boxes.txt": ["8.0 8.0 40.0 32.0"] * 9,
    }
    for file, values in tables.items():
        (folder / file).write_text("".join(f"{row} {value}\n" for row, value in enumerate(values, 1)))
    points = [f"{i} {j} {12 + (i + 7 * j) % 30}.0 {12 + 3 * j % 28}.0 1\n" for i in range(1, 10) for j in range(1, 16)]
    (folder / "parts" / "part_locs.txt").write_text("".join(points))
    return root


def write_celeba(root: Path) -> Path:
    names = [f"{number:06d}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        save(root / "img_celeba" / name, disc(number % 4)[0])
    points = [f"{name} 10 12 30 12 20 {20 + number} 14 30 26 30" for number, name in enumerate(names)]
    boxes = [f"{name} 2 2 44 36" for name in names]
    for file, lines in {
        "list_landmarks_celeba.txt": ["6", "lefteye_x ...", *points],
        "list_bbox_celeba.txt": ["6", "image_id x_1 y_1 width height", *boxes],
        "list_eval_partition.txt": [f"{name} {2 * (number % 2)}" for number, name in enumerate(names)],
    }.items():
        (root / file).write_text("\n".join(lines))
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    **{"davis": write_davis, "parts": write_parts, "keypoints": write_badja, "coseg": write_sets},
    **{"facets": write_sets, "spair": write_spair, "cub": write_cub, "celeba": write_celeba},
}


@pytest.fixture(autouse=True)
def _without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModelError("the weights can't be fetched")

    monkeypatch.setattr(facets, "resolve_model", missing)
    monkeypatch.setattr(facets, "load_resnet", missing)


Measure = Callable[..., Summary]


@pytest.fixture
def measure(tmp_path: Path, small_settings: Settings) -> Measure:
    """Write a benchmark's data set if it is missing, and measure on it."""

    def run(name: str, output: str = "out", **options: object) -> Summary:
        data = tmp_path / name
        if not data.exists():
            WRITERS[name](data)
        settings = with_defaults(small_settings, {"cluster": {"max_clusters": 4}})
        return evaluate(name, data, tmp_path / output, **{"settings": settings, **options})

    return run


def read_items(folder: Path) -> list[dict[str, str]]:
    with (folder / "items.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_is_measured_and_goes_on_where_it_was(tmp_path: Path, measure: Measure, name: str) -> None:
    summary = measure(name)
    out = tmp_path / "out"
    assert (out / "summary.md").read_text() == summary.as_markdown()
    assert "Model vit.safetensors" in summary.notes[-1]
    files = sorted(out.rglob("items.csv"))
    whole = {file: file.read_bytes() for file in files}
    assert [file.parent.name for file in files] == (["foreground", "full", "regression"] if name == "cub" else ["out"])
    assert all((file.parent / "settings.json").exists() for file in files)
    for file, content in whole.items():
        # As after a crash: the last item is incomplete.
        file.write_bytes(content[:-3])
    again = measure(name)
    assert {file: file.read_bytes() for file in files} == whole
    assert again == summary


def test_other_settings_are_refused_and_overwrite_begins_anew(tmp_path: Path, measure: Measure) -> None:
    measure("davis", limit=1)
    first = (tmp_path / "out" / "items.csv").read_bytes()
    assert {row["item"] for row in read_items(tmp_path / "out")} == {"dog"}
    with pytest.raises(OutputError, match=r"other settings \(year\)"):
        measure("davis", year=2017)
    assert (tmp_path / "out" / "items.csv").read_bytes() == first
    measure("davis")
    assert (tmp_path / "out" / "items.csv").read_bytes().startswith(first)
    assert [row["item"] for row in read_items(tmp_path / "out")] == ["dog"] * 4 + ["goat"] * 3
    summary = measure("davis", year=2017, overwrite=True)
    assert summary.title == "DAVIS 2017 unsupervised"
    assert {row["object"] for row in read_items(tmp_path / "out")} == {"1", "2", "union"}


@pytest.mark.parametrize("name", ["cub", "celeba", "coseg"])
def test_factorisation_is_measured_beside_the_method(tmp_path: Path, measure: Measure, name: str) -> None:
    ours, theirs = measure(name), measure(name, output="dff", method="dff")
    assert [figure.name for figure in theirs.figures] == [figure.name for figure in ours.figures]
    assert "factorisation" in theirs.as_markdown()
    assert "factorisation" not in ours.as_markdown()
    assert measure(name, output="dff", method="dff") == theirs
    with pytest.raises(OutputError, match=r"other settings \(method\)"):
        measure(name, method="dff")


def test_a_limit_of_birds_makes_other_parts(tmp_path: Path, measure: Measure) -> None:
    measure("cub", limit=4)
    assert len(list((tmp_path / "out").glob("parts-*.safetensors"))) == 3
    with pytest.raises(OutputError, match=r"other settings \(limit\)"):
        measure("cub")


def test_parts_of_birds_are_fitted_once_for_the_same_settings(
    tmp_path: Path, measure: Measure, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    real = sets.fit_album

    def counted(album: Album) -> object:
        fits.append(len(album.pictures))
        return real(album)

    monkeypatch.setattr(sets, "fit_album", counted)
    measure("cub", limit=3)
    for file in (tmp_path / "out").rglob("items.csv"):
        file.unlink()
    measure("cub", limit=3)
    assert fits == [3, 3, 3]
    for file in (tmp_path / "out").rglob("items.csv"):
        file.unlink()
    # The parts of other settings are never reused, even without results.
    measure("cub", limit=3, settings=with_values(small_settings, {"cluster.parts": 2}))
    assert fits == [3] * 6


def test_videos_are_labelled_as_by_segment(tmp_path: Path, small_settings: Settings) -> None:
    frames = write_davis(tmp_path / "data") / "JPEGImages" / "480p" / "dog"
    source = DirectorySource(frames, "dog", 25.0)
    engine = open_engine(small_settings, Silent())
    found = [labels for _, labels in segment_source(source, engine, Silent())]
    (finished,) = segment([frames], tmp_path / "out", small_settings).finished
    stored = open_labels(finished.directory / "labels.zarr")
    assert np.array_equal(np.stack(found), np.stack([labels for _, _, labels in stored.frames()]))


def test_points_of_one_picture_find_themselves(tmp_path: Path, measure: Measure) -> None:
    # With and without log-bins, in all facets and layers.
    rows = measure("spair", "pairs", layers=[2, 5]).figures
    assert len(rows) == 2 * 4 * 2 * 2
    assert {figure.ours for figure in rows} == {100.0}
    items = read_items(tmp_path / "pairs")
    assert {(row["layer"], row["log_bin"]) for row in items} == {(n, bins) for n in "25" for bins in ("yes", "no")}
    standard = measure("spair", "standard", protocol="standard", layers=[5])
    assert [figure.ours for figure in standard.figures] == [100.0] * 32
    assert measure("keypoints", "joints").value("mean") == 100.0
    assert "layer 9 key with bins" in (tmp_path / "joints" / "summary.md").read_text()


def test_each_picture_is_described_once(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.features.extractor import Extractor

    described: list[int] = []
    real = Extractor.extract_taps

    def counted(self: Extractor, images: list, taps: list, *, saliency: bool = False) -> object:
        described.append(len(taps))
        return real(self, images, taps, saliency=saliency)

    monkeypatch.setattr(Extractor, "extract_taps", counted)
    measure("spair", "pairs")
    assert described == [8, 8]
    described.clear()
    measure("facets", "facets-out", layers=[3, 11])
    assert described == [8] * 6


def test_a_shallower_model_is_swept_at_its_own_layers(
    tmp_path: Path, measure: Measure, tiny_model: Path, small_settings: Settings
) -> None:
    state = load_file(tiny_model)
    kept = [name for name in state if not name.startswith("blocks.") or int(name.split(".")[1]) < 5]
    save_file({name: state[name] for name in kept}, tmp_path / "five.safetensors", {"num_heads": "6"})
    settings = with_values(small_settings, {"model": str(tmp_path / "five.safetensors")})
    names = {figure.name for figure in measure("facets", "sets", settings=settings).figures}
    assert {"J key of layer 3", "J token of layer 4", "P attention of five.safetensors"} <= names
    assert measure("spair", "pairs", settings=settings).value("layer 3 key with bins, per pair") == 100.0
    assert measure("keypoints", "joints", settings=settings).value("mean") == 100.0
    assert "layer 3 key with bins" in (tmp_path / "joints" / "summary.md").read_text()


def test_wrong_options(tmp_path: Path, measure: Measure, small_settings: Settings) -> None:
    with pytest.raises(UsageError, match="no benchmark named 'cup'; expected one of cub, celeba, coseg"):
        evaluate("cup", tmp_path, tmp_path / "out", small_settings)
    with pytest.raises(UsageError, match="--year is for davis, not for coseg"):
        measure("coseg", year=2016)
    with pytest.raises(UsageError, match="limit is 0"):
        measure("coseg", limit=0)
    with pytest.raises(UsageError, match="layer 12 is to be swept; the model has layers 0 to 11"):
        measure("facets", layers=[12])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_data_set_is_an_input_error_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected"):
        evaluate(name, tmp_path / "none", tmp_path / "out", Settings(model="none.safetensors"))
    assert not (tmp_path / "out").exists()


def test_a_benchmark_by_its_folder(tmp_path: Path) -> None:
    assert benchmark_of(Path("data/pascal_voc")) == "PASCAL-VOC"
    assert benchmark_of(Path("msrc/")) == "MSRC"
    assert benchmark_of(tmp_path) is None


def run_command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in ("evaluate", *words)])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


def test_the_command(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_davis(tmp_path / "data"), tmp_path / "out"
    model = ["--model", tiny_model, "--load-size", 48, "--stride", 8, "--device", "cpu"]
    common = ["--data", data, "-o", out, *model]
    code, stdout, stderr = run_command(capsys, "davis", *common, "--limit", 1, "--year", 2017, "--json-progress")
    assert code == 0, stderr
    assert "| union, J mean |" in stdout
    assert [json.loads(line)["event"] for line in stderr.splitlines()] == ["start", "progress", "end"]
    code, _, stderr = run_command(capsys, "dvis", *common)
    assert code == 2
    assert all(name in stderr for name in BENCHMARKS)
    code, _, stderr = run_command(capsys, "davis", "--data", tmp_path / "none", "-o", out, *model)
    assert (code, stderr.count("\n")) == (3, 1)
    assert "JPEGImages' is missing" in stderr
    for words in (["davis", "--protocol", "paper"], ["spair", "--protocol", "field"], ["facets", "--layers", "a"]):
        assert run_command(capsys, *words, *common)[0] == 2
    assert run_command(capsys, "davis", *common, "--parts", 3)[0] == 4
