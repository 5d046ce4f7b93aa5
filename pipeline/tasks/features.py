"""Descriptors and saliency of pictures as arrays (paper section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Settings
from pipeline.features.extractor import Extractor
from pipeline.media.inputs import resolve_pictures
from pipeline.media.npz import open_npz
from pipeline.progress import Progress, Silent
from pipeline.runs.outputs import require_free
from pipeline.stages.engine import open_engine


def open_extractor(settings: Settings | None = None, progress: Progress | None = None) -> Extractor:
    """Load the model of the settings, and return an extractor of dense descriptors.

    Args:
        settings: the defaults if None.
        progress: told which model `auto` stands for.

    Raises:
        ModelError: the model can't be loaded.
    """
    return open_engine(settings or Settings(), progress or Silent()).extractor


def features(
    images: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Write descriptors and saliency of pictures as an npz file, one picture in memory at a time.

    Args:
        images: pictures, directories of pictures, globs or text files of paths.
        output: the .npz file: float32 `<stem>/descriptors` [rows, cols, channels] and `<stem>/saliency` [rows, cols].
        settings: the defaults if None; `features.log_bin` adds the bins.
        overwrite: replace a file that exists.
        progress: receives progress and messages.

    Returns:
        The pictures' names in the file.

    Raises:
        InputError: a picture can't be read.
        OutputError: the file exists or can't be written.
        ModelError: the model can't be loaded.
    """
    progress = progress or Silent()
    require_free([output], overwrite)
    pictures = resolve_pictures([str(image) for image in images])
    extractor = open_extractor(settings, progress)
    progress.start("features", len(pictures), "picture")
    with open_npz(output) as archive:
        for picture in pictures:
            found = extractor.extract([extractor.preprocess(picture.read())], saliency=True)
            archive.write(f"{picture.name}/descriptors", found.descriptors[0].cpu().numpy())
            assert found.saliency is not None
            archive.write(f"{picture.name}/saliency", found.saliency[0].cpu().numpy())
            progress.advance(name=picture.name)
    progress.finish()
    return [picture.name for picture in pictures]
