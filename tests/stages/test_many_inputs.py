"""The fit over many inputs: evenly spread ones of more inputs than it has frames, and all of fewer."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.cluster.feature_cache import KeptCache
from pipeline.config import Settings, with_values
from pipeline.media.inputs import resolve_inputs
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine
from pipeline.stages.fit import fit_codebook


@pytest.mark.parametrize(("inputs", "frames"), [(1000, 64), (40, 64)])
def test_a_thousand_inputs_are_sampled_evenly(
    tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings, inputs: int, frames: int
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    paths = [tmp_path / f"{number}.mp4" for number in range(inputs)]
    for path in paths:
        path.hardlink_to(clip)
    sources = resolve_inputs([str(path) for path in paths], 25)
    engine = open_engine(with_values(small_settings, {"cluster.frames": frames}), Silent())
    (tmp_path / "fit").mkdir()
    with KeptCache(tmp_path / "fit") as cache:
        fitted = fit_codebook(sources, engine, cache, Silent(), [])
        sampled = [number for number in range(inputs) if any((number, index) in cache for index in range(3))]
        assert len(cache) == frames
    assert fitted.codebook.origin.frames == frames
    if inputs < frames:
        assert sampled == list(range(inputs))
    else:
        gaps = {after - before for before, after in pairwise(sampled)}
        assert len(sampled) == frames
        assert gaps <= {inputs // frames, inputs // frames + 1}
        assert sampled[0] < inputs // frames
        assert sampled[-1] >= inputs - inputs // frames
