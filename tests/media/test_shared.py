"""Real files: what other programs' test suites found odd, and the clips that quality is measured on."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.inputs import resolve_inputs
from pipeline.media.orientation import turned
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Selection
from pipeline.media.video_source import VideoSource

# One frame in this file can't be decoded; a decoder that gives up there loses the 21 behind it.
FRAMES_BEHIND_DAMAGE = {"robust/decord/corrupted.mp4": 49}
CLIPS = [
    "clips/kitten_vfr/test-sample2.mp4",
    "clips/asl/asl_gestures/again.mkv",
    "clips/asl/asl_gestures/brother.mkv",
    "clips/dog_and_person/01_dog.mp4",
    "clips/squirrel/squirrel.mp4",
    "clips/mouse/m3v1mp4.mp4",
    "clips/asl/one-by-one-person-detection.mp4",
]


def rows(shared_dir: Path) -> list[tuple[str, str]]:
    lines = (shared_dir / "robust" / "PROBE.tsv").read_text(encoding="utf-8").splitlines()
    return [(line.split("\t")[0], line.split("\t")[-1]) for line in lines]


def field(facts: str, name: str) -> str:
    return next(piece.removeprefix(f"{name}=") for piece in facts.split() if piece.startswith(f"{name}="))


def test_odd_files_are_read_as_recorded(shared_dir: Path) -> None:
    recorded = rows(shared_dir)
    assert len(recorded) > 50
    for name, facts in recorded:
        source = VideoSource(shared_dir / name, "x")
        info = source.probe()
        frames = list(source.frames(wanted={0, 3}))
        assert list(source.frames(wanted=())) == []
        width, height = (int(side) for side in facts[facts.index("[(") + 2 : facts.index(")]")].split(","))
        stored = (height, width)
        rotation = int(field(facts, "rot"))
        assert info.size_hw == (stored[::-1] if rotation % 180 else stored), name
        assert source.report.frames == FRAMES_BEHIND_DAMAGE.get(name, int(field(facts, "n"))), name
        assert info.time_base == Fraction(field(facts, "tb")), name
        assert info.start_pts == frames[0].pts == int(field(facts, "start")), name
        assert source._first_orientation[1] == turned(rotation), name
        assert info.audio == (field(facts, "audio") != "0"), name
        assert (info.average_rate or "None") == (
            field(facts, "fps") if "fps=None" in facts else Fraction(field(facts, "fps"))
        )
        assert all(frame.size_hw == info.size_hw for frame in frames), name
        assert source.report.damaged == (name in FRAMES_BEHIND_DAMAGE or source.report.missing_frames > 0), name


def test_rotated_files_stand_like_the_upright_one(shared_dir: Path) -> None:
    folder = shared_dir / "robust" / "decord"
    sizes = {angle: VideoSource(folder / f"video_{angle}.mov", "x").probe().size_hw for angle in (0, 90, 180, 270)}
    assert sizes == {0: (320, 568), 180: (320, 568), 90: (568, 320), 270: (568, 320)}


def test_other_damage_is_refused_in_one_line(shared_dir: Path, tmp_path: Path) -> None:
    data = (shared_dir / "clips/kitten_vfr/test-sample2.mp4").read_bytes()
    random = np.random.default_rng(0)
    for share in (0.0, 0.001, 0.3, 0.9, 0.99):
        path = tmp_path / "cut.mp4"
        path.write_bytes(data[: int(len(data) * share)])
        source = VideoSource(path, "x")
        try:
            assert len(list(source.frames(wanted=()))) == 0
            assert source.report.damaged
        except InputError as error:
            assert "\n" not in str(error)
    broken = bytearray(data)
    for place in random.integers(len(data) // 4, len(data) // 2, 40):
        broken[place] ^= 0xFF
    path.write_bytes(broken)
    source = VideoSource(path, "x")
    count = sum(1 for _ in source.frames(wanted=()))
    assert count == 0
    assert source.report.frames + source.report.lost_frames == 149


def _packets(path: Path, seconds: Fraction | None) -> list[tuple[bytes, float]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = (packet for packet in container.demux(audio=0) if packet.size)
        timed = [(bytes(packet), float(packet.pts * packet.time_base)) for packet in packets]
    return [item for item in timed if seconds is None or item[1] < seconds]


@pytest.mark.parametrize("name", CLIPS)
def test_clips_come_out_with_their_times_size_and_sound(
    shared_dir: Path, tmp_path: Path, read_times, name: str
) -> None:
    path = shared_dir / name
    source = VideoSource(path, "x")
    info = source.probe()
    # Painted flat: the times are what is tested, and a real picture takes the encoder a second a clip.
    flat = np.full((*info.size_hw, 3), 90, dtype=np.uint8)
    times = []
    with ClipWriter(tmp_path / "o.mp4", info.size_hw, info, audio=path) as clip:
        for time in read_times(path, first=150):
            clip.write(int(time / info.time_base), flat)
            times.append(time)
    assert read_times(tmp_path / "o.mp4") == times
    after = VideoSource(tmp_path / "o.mp4", "x").probe()
    assert (after.size_hw, after.start_pts * after.time_base) == (info.size_hw, times[0])
    assert (after.colour, after.sample_aspect_ratio) == (info.colour.displayed(), info.sample_aspect_ratio)
    assert _packets(tmp_path / "o.mp4", None) == _packets(path, None)


def test_a_real_clip_looks_the_same_after_the_round_trip(shared_dir: Path, tmp_path: Path) -> None:
    source = VideoSource(shared_dir / CLIPS[0], "x")
    info = source.probe()
    selection = Selection(1, 1.0, 1.5)
    frames = list(source.frames(selection))
    with ClipWriter(tmp_path / "o.mp4", info.size_hw, info, audio=source.path, selection=selection) as clip:
        for frame in frames:
            clip.write(frame.pts, frame.rgb)
    after = list(VideoSource(tmp_path / "o.mp4", "x").frames())
    assert [frame.pts for frame in after] == [frame.pts - frames[0].pts for frame in frames]
    error = np.mean([np.abs(a.rgb.astype(int) - b.rgb).mean() for a, b in zip(frames, after, strict=True)])
    assert error < 2.5


def test_count_agrees_with_what_is_yielded(shared_dir: Path) -> None:
    for name in CLIPS[:3]:
        for selection in (Selection(), Selection(7), Selection(3, 0.5, 2.0)):
            source = VideoSource(shared_dir / name, "x")
            indices: list[int] = []

            class Spy:
                def __contains__(self, index: object, indices: list[int] = indices) -> bool:
                    indices.append(int(str(index)))
                    return False

            assert list(source.frames(selection, wanted=Spy())) == []
            assert len(indices) == source.count(selection), (name, selection)


def test_directories_of_frames_are_read(shared_dir: Path) -> None:
    sources = resolve_inputs([str(shared_dir / "clips/davis/JPEGImages/dog"), str(shared_dir / "images/pets")], 24)
    dog = sources[0]
    assert isinstance(dog, DirectorySource)
    assert (dog.probe().size_hw, dog.probe().frames, dog.name) == ((480, 854), 60, "dog")
    frame = next(dog.frames(wanted=[59]))
    assert (frame.name, frame.pts, frame.time_base) == ("00059", 59, Fraction(1, 24))
