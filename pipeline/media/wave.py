"""Transcoding of sound: decoded samples laid out without gaps at their times, then encoded."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream

_TOLERANCE_S = Fraction(1, 100)
"""Times of packets are rounded, in Matroska to a millisecond; below this the samples alone keep the time."""
_LONGEST_SILENCE_S = 10
_CHUNK = 48_000


class Wave:
    """One track's samples on their way from one codec to another.

    Where the times of the input leap there is silence, where they overlap the later samples are cut: so the sound keeps
    to the picture whatever the encoder makes of times.
    """

    def __init__(self, target: AudioStream) -> None:
        """Say which stream of the clip they are for."""
        self._target = target
        self._rate: int = target.codec_context.sample_rate
        self._resampler: AudioResampler | None = None
        self._next: int | None = None

    def encode(self, packet: Packet[AudioStream], shift: Fraction) -> Iterator[Packet[AudioStream]]:
        """What the encoder makes of a packet of the input.

        Args:
            packet: the packet; one that can't be decoded is a gap.
            shift: seconds to add to its time.

        Raises:
            ValueError, av.FFmpegError: the encoder refuses it.
        """
        import av

        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError):
            # A broken packet is a gap in the sound; what follows keeps its time.
            return
        for frame in frames:
            at = None
            if frame.pts is not None and frame.time_base:
                at = round((frame.pts * frame.time_base + shift) * self._rate)
            for samples in self._resampled(frame):
                yield from self._place(samples, at)
                at = None

    def flush(self) -> Iterator[Packet[AudioStream]]:
        """What is left in the resampler and the encoder."""
        if self._resampler is not None:
            for samples in map(_samples, self._resampler.resample(None)):
                yield from self._append(samples)
        yield from self._target.encode(None)

    def _resampled(self, frame: AudioFrame) -> Iterator[NDArray[np.float32]]:
        from av.audio.resampler import AudioResampler

        if self._resampler is None:
            # Interleaved: of eight planes PyAV 18 and 19 see a ninth, which isn't there.
            self._resampler = AudioResampler(format="flt", layout=self._target.codec_context.layout, rate=self._rate)
        # Its samples are one line; their times are kept here.
        frame.pts = None
        yield from map(_samples, self._resampler.resample(frame))

    def _place(self, samples: NDArray[np.float32], at: int | None) -> Iterator[Packet[AudioStream]]:
        """Append samples at their place, in samples of the clip; None: behind the last ones."""
        if self._next is None:
            self._next = at or 0
        gap = 0 if at is None else at - self._next
        if abs(gap) <= _TOLERANCE_S * self._rate:
            gap = 0
        channels = self._target.codec_context.layout.nb_channels
        if gap > _LONGEST_SILENCE_S * self._rate:
            # A pause of hours needs no hours of silence: MP4 holds it as a length.
            self._next, gap = self._next + gap, 0
        while gap > 0:
            silent = min(gap, _CHUNK)
            yield from self._append(np.zeros(silent * channels, np.float32))
            gap -= silent
        yield from self._append(samples[max(0, -gap) * channels :])

    def _append(self, samples: NDArray[np.float32]) -> Iterator[Packet[AudioStream]]:
        from av import AudioFrame

        if samples.size:
            layout = self._target.codec_context.layout
            frame = AudioFrame.from_ndarray(samples[None], format="flt", layout=layout.name)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._next, Fraction(1, self._rate)
            self._next = (self._next or 0) + samples.size // layout.nb_channels
            yield from self._target.encode(frame)


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    """Interleaved samples, float32 [samples * channels]."""
    return np.asarray(frame.to_ndarray(), dtype=np.float32).reshape(-1)
