"""Settings, typed and checked: option > YAML file > preset > model's own > default.

Every threshold of the method is here with its unit and source; `configs/default.yaml` shows the same values, and a test
holds the two together.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import UsageError
from pipeline.geometry import with_short_side

Facet = Literal["key", "query", "value", "token"]
Grid = Literal["overlapping", "interleaved"]
Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "openvino", "torch"]
EngineName = Literal["local", "ray"]
Preset = Literal["fast", "draft"]
SaliencySource = Literal["attention", "motion", "both"]
ClusteringMethod = Literal["kmeans", "spherical", "spectral"]
MaskRefinement = Literal["grabcut", "crf", "none"]
Style = Literal["overlay", "parts", "outline", "cutout", "side-by-side"]
ExportFormat = Literal["davis", "coco", "npz", "yolo", "cvat", "label-studio", "csv", "parquet"]
PaletteName = Literal["vivid", "pastel", "davis", "colorblind"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
_MAX_FILE_BYTES = 2**20
"""Far above the size of any settings file."""

Count = Annotated[int, Field(ge=1, lt=2**31)]
Rounds = Annotated[int, Field(ge=1, le=10_000)]
"""Iterations of an iterative method: ten times what any of them needs to converge."""

Deviation = Annotated[float, Field(ge=0.01, le=10_000.0)]
"""Standard deviation of a kernel: from far below a pixel or a grey level to wider than any picture."""

Weight = Annotated[float, Field(ge=0.0, le=1e6)]
"""Weight of a kernel or of a prior, within what float32 sums can hold."""

Seconds = Annotated[float, Field(ge=0.0, le=1e9)]
"""Up to thirty years."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FeatureSettings(_Section):
    """What the descriptors are (paper sections 3 and 4)."""

    load_size: Annotated[int, Field(ge=8, le=4096)] | None = 224
    """Short side of the processed picture, pixels; none keeps the source's size."""
    enlarge_to: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Short side up to which smaller pictures are enlarged, pixels; none: up to `load_size`, as in the paper."""
    stride: Count = 4
    """Distance of neighbouring patches, processed pixels; divides the patch size."""
    grid: Grid = "overlapping"
    """One pass over overlapping patches, as in the paper, or several at the patch's own stride that interleave."""
    layer: Annotated[int, Field(ge=0)] = 11
    """Block that the descriptors are read from, counted from 0; the model's last one by default."""
    facet: Facet = "key"
    log_bin: bool = False
    """Add the context of log-spaced bins to each descriptor (paper section 4, point correspondences)."""
    precision: Precision = "float32"
    """Arithmetic of the ViT: float32, or bfloat16 where the processor multiplies in it. float16 is for CUDA."""

    def processed_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width, pixels, that a picture of `size_hw` has for the ViT.

        >>> FeatureSettings(load_size=224).processed_size((120, 160))
        (224, 298)
        >>> FeatureSettings(load_size=224, enlarge_to=96).processed_size((120, 160))
        (120, 160)
        """
        if self.load_size is None:
            return size_hw
        least = self.load_size if self.enlarge_to is None else self.enlarge_to
        return with_short_side(size_hw, min(self.load_size, max(least, min(size_hw))))


class KeyframeSettings(_Section):
    """Which frames of a video are described; the others are followed to them by optical flow."""

    interval: Count = 1
    """Frames from one key frame to the next, counted from a clip's first; 1 describes every frame."""
    lost: Share = 0.1
    """Share of a frame's pixels that are found in neither key frame above which it is described itself."""


class SaliencySettings(_Section):
    """What says that something is foreground (paper section 4; the authors' code for the constants)."""

    source: SaliencySource = "attention"
    """CLS attention; a video's motion against the camera's; or attention confirmed by motion. Pictures don't move."""
    heads: tuple[int, ...] | None = None
    """Heads of the last block whose CLS attention is averaged; none: the model's own."""
    half_size: bool = True
    """Read it at the native stride from the picture at half size, as the authors' code does."""
    threshold: Share = 0.065
    """Mean saliency of a cluster's members in a frame above which the frame votes for the cluster."""
    votes: Share = 0.75
    """Share of the frames whose votes make a cluster foreground."""
    places: Weight = 0.0
    """Weight of a frame's own saliency, place by place, in the energies of its labels; 0: clusters' votes alone, as in
    the paper."""
    neutral: Share = 0.4
    """Saliency of a place, as a share of its frame's peak, that speaks neither for an object nor against one."""
    shared: bool = False
    """Votes and labels go by the saliency that all frames of the fit share, regressed on descriptors."""

    @property
    def own_places(self) -> bool:
        """Whether a frame must have saliency of its own to be labelled."""
        return self.places > 0 and not self.shared


class TemporalSettings(_Section):
    """How a video's labels are made steady in time; pictures have none."""

    window: Annotated[int, Field(ge=0, le=16)] = 0
    """Frames before and after each one that its energies are averaged with, along optical flow; 0: none."""


class ClusterSettings(_Section):
    """The two clusterings (paper section 4)."""

    method: ClusteringMethod = "kmeans"
    """What finds the clusters; spherical k-means goes by cosines, spectral clustering uses Nyström's approximation."""
    parts: Annotated[int, Field(ge=1, le=255)] = 4
    frames: Count = 64
    """Frames of all inputs together that the codebook is fitted on."""
    sample_interval: Count = 100
    """Every Nth descriptor of a frame joins the fit."""
    max_clusters: Count = 14
    elbow: Share | None = 0.975
    """The first k whose mean squared distance exceeds this share of the one before is used; None: the largest."""
    iterations: Rounds = 300
    restarts: Rounds = 10
    prior: Weight = 0.0
    """Weight of a known body region against a part's own descriptors, in units of the mean part's number of
    descriptors; 0: plain k-means, as in the paper. Only the bundled backbone knows regions."""


class CrfSettings(_Section):
    """The fully connected CRF (Krähenbühl and Koltun; constants of the paper's code)."""

    iterations: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Mean-field iterations; 0 keeps the parts as assigned."""
    gaussian_sxy: Deviation = 3.0
    """Standard deviation of the smoothness kernel, processed pixels."""
    gaussian_weight: Weight = 50.0
    bilateral_sxy: Deviation = 5.0
    """Standard deviation of the appearance kernel in space, processed pixels."""
    bilateral_srgb: Deviation = 13.0
    """Standard deviation of the appearance kernel in colour, grey levels of 0..255."""
    bilateral_weight: Weight = 15.0
    unary_px: Count | None = None
    """Side of the cells to which unary energies are interpolated from the patches' centres, processed pixels; none:
    the patches' grid is stretched over the picture, and each pixel has its nearest patch's (paper's code). They count
    without the CRF as well."""


class PictureSettings(_Section):
    """Sets of pictures: co-segmentation and part co-segmentation (constants of the paper's code)."""

    fit: Count | None = None
    """Pictures that clusters are fitted on, evenly spread; none: all, as in the paper, up to 2 GB of descriptors."""
    refine: MaskRefinement = "grabcut"
    """What aligns a co-segmentation's mask with the picture's edges."""
    grabcut_iterations: Rounds = 5
    grabcut_erosion: Annotated[int, Field(ge=1, le=99)] = 7
    """Side of the square that erodes foreground and background, processed pixels."""
    remove_outliers: bool = False
    """Leave pictures out of a co-segmentation that are unlike the others."""
    outlier_similarity: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.7
    """Cosine similarity to the mean class token below which a picture is an outlier."""
    crop_augmentations: Annotated[int, Field(ge=0)] = 0
    """Random crops of each picture, each with its mirror image, that join the fit of the parts."""
    crop_size: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Sides of a crop as a share of the picture's."""
    three_stages: bool = False
    """Find parts by the elbow first, and keep what those cover that occur in every picture."""
    stage_elbow: Share = 0.94
    """The elbow of those first parts."""


class InputSettings(_Section):
    """Which frames of an input are processed."""

    every: Count = 1
    """Process every Nth frame."""
    start: Seconds | None = None
    """Seconds from the first frame; none: from the beginning."""
    end: Annotated[Seconds, Field(gt=0)] | None = None
    """Seconds from the first frame; none: to the end."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 25.0
    """Frame rate of a directory of frames."""
    strict: bool = False
    """Damage in a video is an error; otherwise decoding continues behind it, and lost frames are counted."""

    @model_validator(mode="after")
    def _start_before_end(self) -> InputSettings:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"start ({self.start} s) must be before end ({self.end} s)")
        return self


class RenderSettings(_Section):
    """How the parts are painted."""

    style: Style = "overlay"
    alpha: Share = 0.6
    """Opacity of the colours over the picture."""
    palette: PaletteName = "vivid"
    crf: Annotated[int, Field(ge=0, le=51)] = 18
    """Constant rate factor of the H.264 encoder: 0 is lossless, 18 hardly differs from the source."""


class RunSettings(_Section):
    """How the work is spread over the machine; the seed, and in the last bits device and backend, decide labels."""

    device: Device = "auto"
    backend: Backend = "auto"
    """Library that runs the ViT; auto: OpenVINO on the CPU where it is installed, else torch."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    batch: Count | None = None
    """Frames that go through the ViT together; none: as many as fit a memory budget."""
    queue_depth: Count = 2
    """Items that wait between two stages at most."""
    max_memory: ByteSize | None = None
    """Resident memory that a run on videos stays below, by a smaller batch, shorter queues and what of the fit's
    descriptors is read from the disk; none: four fifths of what the machine or its control group has."""


class Settings(_Section):
    """All settings of a run; where a preset is named, its values stand for those that aren't given."""

    preset: Preset | None = None
    """Settings that trade exactness for speed: a file of `configs/`."""
    model: str = "auto"
    """A model's name, `auto`, or the path of a local .safetensors or .pth file."""
    model_heads: Count | None = None
    """Attention heads of a local model whose file doesn't say and doesn't let it be inferred."""
    features: FeatureSettings = FeatureSettings()
    keyframes: KeyframeSettings = KeyframeSettings()
    saliency: SaliencySettings = SaliencySettings()
    temporal: TemporalSettings = TemporalSettings()
    cluster: ClusterSettings = ClusterSettings()
    crf: CrfSettings = CrfSettings()
    pictures: PictureSettings = PictureSettings()
    input: InputSettings = InputSettings()
    render: RenderSettings = RenderSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="before")
    @classmethod
    def _filled_by_preset(cls, values: Any) -> Any:
        name = values.get("preset") if isinstance(values, Mapping) else None
        if name not in PRESETS:
            return values
        merged = read_yaml(preset_file(name))
        _merge(merged, values)
        return merged


PRESETS: tuple[Preset, ...] = get_args(Preset)
"""Every preset, the more exact first."""


class _SettingsLoader(yaml.SafeLoader):
    """Plain values only: no objects, and no aliases, by which a few lines unfold to terabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse an alias; all else as PyYAML has it."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) aren't read; write the value itself")
        return super().compose_node(parent, index)


Overrides = Mapping[str, Any]
"""Settings by dotted name (`features.stride`); None means not given."""


def load_settings(file: Path | None = None, overrides: Overrides | None = None) -> Settings:
    """Settings from the defaults, a preset, a YAML file and single values; the later beats the earlier.

    Args:
        file: YAML file with any part of `Settings`.
        overrides: values by dotted name; those that are None are not given. Either may name the `preset`.

    Raises:
        UsageError: the file can't be read, a key is unknown or a value is out of range.

    >>> load_settings(overrides={"features.stride": 8}).features.stride
    8
    """
    return with_values(_validated(read_yaml(file) if file is not None else {}), overrides or {})


def with_values(settings: Settings, overrides: Overrides) -> Settings:
    """The same settings with some values changed, by dotted name; those that are None are not given.

    >>> with_values(Settings(), {"features.stride": 2, "run.seed": None}).features.stride
    2
    """
    merged = settings.model_dump(exclude_unset=True)
    for name, value in overrides.items():
        if value is not None:
            _merge(merged, _nest(name.split("."), value))
    return _validated(merged)


def with_defaults(settings: Settings, *presets: Mapping[str, Any]) -> Settings:
    """The same settings, where what nobody has set comes from presets: a model's own, then a codebook's.

    Args:
        settings: values that were given stay as they are.
        presets: nested values; a later one beats an earlier one.

    >>> given = Settings.model_validate({"features": {"layer": 9}})
    >>> filled = with_defaults(given, {"features": {"layer": 3, "stride": 8}})
    >>> filled.features.layer, filled.features.stride
    (9, 8)
    """
    merged: dict[str, Any] = {}
    for values in (*presets, settings.model_dump(exclude_unset=True)):
        _merge(merged, values)
    return _validated(merged)


def _validated(values: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: the file can't be read, isn't YAML or isn't a mapping.
    """
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"config file '{file}' has more than {_MAX_FILE_BYTES:,} bytes; expected some settings")
        content = yaml.load(file.read_text(encoding="utf-8"), _SettingsLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config file '{file}' can't be read: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        # PyYAML's readers of dates and numbers raise whatever Python does.
        raise UsageError(f"config file '{file}' is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"config file '{file}' holds a {type(content).__name__}, expected a mapping of settings")
    return content


def preset_file(name: str) -> Path:
    """The path of a file of `configs/`, in a checkout or an installed package.

    Raises:
        UsageError: there is no such preset.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        file = folder / f"{name}.yaml"
        if file.is_file():
            return file
    raise UsageError(f"there is no preset named '{name}'")


def bundled_settings(preset: Preset | None) -> list[dict[str, Any]]:
    """The bundled backbone's own settings, and then what a preset changes in them."""
    return [read_yaml(preset_file(name)) for name in ("bundled", *(["bundled_draft"] if preset == "draft" else []))]


def dotted(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values by dotted name.

    >>> dotted({"model": "auto", "features": {"stride": 8}})
    {'model': 'auto', 'features.stride': 8}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= dotted(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat


def _nest(keys: list[str], value: object) -> dict[str, Any]:
    return {keys[0]: _nest(keys[1:], value) if len(keys) > 1 else value}


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, Mapping) else value


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    name = ".".join(f"{part:.60}" for part in location)
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{name}'{_nearest(location)}"
    message = first["msg"].removeprefix("Value error, ")
    where = f"setting '{name}': " if name else "settings: "
    return f"{where}{message}{_got(first['input'])}"


def _got(value: object) -> str:
    if isinstance(value, dict | BaseModel):
        return ""
    try:
        return f", got {reprlib.repr(value)}"
    except ValueError:
        # Python doesn't write out integers of thousands of digits; YAML reads them where they are hexadecimal.
        return ", got a number of thousands of digits"


def _nearest(location: list[str]) -> str:
    model: Any = Settings
    for key in location[:-1]:
        model = model.model_fields[key].annotation
    close = difflib.get_close_matches(location[-1], list(model.model_fields), n=1, cutoff=0.0)
    return f"; the nearest known one is '{'.'.join([*location[:-1], *close])}'"
