"""The label store: written and read chunk by chunk while a video streams through.

While it grows, a store lies beside its place as `.labels.zarr.part`, with a journal `frames.jsonl` of one line a
frame. A chunk is flushed to disk before its frames enter the journal, so after a crash the journal's frames are
what is safe; `LabelWriter.resume` continues behind them. The last chunk may be short: it is written again when
more frames have come, in one step, so that those it held stay safe.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.errors import InputError, OutputError
from pipeline.files import link, output_errors, partial_path, publish, remove, sync
from pipeline.geometry import resize_labels
from pipeline.media.label_journal import append_journal, read_journal, restart_journal
from pipeline.media.label_layout import ARRAY_FILE, LabelAttributes, StoreLayout, chunk_path, read_chunk, read_layout

if TYPE_CHECKING:
    import zarr

CHUNK_FRAMES = 16
CHECKPOINT_S = 30.0
"""Seconds after which a chunk that isn't full is synced to disk: at seconds a frame, 16 frames take minutes."""

_JOURNAL = "frames.jsonl"
_ZSTD_LEVEL = 5


class LabelWriter:
    """Appends label maps to a store; a context manager that leaves a complete store or none.

    One chunk is held in memory. With `keep_partial` an error leaves all frames written for a later `resume`; a
    crash leaves what was on the disk: whole chunks, and of a chunk that takes long what `CHECKPOINT_S` allows.
    """

    def __init__(
        self,
        path: Path,
        size_hw: tuple[int, int],
        source_size_hw: tuple[int, int],
        time_base: Fraction,
        parts: int,
        *,
        chunk_frames: int = CHUNK_FRAMES,
        keep_partial: bool = False,
    ) -> None:
        """Say what the store will be; nothing is written before it is entered.

        Args:
            path: the store's place; what is there is replaced when the new one is whole.
            size_hw: height and width of the label maps.
            source_size_hw: height and width of the source's upright frames.
            time_base: seconds per unit of pts.
            parts: the highest label.
            chunk_frames: frames that are compressed together.
            keep_partial: leave what is finished where it is when an error ends the writing.
        """
        self.path = path
        self.size_hw = size_hw
        self._source_size = source_size_hw
        self._time_base = time_base
        self._parts = parts
        self._chunk_frames = chunk_frames
        self._keep = keep_partial
        self._partial = partial_path(path)
        self._journal: list[tuple[int, str]] = []
        self._pending: list[NDArray[np.uint8]] = []
        self._in_chunks = self._on_disk = self._resumed = 0
        self._saved_at = time.monotonic()

    @property
    def frames(self) -> int:
        """Frames written so far, those of an interrupted writer included."""
        return len(self._journal)

    def resume(self) -> int:
        """Continue what an interrupted writer left; call before entering.

        Returns:
            How many frames are safe: the next one to `write` is that many from the start.
        """
        if not (self._partial / _JOURNAL).is_file():
            return 0
        entries = read_journal(self._partial / _JOURNAL)
        safe = self._readable_frames(entries)
        self._journal = entries[:safe]
        self._in_chunks = safe // self._chunk_frames * self._chunk_frames
        self._on_disk = self._resumed = safe
        self._pending = [labels for index, (_, labels) in enumerate(self.stored()) if index >= self._in_chunks]
        return safe

    def adopt(self, first: int, stores: Sequence[LabelStore]) -> None:
        """Put the frames of finished stores behind the first frames of an interrupted writer; `resume` finds them.

        Chunks are linked, and copied where that can't be.

        Args:
            first: how many frames of an interrupted writer stay.
            stores: with chunks as large as this one's, all but the last of them full.

        Raises:
            OutputError: it can't be written.
        """
        journal = self._partial / _JOURNAL
        entries = read_journal(journal)[:first] if first else []
        with output_errors(self.path):
            if not first:
                remove(self._partial)
            self._partial.mkdir(exist_ok=True)
            for store in stores:
                begin = len(entries) // self._chunk_frames
                for number in range(-(-len(store) // self._chunk_frames)):
                    link(chunk_path(store.path, number), chunk_path(self._partial, begin + number))
                entries += zip(store.pts, store.attributes.frame_names or [""] * len(store), strict=True)
            restart_journal(journal, entries)

    def stored(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Pts and labels of the frames that an interrupted writer left, in order; one chunk is held in memory."""
        entries = self._journal[: self._resumed]
        layout = self._layout(entries)
        for start in range(0, len(entries), self._chunk_frames):
            chunk = read_chunk(self._partial, layout, start // self._chunk_frames)
            for (pts, _), labels in zip(entries[start:], chunk, strict=False):
                yield pts, labels

    def __enter__(self) -> Self:
        """Create the store beside its place.

        Raises:
            OutputError: it can't be written.
        """
        with output_errors(self.path):
            if self._resumed:
                self._remove_unsafe()
            else:
                remove(self._partial)
                self._partial.mkdir()
            self._array = self._create()
            restart_journal(self._partial / _JOURNAL, self._journal)
            sync(self._partial.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the store and give it its name; after an error remove it, unless it is to be kept.

        Raises:
            OutputError: it can't be written, or holds no frame.
        """
        try:
            if kind is None:
                self._finish()
            elif self._keep:
                with suppress(OutputError):
                    self.checkpoint()
        finally:
            if not self._keep:
                remove(self._partial)

    def write(self, pts: int, labels: NDArray[np.uint8], name: str = "") -> None:
        """Append one frame's labels.

        Args:
            pts: the frame's time, later than the previous one's.
            labels: uint8 [height, width], 0 background, 1..K parts.
            name: the frame's name, for frames of a directory.

        Raises:
            OutputError: they can't be written.
        """
        if labels.shape != self.size_hw or labels.dtype != np.uint8:
            raise ValueError(f"LabelWriter.write: got {labels.dtype} {labels.shape}, expected uint8 {self.size_hw}")
        if int(labels.max()) > self._parts:
            raise ValueError(f"LabelWriter.write: got label {labels.max()}, expected at most {self._parts}")
        if self._journal and pts <= self._journal[-1][0]:
            raise ValueError(f"LabelWriter.write: pts {pts} does not follow {self._journal[-1][0]}")
        self._pending.append(labels.copy())
        self._journal.append((pts, name))
        if len(self._pending) == self._chunk_frames or time.monotonic() - self._saved_at > CHECKPOINT_S:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Sync all frames written so far to disk, the last ones as a short chunk.

        Raises:
            OutputError: they can't be written.
        """
        self._saved_at = time.monotonic()
        if self._on_disk == self.frames:
            return
        with output_errors(self.path):
            self._array.resize((self.frames, *self.size_hw))
            self._array[self._in_chunks :] = np.stack(self._pending)
            _sync_chunk(self._partial, self._in_chunks // self._chunk_frames)
            append_journal(self._partial / _JOURNAL, self._journal[self._on_disk :])
        self._on_disk = self.frames
        if len(self._pending) == self._chunk_frames:
            self._in_chunks = self.frames
            self._pending.clear()

    def _readable_frames(self, entries: list[tuple[int, str]]) -> int:
        try:
            layout = self._layout(entries)
        except ValidationError:
            return 0
        for start in range(0, len(entries), self._chunk_frames):
            try:
                read_chunk(self._partial, layout, start // self._chunk_frames)
            except InputError:
                return start
        return len(entries)

    def _remove_unsafe(self) -> None:
        """What was under way when the writer was interrupted; it will be written again."""
        (self._partial / ARRAY_FILE).unlink(missing_ok=True)
        for left in self._partial.rglob("*.partial"):
            remove(left)
        chunks = -(-self.frames // self._chunk_frames)
        for folder in (self._partial / "c").iterdir():
            if not folder.name.isdecimal() or int(folder.name) >= chunks:
                remove(folder)

    def _create(self) -> zarr.Array[Any]:
        import zarr
        from zarr.codecs import BytesCodec, ZstdCodec

        return zarr.create_array(
            store=zarr.storage.LocalStore(self._partial),
            shape=(self.frames, *self.size_hw),
            chunks=(self._chunk_frames, *self.size_hw),
            dtype="uint8",
            fill_value=0,
            serializer=BytesCodec(),
            compressors=ZstdCodec(level=_ZSTD_LEVEL, checksum=True),
            dimension_names=("frame", "row", "column"),
            # A chunk that isn't there is damage, never background.
            config={"write_empty_chunks": True},
            overwrite=False,
        )

    def _layout(self, entries: list[tuple[int, str]]) -> StoreLayout:
        names = tuple(name for _, name in entries)
        attributes = LabelAttributes(
            time_base=f"{self._time_base.numerator}/{self._time_base.denominator}",
            source_size=self._source_size,
            parts=self._parts,
            pts=tuple(pts for pts, _ in entries),
            frame_names=names if all(names) else (),
        )
        return StoreLayout((len(entries), *self.size_hw), self._chunk_frames, attributes)

    def _finish(self) -> None:
        self.checkpoint()
        if self.frames == 0:
            raise OutputError(f"{str(self.path)!r} is not written: no frame was selected; widen --start and --end")
        with output_errors(self.path):
            self._array.attrs.put(self._layout(self._journal).attributes.model_dump(mode="json"))
            sync(self._partial / ARRAY_FILE)
            (self._partial / _JOURNAL).unlink()
            sync(self._partial)
            publish(self._partial, self.path)


class LabelStore:
    """A finished store's labels, read chunk by chunk.

    Attributes:
        path: the store's directory.
        attributes: pts, time base, source size, parts and frame names, checked.
        size_hw: height and width of the label maps.
        layout: the store's description.
    """

    def __init__(self, path: Path, layout: StoreLayout, table: NDArray[np.uint8] | None = None) -> None:
        """Use `open_labels`; `layout` is the store's description, checked."""
        self.path = path
        self.attributes = layout.attributes
        self.size_hw = (layout.shape[1], layout.shape[2])
        self.layout = layout
        self._table = table
        self._chunk: tuple[int, NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return self.layout.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """One frame's labels, uint8 [height, width]; a negative index counts from the end.

        Raises:
            IndexError: there is no such frame.
            InputError: its chunk is damaged.
        """
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        number, offset = divmod(position, self.layout.chunk_frames)
        if self._chunk is None or self._chunk[0] != number:
            chunk = read_chunk(self.path, self.layout, number)
            self._chunk = (number, chunk if self._table is None else self._table[chunk])
        labels: NDArray[np.uint8] = self._chunk[1][offset]
        return labels

    @property
    def pts(self) -> tuple[int, ...]:
        """The frames' times in units of `time_base`."""
        return self.attributes.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of pts."""
        return self.attributes.seconds_per_unit

    @property
    def source_size_hw(self) -> tuple[int, int]:
        """Height and width of the source's upright frames."""
        return self.attributes.source_size

    @property
    def parts(self) -> int:
        """The highest label that may occur."""
        return self.attributes.parts

    def name(self, index: int) -> str:
        """A frame's name: that of a directory's frame, else its index in five digits."""
        return self.attributes.frame_names[index] if self.attributes.frame_names else f"{index:05d}"

    def frames(self) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
        """Index, pts and labels of every frame in order; one chunk is held in memory.

        Raises:
            InputError: a chunk is damaged.
        """
        for index, pts in enumerate(self.pts):
            yield index, pts, self[index]

    def full_frames(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Index and labels of every frame in order, as `frames`, at the source's size."""
        for index in range(len(self)):
            yield index, resize_labels(self[index], self.source_size_hw)


def open_labels(path: Path, table: NDArray[np.uint8] | None = None) -> LabelStore:
    """Open a label store for reading; its description is checked now, each chunk when it is read.

    Args:
        path: the store's directory.
        table: uint8 [256], the label that each stored label is read as; None: itself.

    Raises:
        InputError: there is no store, or it is damaged or of another kind.
    """
    return LabelStore(path, read_layout(path), table)


def _sync_chunk(store: Path, number: int) -> None:
    chunk = chunk_path(store, number)
    for place in (chunk, *chunk.parents[:3], store):
        sync(place)
