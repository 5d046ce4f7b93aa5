"""Whether browsers play a video file with the times that its frames have here."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.clock import STEADY
from pipeline.media.container import open_container, video_stream
from pipeline.media.source import Source
from pipeline.media.video_source import VideoSource

_CONTAINERS = {"mp4", "webm"}
_CODECS = {"h264", "vp8", "vp9", "av1"}
_PIXELS = {"yuv420p", "yuvj420p", "yuv444p", "yuvj444p"}


def is_playable(source: Source) -> bool:
    """Whether a browser can be given an input as it is; pictures, damage and clocks that jump need a clip of their own.

    Browsers may still refuse it: which codecs they have depends on how they were built.
    """
    if not isinstance(source, VideoSource) or not Path(source.path).is_file():
        return False
    try:
        info = source.probe()
        with open_container(source.path) as container:
            context = video_stream(container, source.path).codec_context
            known = context.name in _CODECS or context.codec.canonical_name in _CODECS
            names = set(container.format.name.split(","))
            return known and bool(names & _CONTAINERS) and context.pix_fmt in _PIXELS and info.clock == STEADY
    except InputError:
        return False
