"""Small films and pictures that tests make themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray


def picture(number: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture whose grey level tells its number, with a red left and a blue lower edge to see which side is up."""
    height, width = size_hw
    rgb = np.full((height, width, 3), 40 + 5 * number, dtype=np.uint8)
    if min(size_hw) >= 16:
        rgb[:, : width // 4] = (220, 30, 30)
        rgb[-(height // 4) :] = (30, 30, 220)
    return rgb


@dataclass
class Film:
    """What a test film is made of."""

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
    # MP4 tells a stream's start in a unit of its own, usually 1/1000 s.
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
    """A function that writes a film: its file's name, then what differs from `Film`'s defaults."""

    def make(name: str = "film.mp4", **changes: Any) -> Path:
        return write_film(tmp_path / name, Film(**changes))

    return make


@pytest.fixture
def make_picture() -> Callable[[int, tuple[int, int]], NDArray[np.uint8]]:
    """A function from a number and a size to a picture."""
    return picture


@pytest.fixture
def read_times() -> Callable[[Path], list[Fraction]]:
    """A function that gives the times of a file's frames in seconds, as PyAV decodes them."""

    def times(path: Path) -> list[Fraction]:
        with av.open(str(path)) as container:
            return [frame.pts * frame.time_base for frame in container.decode(video=0)]

    return times


@pytest.fixture
def read_audio() -> Callable[[Path], list[list[tuple[Fraction, bytes]]]]:
    """A function that gives each audio stream's packets with their times in seconds."""

    def packets(path: Path) -> list[list[tuple[Fraction, bytes]]]:
        with av.open(str(path)) as container:
            found: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in container.streams.audio}
            for packet in container.demux(*container.streams.audio):
                if packet.size:
                    found[packet.stream_index].append((packet.pts * packet.time_base, bytes(packet)))
            return list(found.values())

    return packets
