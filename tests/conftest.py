"""Shared fixtures: paths of real clips, a tiny ViT, synthetic clips and pictures."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.config import Settings, load_settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as processors: more threads would wait for each other. Before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A deadline would assert a time, which a busy machine decides.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ClipMaker = Callable[..., Path]

GRAPHS = 40
"""Compiled graphs that are kept, each of some 15 MiB."""


def pytest_collection_finish() -> None:
    """What the libraries hold is no garbage: to look through it again and again takes some percent of the time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_of_blas() -> Iterator[None]:
    """As in the program: pytest's plugins have loaded NumPy before it could say so."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of real clips and goldens next to a checkout; it isn't part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VIDPARTS_SHARED", default))
    if not (folder / "parity").is_dir():
        pytest.skip(f"real clips and goldens are not at {folder}; set VIDPARTS_SHARED to where they are")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temporary cache directory, shared by all tests and workers, so that the user's cache isn't touched."""
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
        patch.setenv("XDG_CACHE_HOME", str(folder))
        # Only a power cut would show whether files are on the disk; waiting for it takes a tenth of the tests' time.
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _short_look_at_the_processors() -> Iterator[None]:
    """A dry run keeps all processors busy for half a second; its figures aren't asserted."""
    from pipeline.forecast.cost import free_processors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(free_processors, "__defaults__", (0.02,))
        yield


@pytest.fixture(scope="session")
def graph_memory() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`open_graph` and `compile_graph` that remember what they made for equal weights: a graph takes half a second."""
    from pipeline.features import openvino_backbone

    open_graph, compile_graph = openvino_backbone.open_graph, openvino_backbone.compile_graph
    graphs: dict[tuple[object, ...], Any] = {}
    compiled: dict[tuple[object, ...], Any] = {}

    def opened(backbone: Any, fingerprint: str, reading: Any) -> Any:
        key = (fingerprint, backbone.config, reading)
        if key not in graphs:
            # The backbone is kept, for the graph shares its memory.
            graphs[key] = open_graph(backbone, fingerprint, reading), backbone
        return graphs[key][0]

    def remembered(core: Any, *key: object) -> Any:
        graph = compiled.pop(key, None)
        if graph is None:
            graph = compile_graph(core, *key)
            if len(compiled) == GRAPHS:
                del compiled[next(iter(compiled))]
        # Behind those that were used before it.
        compiled[key] = graph
        return graph

    return opened, remembered


@pytest.fixture(autouse=True)
def remembered_graphs(graph_memory: tuple[Callable[..., Any], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles a graph once for all tests of a process; tests of the compiling itself take another fixture's place."""
    for name, function in zip(("open_graph", "compile_graph"), graph_memory, strict=True):
        monkeypatch.setattr(f"pipeline.features.openvino_backbone.{name}", function)


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Numeric goldens of the paper's pipeline on a tiny ViT with seeded random weights."""
    return Path(__file__).resolve().parent / "data" / "parity"


@pytest.fixture(scope="session")
def tiny_model(parity_dir: Path) -> Path:
    """A ViT with 12 blocks, 48 channels, patch size 8, DINO's parameter names and random weights."""
    return parity_dir / "vit.safetensors"


def moving_scene(frames: int, size_hw: tuple[int, int] = (48, 64)) -> list[NDArray[np.uint8]]:
    """A disc of two colours that moves over a striped background."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    pictures = []
    for number in range(frames):
        picture = np.stack([90 + 40 * np.sin(x / 5), 120 + 0 * x, 90 + 40 * np.cos(y / 7)], -1).astype(np.uint8)
        centre_x, centre_y = width * (0.3 + 0.4 * number / max(1, frames)), height * 0.5
        disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 < (height * 0.3) ** 2
        picture[disc & (y < centre_y)] = (220, 60, 40)
        picture[disc & (y >= centre_y)] = (40, 60, 230)
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="session")
def make_clip() -> ClipMaker:
    """Write frames as a clip: `make_clip(path, frames=8, size_hw=(48, 64), pts=None)`."""

    def write(
        path: Path, frames: int = 8, size_hw: tuple[int, int] = (48, 64), pts: Sequence[int] | None = None
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            for number, picture in enumerate(moving_scene(frames, size_hw)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = pts[number] if pts else number * 40, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def picture(number: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture whose grey level encodes its number, with a red left and a blue lower edge to show its orientation."""
    height, width = size_hw
    rgb = np.full((height, width, 3), 40 + 5 * number, dtype=np.uint8)
    if min(size_hw) >= 16:
        rgb[:, : width // 4] = (220, 30, 30)
        rgb[-(height // 4) :] = (30, 30, 220)
    return rgb


@dataclass
class Film:
    """Properties of a test video."""

    frames: int = 8
    size_hw: tuple[int, int] = (48, 64)
    codec: str = "libx264"
    container: str | None = None
    pix_fmt: str = "yuv420p"
    time_base: Fraction = Fraction(1, 12800)
    pts: Sequence[int] | None = None
    rate: int = 25
    rotation: int | None = None
    hflip: bool = False
    colour: tuple[int, int, int, int] | None = None
    """Matrix, range, primaries, transfer."""
    aspect: Fraction | None = None
    audio: str | None = None
    audio_seconds: float = 0.5
    videos: int = 1
    options: dict[str, str] = field(default_factory=lambda: {"g": "4"})
    container_options: dict[str, str] = field(default_factory=dict)
    pictures: Sequence[NDArray[np.uint8]] | None = None

    def times(self) -> list[int]:
        step = round(1 / (self.rate * self.time_base))
        return list(self.pts) if self.pts is not None else [step * number for number in range(self.frames)]


def write_film(path: Path, film: Film) -> Path:
    with av.open(str(path), "w", format=film.container, container_options=_container_options(path, film)) as container:
        streams = [_add_video(container, film) for _ in range(film.videos)]
        sound = container.add_stream(film.audio, rate=48000) if film.audio else None
        for number, pts in enumerate(film.times()):
            rgb = picture(number, film.size_hw) if film.pictures is None else film.pictures[number]
            for shade, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(np.roll(rgb, shade, axis=2), format="rgb24")
                if film.pix_fmt != "rgb24":
                    frame = frame.reformat(format=film.pix_fmt, **_target(film))
                frame.pts, frame.time_base = pts, film.time_base
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
        if sound is not None:
            _add_tone(container, sound, film.audio_seconds)
    return path


def _container_options(path: Path, film: Film) -> dict[str, str]:
    # MP4 stores a stream's start in the movie time scale, usually 1/1000 s.
    precise = {"movie_timescale": "12800"} if path.suffix in (".mp4", ".mov") else {}
    return {**precise, **film.container_options}


def _add_video(container: Any, film: Film) -> Any:
    stream = container.add_stream(film.codec, rate=film.rate, options=film.options)
    stream.height, stream.width = film.size_hw
    stream.pix_fmt = film.pix_fmt
    stream.codec_context.time_base = film.time_base
    if film.rotation is not None or film.hflip:
        stream.set_display_rotation(film.rotation or 0, hflip=film.hflip)
    if film.aspect is not None:
        stream.codec_context.sample_aspect_ratio = film.aspect
    if film.colour is not None:
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = film.colour
    return stream


def _target(film: Film) -> dict[str, int]:
    if film.colour is None:
        return {}
    return {"dst_colorspace": {1: 1, 5: 5, 6: 5, 9: 9}[film.colour[0]], "dst_color_range": film.colour[1]}


def _add_tone(container: Any, stream: Any, seconds: float) -> None:
    layout, samples = stream.layout.name, 1024
    channels = stream.layout.nb_channels
    for start in range(0, int(seconds * 48000), samples):
        wave = np.sin((start + np.arange(samples)) * 0.05).astype(np.float32) * 0.3
        frame = av.AudioFrame.from_ndarray(np.tile(wave, (channels, 1)), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture
def make_film(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a video, given its file name and what differs from `Film`'s defaults."""

    def make(name: str = "film.mp4", **changes: Any) -> Path:
        return write_film(tmp_path / name, Film(**changes))

    return make


@pytest.fixture
def make_picture() -> Callable[[int, tuple[int, int]], NDArray[np.uint8]]:
    """A function that returns a picture, given its number and size."""
    return picture


@pytest.fixture(scope="session")
def small_values(tiny_model: Path) -> dict[str, Any]:
    """Settings with which a tiny clip takes a second: the goldens' model at their load size."""
    return {
        "model": str(tiny_model),
        "features.load_size": 48,
        "features.stride": 8,
        "saliency.threshold": 0.35,
        "cluster.parts": 3,
        "cluster.sample_interval": 3,
        "cluster.restarts": 2,
        "run.device": "cpu",
    }


@pytest.fixture
def small_settings(small_values: dict[str, Any]) -> Settings:
    """The same as `Settings`."""
    return load_settings(overrides=small_values)


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the batches of the ViT."""
    from pipeline.features.extractor import Extractor

    found: list[int] = []
    real = Extractor.extract

    def counted(self: Extractor, images: list, *, saliency: bool = False) -> object:
        found.append(len(images))
        return real(self, images, saliency=saliency)

    monkeypatch.setattr(Extractor, "extract", counted)
    return found
