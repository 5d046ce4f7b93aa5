import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.cluster.correspondences import nearest_both_ways
from pipeline.config import Settings, load_settings, with_values
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.features.vit import Tap
from pipeline.progress import Silent
from pipeline.stages.engine import Engine
from pipeline.stages.grid_points import place_on
from pipeline.tasks.match import (
    DEFAULT_THRESHOLD,
    MatchResult,
    Side,
    correspond,
    describe_side,
    match,
    open_matching_engine,
)

RNG = np.random.default_rng(0)


class Told(Silent):
    """Records messages to the user."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def golden_settings(tiny_model: Path) -> Settings:
    return load_settings(overrides={"model": str(tiny_model), "features.load_size": 96, "run.device": "cpu"})


def scene(size_hw: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Blocks of random colours, so that all positions differ."""
    blocks = RNG.integers(0, 256, (size_hw[0] // 8 + 1, size_hw[1] // 8 + 1, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)[: size_hw[0], : size_hw[1]]


def save(path: Path, rgb: np.ndarray, **options: object) -> Path:
    Image.fromarray(rgb).save(path, **options)
    return path


def matched(
    first: np.ndarray, second: np.ndarray, engine: Engine, pairs: int | None, threshold: float = DEFAULT_THRESHOLD
) -> MatchResult:
    left, right = (describe_side(rgb, engine) for rgb in (first, second))
    return correspond(left, right, pairs, threshold, engine.settings.run.seed)


def test_descriptors_of_files_give_the_goldens_buddies(parity_dir: Path, golden_settings: Settings) -> None:
    engine = open_matching_engine(golden_settings, Silent())
    assert engine.settings.features.layer == 9
    assert engine.settings.features.log_bin
    with np.load(parity_dir / "expected.npz") as archive:
        golden = {name: archive[f"pair/{name}"] for name in ("nn_1", "nn_2", "best_buddies", "similarity_row0")}
    sides = []
    for name in ("cat", "cup"):
        rgb = np.asarray(Image.open(parity_dir / f"{name}.png").convert("RGB"))
        found = engine.extractor.extract_taps([engine.extractor.preprocess(rgb)], [Tap(9, "key")])
        sides.append(found[Tap(9, "key")].descriptors[0].flatten(0, 1))
    neighbours = nearest_both_ways(sides[0], sides[1])
    assert np.mean(neighbours.forward == golden["nn_1"]) >= 0.995
    assert np.mean(neighbours.backward == golden["nn_2"]) >= 0.995
    assert np.mean(neighbours.best_buddies == golden["best_buddies"]) >= 0.995
    row = torch.nn.functional.cosine_similarity(sides[0][:1], sides[1])
    assert np.abs(row.numpy() - golden["similarity_row0"]).max() <= 2e-4


def test_pairs_are_salient_best_buddies_at_both_ends(
    parity_dir: Path, golden_settings: Settings, tmp_path: Path
) -> None:
    result = match(parity_dir / "cat.png", parity_dir / "cup.png", tmp_path, golden_settings, pairs=None, threshold=0.3)
    with np.load(parity_dir / "expected.npz") as archive:
        saliency = [archive[f"{name}/saliency/stride4"] for name in ("cat", "cup")]
        forward, buddies = archive["pair/nn_1"], archive["pair/best_buddies"]
    expected = [i for i in np.flatnonzero(buddies) if saliency[0][i] > 0.3 and saliency[1][forward[i]] > 0.3]
    assert 0 < len(expected) < buddies.sum()
    means = [-(saliency[0][i] + saliency[1][forward[i]]) for i in expected]
    expected = [expected[place] for place in np.argsort(means, kind="stable")]
    assert result.buddies == len(result.pairs) == len(expected)
    with Image.open(parity_dir / "cat.png") as cat:
        scale = np.array(cat.size) / [128, 96]
    for pair, row in zip(result.pairs, expected, strict=True):
        assert pair.first_xy == pytest.approx((np.array([row % 31, row // 31]) * 4 + 4) * scale, abs=1e-3)
        assert pair.saliency == pytest.approx((saliency[0][row], saliency[1][forward[row]]), abs=3e-4)


def test_the_second_ends_own_saliency_counts(golden_settings: Settings) -> None:
    """The authors' rule keeps a pair with a non-salient target if another salient position's match is its source."""
    place = place_on(open_matching_engine(golden_settings, Silent()), (96, 96))
    first = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    second = np.array([[1.0, 0.0], [0.9, 0.1]], dtype=np.float32)

    def side(descriptors: np.ndarray, saliency: list[float]) -> Side:
        rows = torch.from_numpy(descriptors)
        return Side(np.zeros((96, 96, 3), np.uint8), place, rows, np.array(saliency, np.float32), 2)

    # Position 0 of the second picture is the buddy of position 0 and not salient; salient position 1 matches it too.
    left, right = side(first, [1.0, 1.0]), side(second, [0.0, 1.0])
    assert correspond(left, right, None, 0.5, seed=0).pairs == ()


def test_a_picture_matches_itself_place_by_place(golden_settings: Settings) -> None:
    engine = open_matching_engine(golden_settings, Silent())
    rgb = scene()
    found = matched(rgb, rgb, engine, pairs=None, threshold=0.0)
    assert found.buddies >= 700
    assert all(pair.first_xy == pair.second_xy for pair in found.pairs)
    assert all(pair.similarity == pytest.approx(1.0, abs=1e-4) for pair in found.pairs)
    few = matched(rgb, rgb, engine, pairs=7)
    assert len(few.pairs) == 7
    assert len({pair.first_xy for pair in few.pairs}) == 7
    assert set(few.pairs) <= set(found.pairs)
    assert few == matched(rgb, rgb, engine, pairs=7)


def test_a_moved_picture_moves_its_matches(golden_settings: Settings) -> None:
    settings = with_values(golden_settings, {"features.layer": 0, "features.facet": "value"})
    engine = open_matching_engine(settings, Silent())
    rgb = scene((96, 160))
    found = matched(rgb[:, :128], rgb[:, 16:144], engine, pairs=None, threshold=0.0)
    moves = np.array([np.subtract(pair.second_xy, pair.first_xy) for pair in found.pairs])
    assert len(moves) > 200
    assert np.mean((moves == [-16, 0]).all(axis=1)) > 0.8


def test_files_say_where_the_points_are_in_the_originals(
    parity_dir: Path, golden_settings: Settings, tmp_path: Path
) -> None:
    big = Image.open(parity_dir / "cup.png").convert("RGB")
    big = big.resize((big.width * 3, big.height * 3))
    big.save(tmp_path / "big.png")
    told = Told()
    result = match(
        parity_dir / "cat.png", tmp_path / "big.png", tmp_path / "out", golden_settings, pairs=3, progress=told
    )
    assert told.lines == []
    content = json.loads((tmp_path / "out" / "matches.json").read_text())
    assert content["second"] == {"path": str(tmp_path / "big.png"), "width": big.width, "height": big.height}
    assert content["features"]["layer"] == 9
    assert [tuple(pair["first"]) for pair in content["pairs"]] == [pair.first_xy for pair in result.pairs]
    assert [pair["number"] for pair in content["pairs"]] == [1, 2, 3]
    assert all(0 < pair["second"][0] < big.width and 0 < pair["second"][1] < big.height for pair in content["pairs"])
    assert Image.open(tmp_path / "out" / "matches.png").mode == "RGB"


@pytest.mark.parametrize(("threshold", "pairs", "message"), [(1.0, 10, "no pair"), (0.3, 1000, "1000 pairs")])
def test_fewer_pairs_than_asked_for_is_an_answer(
    threshold: float, pairs: int, message: str, parity_dir: Path, golden_settings: Settings, tmp_path: Path
) -> None:
    told = Told()
    pictures = parity_dir / "cat.png", parity_dir / "cup.png"
    result = match(*pictures, tmp_path, golden_settings, threshold=threshold, pairs=pairs, progress=told)
    assert len(result.pairs) == result.buddies < pairs
    assert len(told.lines) == 1
    assert message in told.lines[0]
    assert len(json.loads((tmp_path / "matches.json").read_text())["pairs"]) == len(result.pairs)
    assert (tmp_path / "matches.png").exists()


def test_settings_that_were_given_stay(golden_settings: Settings) -> None:
    given = with_values(golden_settings, {"features.layer": 4, "features.log_bin": False})
    engine = open_matching_engine(given, Silent())
    assert engine.settings.features.layer == 4
    assert not engine.extractor.settings.log_bin


def test_pictures_of_every_kind(small_settings: Settings, tmp_path: Path) -> None:
    rgb = scene((60, 90))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    deep = np.linspace(0, 65535, 48 * 60).reshape(48, 60).astype(np.uint16)
    pictures = [
        save(tmp_path / "grey.png", rgb[..., 0]),
        save(tmp_path / "deep.png", deep),
        save(tmp_path / "alpha.png", np.dstack([rgb, rgb[..., 0]])),
        save(tmp_path / "turned.jpg", rgb, exif=rotated),
        save(tmp_path / "tiny.png", rgb[:3, :2]),
        save(tmp_path / "flat.png", np.zeros((40, 40, 3), np.uint8)),
    ]
    base = save(tmp_path / "base.png", rgb)
    for picture in pictures:
        match(base, picture, tmp_path / picture.stem, small_settings, progress=Told())
    content = json.loads((tmp_path / "turned" / "matches.json").read_text())
    assert (content["second"]["width"], content["second"]["height"]) == (60, 90)


def test_earlier_results_are_left_alone(small_settings: Settings, tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", scene((48, 64)))
    (tmp_path / "matches.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="--overwrite"):
        match(picture, picture, tmp_path, small_settings)
    assert (tmp_path / "matches.png").read_bytes() == b"mine"
    assert not (tmp_path / "matches.json").exists()
    match(picture, picture, tmp_path, small_settings, overwrite=True, progress=Told())
    assert (tmp_path / "matches.png").read_bytes() != b"mine"


def test_what_cannot_be_asked(small_settings: Settings, tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", scene((48, 64)))
    save(tmp_path / "b.png", scene((48, 64)))
    with pytest.raises(UsageError, match="0 pairs"):
        match(picture, picture, tmp_path / "out", small_settings, pairs=0)
    with pytest.raises(UsageError, match="saliency from 0 to 1"):
        match(picture, picture, tmp_path / "out", small_settings, threshold=2)
    with pytest.raises(UsageError, match="layer 12"):
        match(picture, picture, tmp_path / "out", with_values(small_settings, {"features.layer": 12}))
    with pytest.raises(InputError, match="2 pictures; expected one"):
        match(tmp_path, picture, tmp_path / "out", small_settings)
    with pytest.raises(InputError, match="doesn't exist"):
        match(picture, tmp_path / "none.png", tmp_path / "out", small_settings)
    assert not (tmp_path / "out").exists()
