"""Random mutations of bytes, of MP4 boxes and other containers, and of JSON documents."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 7, 8, 63, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
"""Boundary values for widths, counts and lengths."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, -(2**63) - 1, 10**30,
    10**400, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), "", "x", "0", "1/0", "0/1", "-1/3", "1/1", "nan",
    "../../bait", "/", ".", "..", "a/b", "a\\b", "x" * 300, "x" * 70_000, "\0", "\n", "\ud800", "\u202e", "ä", [], [[]],
    [0], [1, 2, 3], [None], {}, {"": {}}, {"name": "x"}, [0] * 2000,
)  # fmt: skip
"""Values of wrong types or ranges for documents."""

_MP4_PARENTS = frozenset(b"moov trak mdia minf stbl edts dinf udta moof traf mvex".split())
_EBML_PARENTS = frozenset({0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0xA0, 0x1C53BB6B, 0xBB, 0x1549A966})

_MUCH = 2**20
"""Maximum size of a repeated box: a video of 700,000 frames is slow but valid."""

Span = tuple[int, int, int, int]
"""Offsets of a box: start, length field, content, end."""


def damage_bytes(random: Random, data: bytes) -> bytes:
    """Apply one or a few mutations to bytes of unknown format."""
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        data = random.choice((_flip, _flip_many, _cut, _drop, _insert, _swap, _blank, _repeat, _overwrite))(
            random, data
        )
    return data


def damage_container(random: Random, data: bytes, suffix: str) -> bytes:
    """Mutate a media file: its boxes if the container is known, else its bytes."""
    boxes = list(_boxes(data, suffix))
    if not boxes or random.random() < 0.4:
        return damage_bytes(random, data)
    for _ in range(random.choice((1, 1, 2, 3))):
        boxes = list(_boxes(data, suffix))
        if not boxes:
            break
        data = random.choice((_lie_about_size, _edit_field, _edit_field, _edit_field, _remove, _repeat_box, _cut_box))(
            random, data, random.choice(boxes)
        )
    return data


def any_value(random: Random) -> Any:
    """A copy of one of `VALUES`; a copy, since the next mutation may change a list in place."""
    return copy.deepcopy(random.choice(VALUES))


def damage_document(random: Random, document: Any) -> Any:
    """A copy of a JSON document with one or a few values changed, removed, renamed or added."""
    damaged = json.loads(json.dumps(document))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(damaged))
        if not places:
            return any_value(random)
        parent, key = random.choice(places)
        _change_value(random, parent, key)
    return damaged


def damage_json(random: Random, text: bytes) -> bytes:
    """Mutate a JSON file: its values or its syntax."""
    if random.random() < 0.75:
        return json.dumps(damage_document(random, json.loads(text))).encode("utf-8", "surrogatepass")
    return random.choice((
        lambda: damage_bytes(random, text),
        lambda: b"[" * random.choice((10, 100_000)) + text,
        lambda: b'{"a":' * 100_000,
        lambda: text.replace(b"1", b"1" * random.choice((5, 5000, 100_000)), 1),
        lambda: b"\xef\xbb\xbf" + text,
        lambda: text.decode().encode("utf-16"),
        lambda: random.choice((b"", b"null", b"[]", b"{}", b'""', b"0", b"NaN", b"\0" * 64)),
        lambda: b" " * 1_000_000 + text,
    ))()  # fmt: skip


def _flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    changed[_place(random, data)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip_many(random: Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(random.choice((8, 32, 1 + len(data) // 100))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _drop(random: Random, data: bytes) -> bytes:
    start, length = _place(random, data), _length(random)
    return data[:start] + data[start + length :]


def _insert(random: Random, data: bytes) -> bytes:
    start, length = _place(random, data), _length(random)
    block = random.choice((bytes(length), b"\xff" * length, random.randbytes(length), data[:length]))
    return data[:start] + block + data[start:]


def _swap(random: Random, data: bytes) -> bytes:
    length = min(_length(random), max(1, len(data) // 2))
    first, second = sorted(random.randrange(max(1, len(data) - length)) for _ in range(2))
    if second < first + length:
        return data
    middle = data[first + length : second]
    return (
        data[:first] + data[second : second + length] + middle + data[first : first + length] + data[second + length :]
    )


def _blank(random: Random, data: bytes) -> bytes:
    start, length = _place(random, data), _length(random)
    return data[:start] + random.choice((b"\0", b"\xff")) * len(data[start : start + length]) + data[start + length :]


def _repeat(random: Random, data: bytes) -> bytes:
    start, length = _place(random, data), _length(random)
    return data[:start] + data[start : start + length] * random.choice((2, 3, 50)) + data[start + length :]


def _overwrite(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    number = struct.pack(random.choice("<>") + "Q", random.choice(NUMBERS))
    width = random.choice((1, 2, 4, 8))
    return data[:start] + (number[-width:] if random.random() < 0.5 else number[:width]) + data[start + width :]


def _place(random: Random, data: bytes) -> int:
    """A random offset, more often near the ends, where headers and indices are."""
    end = max(1, len(data))
    return random.choice((
        random.randrange(end),
        random.randrange(min(end, 64)),
        random.randrange(min(end, 1024)),
        end - 1 - random.randrange(min(end, 1024)),
    ))  # fmt: skip


def _length(random: Random) -> int:
    return random.choice((1, 2, 4, 8, 16, 64, 188, 512, 2048))


def _boxes(data: bytes, suffix: str) -> Iterator[Span]:
    kinds: dict[str, Callable[[bytes, int, int], Iterator[Span]]] = {
        ".mp4": _atoms, ".mov": _atoms, ".mkv": _elements, ".webm": _elements, ".avi": _chunks, ".png": _png_chunks,
    }  # fmt: skip
    walk = kinds.get(suffix)
    return walk(data, 8 if suffix == ".png" else 0, len(data)) if walk else iter(())


def _atoms(data: bytes, start: int, end: int) -> Iterator[Span]:
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        stop = min(end, start + size) if size >= 8 else end
        yield start, start, start + 8, stop
        if name in _MP4_PARENTS:
            yield from _atoms(data, start + 8, stop)
        start = stop


def _elements(data: bytes, start: int, end: int) -> Iterator[Span]:
    while start < end:
        name, length_at = _varint(data, start, keep_marker=True)
        size, content = _varint(data, length_at, keep_marker=False)
        if content > end or content <= start:
            return
        stop = min(end, content + size)
        yield start, length_at, content, stop
        if name in _EBML_PARENTS:
            yield from _elements(data, content, stop)
        start = stop


def _varint(data: bytes, start: int, *, keep_marker: bool) -> tuple[int, int]:
    first = data[start] if start < len(data) else 0
    length = 9 - first.bit_length()
    number = int.from_bytes(data[start : start + length], "big")
    return number if keep_marker else number & ((1 << 7 * length) - 1), start + length


def _chunks(data: bytes, start: int, end: int) -> Iterator[Span]:
    while start + 8 <= end:
        name, size = struct.unpack("<4sI", data[start : start + 8])
        stop = min(end, start + 8 + size + size % 2)
        yield start, start + 4, start + 8, stop
        if name in (b"RIFF", b"LIST"):
            yield from _chunks(data, start + 12, stop)
        start = stop


def _png_chunks(data: bytes, start: int, end: int) -> Iterator[Span]:
    while start + 12 <= end:
        stop = min(end, start + 12 + int.from_bytes(data[start : start + 4], "big"))
        yield start, start, start + 8, stop
        start = stop


def _lie_about_size(random: Random, data: bytes, box: Span) -> bytes:
    _, at, _, _ = box
    old = data[at : at + 4]
    order = random.choice(("<I", ">I"))
    near = struct.unpack(order, old.ljust(4, b"\0"))[0] + random.choice((-8, -1, 1, 8, 1000))
    return data[:at] + struct.pack(order, random.choice((near % 2**32, random.choice(NUMBERS)))) + data[at + 4 :]


def _edit_field(random: Random, data: bytes, box: Span) -> bytes:
    _, _, content, stop = box
    if stop <= content:
        return data
    width = random.choice((1, 2, 4, 4, 8))
    at = content + random.randrange(max(1, min(stop - content, 256))) // width * width
    number = struct.pack(">Q", random.choice(NUMBERS))[-width:]
    return data[:at] + (number if random.random() < 0.8 else number[::-1]) + data[at + width :]


def _remove(random: Random, data: bytes, box: Span) -> bytes:
    start, _, _, stop = box
    return data[:start] + data[stop:]


def _repeat_box(random: Random, data: bytes, box: Span) -> bytes:
    start, _, _, stop = box
    times = min(random.choice((1, 5, 200)), max(1, _MUCH // max(1, stop - start)))
    return data[:stop] + data[start:stop] * times + data[stop:]


def _cut_box(random: Random, data: bytes, box: Span) -> bytes:
    _, _, content, stop = box
    return data[: content + random.randrange(max(1, stop - content))]


def _places(value: Any, deepest: int = 100) -> Iterator[tuple[Any, Any]]:
    if not deepest:
        return
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key], deepest - 1)


def _change_value(random: Random, parent: Any, key: Any) -> None:
    deed = random.randrange(10)
    if deed == 0:
        del parent[key]
    elif deed == 1 and isinstance(parent, dict):
        parent[random.choice(("", "x", "\0", key.upper(), key + "_"))] = parent.pop(key)
    elif deed == 2 and isinstance(parent, list):
        parent.insert(random.randrange(len(parent) + 1), parent[key])
    elif deed == 3:
        deep: Any = parent[key]
        for _ in range(random.choice((1, 3, 200))):
            deep = [deep]
        parent[key] = deep
    elif deed == 4 and isinstance(parent[key], int | float):
        parent[key] = random.choice((-1, 2, 1000, 2**33)) * parent[key] + random.choice((0, 1, -1))
    else:
        parent[key] = any_value(random)
