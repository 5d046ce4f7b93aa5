from pathlib import Path

import pytest

from pipeline.config import (
    PRESETS,
    FeatureSettings,
    Settings,
    bundled_settings,
    load_settings,
    preset_file,
    read_yaml,
    with_defaults,
)
from pipeline.errors import UsageError


def test_default_yaml_equals_the_defaults() -> None:
    assert load_settings(preset_file("default")) == Settings()
    written = read_yaml(preset_file("default"))
    assert Settings().model_dump(mode="json") == written, "configs/default.yaml must name every setting"


def test_an_option_beats_the_file_which_beats_the_presets(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("features: {stride: 2, layer: 9}\n")
    given = load_settings(file, {"features.stride": 1, "features.load_size": None})
    model, codebook = {"features": {"stride": 8, "layer": 3, "facet": "value"}}, {"features": {"facet": "query"}}
    settings = with_defaults(given, model, codebook)
    assert settings.features.stride == 1
    assert settings.features.layer == 9
    assert settings.features.facet == "query"
    assert settings.features.load_size == 224


@pytest.mark.parametrize(
    ("size_hw", "load_size", "enlarge_to", "expected"),
    [
        ((480, 854), 224, None, (224, 398)),
        ((854, 480), 224, None, (398, 224)),
        ((100, 100), 224, None, (224, 224)),
        ((33, 77), None, None, (33, 77)),
        ((33, 77), None, 64, (33, 77)),
        ((4000, 10), 8, None, (3200, 8)),
        ((16, 4096), 224, None, (224, 57344)),
        ((480, 854), 320, 256, (320, 569)),
        ((270, 481), 320, 256, (270, 481)),
        ((100, 200), 320, 256, (256, 512)),
        ((100, 200), 160, 256, (160, 320)),
    ],
)
def test_processed_size(
    size_hw: tuple[int, int], load_size: int | None, enlarge_to: int | None, expected: tuple[int, int]
) -> None:
    features = FeatureSettings(load_size=load_size, enlarge_to=enlarge_to)
    assert features.processed_size(size_hw) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_stands_below_what_is_given_and_above_a_models_own(tmp_path: Path, name: str) -> None:
    values = read_yaml(preset_file(name))
    plain = load_settings(overrides={"preset": name})
    assert plain == Settings(preset=name)
    assert plain.features.grid == values["features"]["grid"] != Settings().features.grid
    file = tmp_path / "c.yaml"
    file.write_text(f"preset: {name}\nkeyframes: {{interval: 3}}\n")
    given = load_settings(file, {"features.precision": "float32"})
    assert (given.preset, given.keyframes.interval, given.features.precision) == (name, 3, "float32")
    assert load_settings(file, {"preset": "draft"}).keyframes.interval == 3
    own = with_defaults(plain, {"features": {"precision": "float32", "stride": 8}})
    assert (own.features.precision, own.features.stride) == ("bfloat16", 8)


def test_draft_changes_the_bundled_backbones_own_size() -> None:
    given = load_settings(overrides={"preset": "draft"})
    plain, draft = (with_defaults(given, *bundled_settings(preset)).features for preset in ("fast", "draft"))
    assert (plain.load_size, plain.stride, plain.enlarge_to) == (320, 8, 256)
    assert (draft.load_size, draft.stride, draft.enlarge_to) == (192, 4, None)


def test_every_file_of_configs_is_the_defaults_a_models_or_a_preset() -> None:
    names = {file.stem for file in preset_file("default").parent.glob("*.yaml")}
    assert names == {"default", "bundled", "bundled_draft", *PRESETS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("features: {strid: 4}", r"unknown setting 'features.strid'; the nearest known one is 'features.stride'"),
        ("modle: x", r"unknown setting 'modle'; the nearest known one is 'model'"),
        ("features: {stride: zero}", r"'features.stride'.*got 'zero'"),
        ("cluster: {parts: 0}", r"'cluster.parts'.*got 0"),
        ("features: 3", r"'features'"),
        ("preset: fsat", r"'preset'.*'fast' or 'draft', got 'fsat'"),
        ("- a", "expected a mapping"),
        ("a: [", "is not YAML"),
        ("input: {start: 5, end: 2}", r"start \(5.0 s\) must be before end"),
        ("crf: {gaussian_weight: .inf}", r"'crf.gaussian_weight'.*finite"),
        ("crf: {bilateral_srgb: 1.0e-320}", r"'crf.bilateral_srgb'"),
        ("cluster: {restarts: 1000000000}", r"'cluster.restarts'.*got 1000000000"),
        ("cluster: {frames: 99999999999999999999}", r"'cluster.frames'"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("a: &a {x: 1}\nb: {<<: *a}", "aliases"),
        ("cluster: &a [*a]", "aliases"),
        ("model: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("[" * 100_000, "is not YAML"),
        ("a: " + "9" * 10_000, "is not YAML"),
        ("run: {seed: 0x" + "f" * 10_000 + "}", "'run.seed'.*thousands of digits"),
        ("run: {seed: 2001-99-99}", "is not YAML"),
        ("[a]: 2", "is not YAML"),
        ("1: 2", "setting '1'"),
        ("? " + "x" * 5000 + "\n: 1", "unknown setting"),
        ("model_heads: " + "x" * 5000, "'model_heads'"),
        ("#" * 2**21, "has more than"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_settings(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="no preset named 'none'"):
        preset_file("none")
