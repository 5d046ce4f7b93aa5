"""Corrupt or malicious label stores, run records and interrupted runs."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.fuzz.corpus import Corpus
from tests.fuzz.mutations import any_value, damage_bytes, damage_document, damage_json
from tests.fuzz.sandbox import Case

_NAMES = (
    "../../../bait/x",
    "..",
    ".",
    "",
    "a/b",
    "/tmp/x",
    "x\0",
    "x\n",
    "\ud800",
    "x" * 250,
    "x" * 255,
    "con",
    "-",
    "ä",
    "same",
)


def labels_case(random: Random, corpus: Corpus, play: Path) -> Case:
    """A finished result with a mutated label store; in half of the cases its checksums are updated."""
    result = _copy(corpus.result, play / "result")
    store = result / "labels.zarr"
    _damage_store(random, store, play / "bait")
    if random.random() < 0.6:
        _mend_checksums(result)
    return Case(_readers(result, play))


def record_case(random: Random, corpus: Corpus, play: Path) -> Case:
    """A finished result with a mutated run record."""
    result = _copy(corpus.result, play / "out" / "old" / "walk")
    shutil.copy(corpus.codebook, result.parent)
    file = result / "run.json"
    if random.random() < 0.3:
        record = json.loads(file.read_bytes())
        key, value = random.choice(_lies(play))
        record["source"][key] = value
        file.write_text(json.dumps(record))
    else:
        file.write_bytes(damage_json(random, file.read_bytes()))
    again = ["segment", corpus.clip, "-o", result.parent, *corpus.options, "--resume"]
    return Case([*_readers(result, play), again])


def plan_case(random: Random, corpus: Corpus, play: Path) -> Case:
    """An interrupted run with a mutation, to resume; if it succeeds, its output equals the original's."""
    out = _copy(random.choice(corpus.unfinished), play / "out" / "new")
    files = sorted(file for file in out.rglob("*") if file.is_file() and file.name != ".lock")
    file = random.choice([*files, *[file for file in files if file.suffix == ".json"]])
    replaced = random.random() < 0.15
    if replaced:
        _replace(random, file, play / "bait")
    elif file.suffix == ".json" or file.name.endswith((".jsonl", ".index")):
        file.write_bytes(_damaged_lines(random, file.read_bytes()))
    else:
        file.write_bytes(damage_bytes(random, file.read_bytes()))
    words = ["segment", corpus.clip, "-o", out, *corpus.options]
    resume = [*words, random.choice(("--resume", "--resume", "--resume", "--overwrite"))]
    return Case([resume, [*words, "--overwrite"]], _same_as(corpus.result, out / "walk"))


def _same_as(whole: Path, result: Path) -> Callable[[Sequence[int]], str | None]:
    def check(codes: Sequence[int]) -> str | None:
        from pipeline.runs.integrity import tree_sha256
        from pipeline.tasks.verify import verify

        if codes[-1] != 0:
            return f"--overwrite can't begin again: exit code {codes[-1]}"
        verify(result)
        for name in ("labels.zarr", "overlay.mp4"):
            if tree_sha256(result / name) != tree_sha256(whole / name):
                return f"{name} isn't that of a run that wasn't interrupted"
        return None

    return check


def _readers(result: Path, play: Path) -> list[list[object]]:
    """All commands that read finished results."""
    exports = [["export", result, "--format", name, "-o", play / "out" / name] for name in ("davis", "coco", "npz")]
    return [["verify", result], *exports, ["render", result, "-o", play / "out" / "again.mp4"]]


def _copy(tree: Path, target: Path) -> Path:
    shutil.copytree(tree, target)
    return target


def _damage_store(random: Random, store: Path, bait: Path) -> None:
    description, chunk = store / "zarr.json", store / "c" / "0" / "0" / "0"
    choice = random.random()
    if choice < 0.35:
        description.write_bytes(damage_json(random, description.read_bytes()))
    elif choice < 0.6:
        content = json.loads(description.read_bytes())
        content["attributes"] = _hostile_attributes(random, content["attributes"])
        description.write_text(json.dumps(content))
    elif choice < 0.75:
        chunk.write_bytes(damage_bytes(random, chunk.read_bytes()))
    elif choice < 0.9:
        chunk.write_bytes(random.choice(_chunks(len(chunk.read_bytes()))))
    else:
        _replace(random, random.choice((description, chunk, store / "c", store)), bait)


def _hostile_attributes(random: Random, attributes: dict) -> dict:
    frames = len(attributes["pts"])
    changes: list[dict] = [
        {"frame_names": [random.choice(_NAMES) for _ in range(frames)]},
        {"frame_names": [f"{number}{random.choice(_NAMES)}" for number in range(frames)]},
        {"frame_names": ["same"] * frames},
        {"frame_names": ["a", "A"] * (frames // 2)},
        {"source_size": [65536, 65536]},
        {"source_size": [1, 1]},
        {"source_size": [65536, 1]},
        {"parts": random.choice((0, 1, 255))},
        {"pts": [2**62 - frames + number for number in range(frames)]},
        {"pts": [-(2**62) + number for number in range(frames)]},
        {"time_base": random.choice(("1/0", "0/1", f"1/{10**60}", f"{10**60}/1", "1/1", f"{2**63}/{2**63 - 1}"))},
    ]
    return {**attributes, **random.choice(changes)} if random.random() < 0.8 else damage_document(random, attributes)


def _chunks(length: int) -> list[bytes]:
    """Replacements of a chunk of compressed labels."""
    from numcodecs import Zstd

    magic = b"\x28\xb5\x2f\xfd"
    whole = 16 * 48 * 64
    return [
        b"",
        bytes(length),
        Zstd(5).encode(bytes(whole)),
        Zstd(5).encode(b"\xff" * whole),
        Zstd(5).encode(b"\x01" * whole) * 2,
        Zstd(5).encode(bytes(2**27)),
        magic + b"\xa0" + struct.pack("<I", whole) + bytes(50),
        magic + b"\xe0" + struct.pack("<Q", 2**40) + bytes(50),
        b"\x50\x2a\x4d\x18" + struct.pack("<I", 20) + bytes(20) + Zstd(5).encode(bytes(whole)),
        magic,
    ]


def _replace(random: Random, path: Path, bait: Path) -> None:
    """A symbolic link, pipe or the like in place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    random.choice((
        lambda: path.symlink_to(bait / "kept.txt"),
        lambda: path.symlink_to(bait),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/etc/passwd"),
        lambda: path.symlink_to(bait / "new.txt"),
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: None,
    ))()  # fmt: skip


def _damaged_lines(random: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) > 1 and data[:1] == b"[" and random.random() < 0.6:
        number = random.randrange(len(lines))
        lines[number] = random.choice((
            json.dumps(damage_document(random, json.loads(lines[number]))).encode() + b"\n",
            lines[number] * 2,
            b"",
            b"[" * 5000 + b"\n",
            json.dumps(any_value(random)).encode() + b"\n",
        ))  # fmt: skip
        return b"".join(lines)
    try:
        return damage_json(random, data)
    except ValueError:
        return damage_bytes(random, data)


def _lies(play: Path) -> list[tuple[str, object]]:
    return [
        *(("path", path) for path in (
            str(play / "bait"), str(play / "bait" / "kept.txt"), "/dev/zero", "/etc/passwd", "http://localhost/x.mp4",
            "concat:a|b", "/", ".", "", "*", "~",
            str(play / "out" / "old" / "walk"),
            str(play / "out" / "old" / "walk" / "overlay.mp4"),
        )),
        ("width", 65), ("height", 1), ("frames", 3), ("frames", 2**40),
        ("time_base", "1/7"), ("time_base", f"1/{10**18}"),
        ("first_pts", None), ("last_pts", -1), ("lost_frames", -1),
        ("path", "x" * 5000), ("path", "a\0b"), ("path", "\n"),
    ]  # fmt: skip


def _mend_checksums(result: Path) -> None:
    from pipeline.errors import VidpartsError
    from pipeline.runs.integrity import result_checksums

    file = result / "run.json"
    record = json.loads(file.read_bytes())
    try:
        record["files"] = result_checksums(result)
    except VidpartsError:
        return
    file.write_text(json.dumps(record))
