"""Seed corpus: small videos in all containers, a finished and two interrupted runs, weights, pictures."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TINY_MODEL = Path(__file__).resolve().parents[1] / "data" / "parity" / "vit.safetensors"
RESULT_FRAMES = 20
SETTINGS = (
    "cluster: {sample_interval: 3, restarts: 1, iterations: 20}\nsaliency: {threshold: 0.35}\ncrf: {iterations: 2}\n"
)
"""Settings with which a case takes 0.2 s."""

_FILMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("h264.mp4", {"codec": "libx264", "options": {"g": "3"}, "audio": "aac"}),
    ("frames.mp4", {"codec": "libx264", "options": {"bf": "0"}, "container": {"movflags": "frag_keyframe+empty_moov"}}),
    ("fast.mp4", {"codec": "mpeg4", "options": {}, "container": {"movflags": "+faststart"}}),
    ("turned.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}, "rotation": 90}),
    ("png.mov", {"codec": "png", "pix_fmt": "rgb24", "options": {}}),
    ("h264.mkv", {"codec": "libx264", "options": {"g": "3"}, "audio": "flac"}),
    ("ffv1.mkv", {"codec": "ffv1", "pix_fmt": "bgra", "options": {}}),
    ("vp9.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}, "audio": "libopus"}),
    ("vp8.webm", {"codec": "libvpx", "options": {"deadline": "realtime"}}),
    ("mjpeg.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    ("mpeg4.avi", {"codec": "mpeg4", "options": {}, "audio": "mp3"}),
    ("moving.gif", {"codec": "gif", "pix_fmt": "rgb8", "options": {}}),
    ("mpeg2.ts", {"codec": "mpeg2video", "options": {"bf": "0"}, "audio": "mp2"}),
    ("h264.ts", {"codec": "libx264", "options": {"g": "3"}}),
    ("h264.flv", {"codec": "libx264", "options": {"bf": "0"}}),
    ("mpeg1.mpg", {"codec": "mpeg1video", "options": {}}),
    ("raw.h264", {"codec": "libx264", "options": {"bf": "0"}}),
    ("raw.y4m", {"codec": "wrapped_avframe", "options": {}}),
    ("theora.ogg", {"codec": "libtheora", "options": {}}),
    ("wmv.asf", {"codec": "wmv2", "options": {}}),
    ("hevc.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1"}}),
    ("ten.mp4", {"codec": "libx264", "pix_fmt": "yuv420p10le", "options": {}, "colour": (9, 1, 9, 16)}),
)


@dataclass(frozen=True)
class Corpus:
    """Valid inputs to mutate.

    Attributes:
        options: fast settings for commands.
        films: videos as bytes, by name.
        clip: a valid video of `RESULT_FRAMES` frames.
        result: its finished result.
        codebook: a valid codebook.
        unfinished: outputs of runs interrupted in pass 1 and in pass 2, and of one whose shards are there.
        pictures: picture files as bytes, by name.
        pth: the tiny model as a .pth file.
    """

    options: tuple[object, ...]
    films: Mapping[str, bytes]
    clip: Path
    result: Path
    codebook: Path
    unfinished: tuple[Path, ...]
    pictures: Mapping[str, bytes]
    pth: bytes


def make_corpus(folder: Path) -> Corpus:
    """Create the corpus in a folder; this also imports and compiles all that commands need."""
    from pipeline.tasks.render import render

    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "small.yaml"
    settings.write_text(SETTINGS)
    options = ("--model", TINY_MODEL, "--load-size", 48, "--stride", 8, "--parts", 3, "--device", "cpu",
               "--fit-frames", 3, "--config", settings)  # fmt: skip
    clip = folder / "walk.mp4"
    _film(clip, {"codec": "libx264", "options": {"bf": "0"}, "frames": RESULT_FRAMES})
    films = {}
    for name, facts in _FILMS:
        # The encoders depend on the build of FFmpeg.
        with contextlib.suppress(ValueError):
            films[name] = _film(folder / name, facts)
    _segment(clip, folder / "whole")
    # Labels read from disk have another array type than computed ones, so numba compiles for both.
    render(folder / "whole" / "walk", folder / "again.mp4")
    unfinished = []
    for number, frames in enumerate((2, RESULT_FRAMES - 1)):
        output = folder / f"unfinished-{number}"
        _segment(clip, output, stop_after=frames)
        unfinished.append(output)
    unfinished.append(_planned(clip, folder / "planned"))
    return Corpus(
        options, films, clip, folder / "whole" / "walk", folder / "whole" / "codebook.safetensors", tuple(unfinished),
        _pictures(), _pth(),
    )  # fmt: skip


def scene(number: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A disc of two colours that moves over a striped background."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    picture = np.stack([90 + 40 * np.sin(x / 5), 120 + 0 * x, 90 + 40 * np.cos(y / 7)], -1).astype(np.uint8)
    disc = (x - width * (0.3 + 0.03 * number)) ** 2 + (y - height / 2) ** 2 < (height * 0.3) ** 2
    picture[disc & (y < height / 2)] = (220, 60, 40)
    picture[disc & (y >= height / 2)] = (40, 60, 230)
    return picture


def zero_bomb(mib: int) -> bytes:
    """A deflate stream of `mib` MiB of zeros, built without compressing them (decompression bomb)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first * mib + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def write_safetensors(header: bytes, data: bytes, said: int | None = None) -> bytes:
    """A safetensors file with any header and any stated header length."""
    return struct.pack("<Q", len(header) if said is None else said) + header + data


class _Stop:
    """A progress display that interrupts the run after some frames."""

    def __init__(self, frames: int | None) -> None:
        self._left = frames

    def start(self, name: str, total: int | None, unit: str = "frame") -> None: ...
    def finish(self) -> None: ...
    def say(self, message: str) -> None: ...

    def advance(self, frames: int = 1, name: str = "") -> None:
        from pipeline.errors import Interrupted

        if self._left is not None:
            self._left -= frames
            if self._left < 0:
                raise Interrupted


def _planned(clip: Path, output: Path) -> Path:
    from pipeline.distributed.pools import Workers
    from pipeline.tasks.shard import shard

    _segment(clip, output, workers=Workers(shard_frames=16), plan_only=True)
    shard(output, 0, 1)
    return output


def _segment(clip: Path, output: Path, stop_after: int | None = None, **options: Any) -> None:
    from pipeline.config import load_settings
    from pipeline.errors import Interrupted
    from pipeline.tasks.segment import segment

    overrides = {"model": str(TINY_MODEL), "features.load_size": 48, "features.stride": 8, "cluster.parts": 3,
                 "run.device": "cpu", "cluster.frames": 3}  # fmt: skip
    settings = load_settings(output.parent / "small.yaml", overrides)
    with contextlib.suppress(Interrupted):
        segment([clip], output, settings, progress=_Stop(stop_after), **options)


def _film(file: Path, facts: Mapping[str, Any]) -> bytes:
    import av

    with av.open(str(file), "w", container_options=dict(facts.get("container", {}))) as container:
        stream = container.add_stream(facts["codec"], rate=25, options=facts["options"])
        stream.height, stream.width = 48, 64
        stream.pix_fmt = facts.get("pix_fmt", "yuv420p")
        if "rotation" in facts:
            stream.set_display_rotation(facts["rotation"])
        if "colour" in facts:
            context = stream.codec_context
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = facts["colour"]
        sound = container.add_stream(facts["audio"], rate=48000) if "audio" in facts else None
        for number in range(facts.get("frames", 6)):
            frame = av.VideoFrame.from_ndarray(scene(number, (48, 64)), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _add_sound(container, sound)
    return file.read_bytes()


def _add_sound(container: Any, stream: Any) -> None:
    import av

    form = stream.codec_context.format.name
    for start in range(0, 9600, 960):
        wave = (np.sin((start + np.arange(960)) * 0.05) * 8000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, stream.layout.nb_channels)[None], "s16", stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        for ready in av.AudioResampler(
            form, stream.layout.name, 48000, stream.codec_context.frame_size or 960
        ).resample(frame):
            container.mux(stream.encode(ready))
    container.mux(stream.encode(None))


def _pictures() -> dict[str, bytes]:
    from PIL import Image

    whole = Image.fromarray(scene(3, (48, 64)))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "a.png": (whole, {}),
        "palette.png": (whole.quantize(16), {"transparency": 3}),
        "sixteen.png": (Image.fromarray(scene(3, (48, 64))[..., 0].astype(np.uint16) * 257), {}),
        "a.jpg": (whole, {"exif": exif}),
        "progressive.jpg": (whole, {"progressive": True}),
        "cmyk.jpg": (whole.convert("CMYK"), {}),
        "a.tif": (whole, {"compression": "tiff_deflate"}),
        "lzw.tiff": (whole, {"compression": "tiff_lzw"}),
        "plain.tif": (whole, {}),
        "cmyk.tif": (whole.convert("CMYK"), {}),
        "a.webp": (whole, {"lossless": True}),
        "lossy.webp": (whole, {"exif": exif}),
        "moving.webp": (whole, {"save_all": True, "append_images": [whole.rotate(9)], "duration": 40}),
        "a.bmp": (whole, {}),
        "a.ppm": (whole, {}),
        "alpha.png": (whole.convert("RGBA"), {"icc_profile": b"not a profile" * 9}),
    }
    found = {}
    for name, (image, options) in kinds.items():
        data = io.BytesIO()
        image.save(data, {"jpg": "JPEG", "tif": "TIFF"}.get(name.rsplit(".", 1)[1], name.rsplit(".", 1)[1]), **options)
        found[name] = data.getvalue()
    return found


def _pth() -> bytes:
    import torch
    from safetensors.torch import load_file

    data = io.BytesIO()
    torch.save({"teacher": load_file(TINY_MODEL)}, data)
    return data.getvalue()
