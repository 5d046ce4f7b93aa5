"""`--strict`: a damaged input is a one-line error before the work starts; other inputs succeed."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from pipeline.config import Settings, with_values
from pipeline.errors import InputError
from pipeline.tasks.fit import fit
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]


@pytest.fixture
def damaged(tmp_path: Path, make_clip: ClipMaker) -> Path:
    """A clip of 12 frames with a corrupt packet of the eighth."""
    path = make_clip(tmp_path / "damaged.mp4", frames=12)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        packet = [bytes(packet) for packet in opened.demux(video=0) if packet.size][7]
    start = data.index(packet)
    data[start : start + len(packet)] = b"\xff" * len(packet)
    path.write_bytes(data)
    return path


@pytest.fixture
def strict(small_settings: Settings) -> Settings:
    """The small settings with `strict`."""
    return with_values(small_settings, {"input.strict": True})


def test_without_it_what_is_lost_is_counted(tmp_path: Path, damaged: Path, small_settings: Settings) -> None:
    (result,) = segment([damaged], tmp_path / "out", small_settings).finished
    source = json.loads((result.directory / "run.json").read_text())["source"]
    assert source["frames"] + source["lost_frames"] == 12
    assert source["lost_frames"] + source["corrupt_frames"] >= 1
    assert any("is damaged" in warning and "first at 0.2" in warning for warning in result.record.warnings)


@pytest.mark.parametrize("fitted", [True, False])
def test_a_damaged_input_fails_before_the_work_and_takes_no_other_down(
    tmp_path: Path, make_clip: ClipMaker, damaged: Path, strict: Settings, fitted: bool
) -> None:
    whole, codebook = make_clip(tmp_path / "whole.mp4", frames=6), tmp_path / "parts.safetensors"
    if not fitted:
        fit([whole], codebook, strict)
    out = tmp_path / "out"
    result = segment([damaged, whole], out, strict, codebook=None if fitted else codebook)
    assert [done.name for done in result.finished] == ["whole"]
    assert not (out / "damaged").exists()
    with pytest.raises(InputError, match=r"damaged: .*first at 0\.\d+ s.*1 other inputs are finished"):
        result.raise_failures()
    if fitted:
        # The codebook is that of the intact input alone.
        fit([whole], codebook, strict)
        assert codebook.read_bytes() == (out / "codebook.safetensors").read_bytes()
    # It can be used for the decodable frames of the damaged input.
    lenient = with_values(strict, {"input.strict": False})
    (later,) = segment([damaged], out, lenient, codebook=out / "codebook.safetensors").finished
    assert later.directory == out / "damaged"


def test_nothing_is_left_where_nothing_is_whole(tmp_path: Path, damaged: Path, strict: Settings) -> None:
    with pytest.raises(InputError, match="without --strict"):
        segment([damaged], tmp_path / "out", strict)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="without --strict"):
        fit([damaged], tmp_path / "parts.safetensors", strict)
    assert not (tmp_path / "parts.safetensors").exists()
