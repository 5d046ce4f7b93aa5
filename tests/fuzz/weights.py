"""Malicious codebooks and checkpoints: false safetensors headers, pickles with code, zip bombs."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.corpus import TINY_MODEL, write_safetensors, zero_bomb
from tests.fuzz.mutations import NUMBERS, damage_bytes, damage_document

_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "U64", "F8_E4M3", "X", "")


def damage_codebook(random: Random, data: bytes) -> bytes:
    """A codebook with mutated header, tensors or metadata."""
    header, tensors = split(data)
    if random.random() < 0.3:
        said = json.loads(header["__metadata__"]["vidparts"])
        header["__metadata__"]["vidparts"] = json.dumps(damage_document(random, said))
        return join(header, tensors)
    return damage_safetensors(random, data)


def damage_safetensors(random: Random, data: bytes) -> bytes:
    """A safetensors file with a mutation."""
    header, tensors = split(data)
    return random.choice((
        lambda: damage_bytes(random, data),
        lambda: join(damage_document(random, header), tensors),
        lambda: join(header, _strange_numbers(random, header, tensors)),
        lambda: join(_other_shapes(random, header), tensors),
        lambda: join(_other_shapes(random, header), tensors),
        lambda: _lying_length(random, data),
        lambda: join(header, tensors[: random.randrange(len(tensors))]),
        lambda: join({**header, "__metadata__": damage_document(random, header.get("__metadata__", {}))}, tensors),
    ))()  # fmt: skip


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes of a valid safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: Any, tensors: bytes) -> bytes:
    """A safetensors file of a header and tensor bytes that needn't match."""
    return write_safetensors(json.dumps(header).encode("utf-8", "surrogatepass"), tensors)


def _lying_length(random: Random, data: bytes) -> bytes:
    length = random.choice((*NUMBERS, 2**63, 2**64 - 1, len(data), len(data) - 8))
    return struct.pack("<Q", length) + data[8:] + random.choice((b"", bytes(2**20)))


def _strange_numbers(random: Random, header: dict[str, Any], tensors: bytes) -> bytes:
    name = random.choice([name for name in header if name != "__metadata__"])
    start, end = header[name]["data_offsets"]
    strange = random.choice((np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-42, 0.0))
    block = np.full((end - start) // 4 or 1, strange, np.float32).tobytes()[: end - start]
    if random.random() < 0.3:
        block = random.randbytes(end - start)
    part = random.choice((4, end - start)) if end - start >= 4 else end - start
    return tensors[:start] + block[:part] + tensors[start + part :]


def _other_shapes(random: Random, header: dict[str, Any]) -> dict[str, Any]:
    changed = json.loads(json.dumps(header))
    names = [name for name in changed if name != "__metadata__"]
    for name in random.sample(names, random.choice((1, min(2, len(names))))):
        entry = changed[name]
        shape, size = entry["shape"], int(np.prod(entry["shape"]))
        entry["shape"] = random.choice((
            [size], shape[::-1], [1, *shape], [size, 1], [0, *shape], [], [2**40, 2**40],
            [-1, size], [2**63, 0], [1] * 300,
        ))  # fmt: skip
        if random.random() < 0.4:
            entry["dtype"] = random.choice(_DTYPES)
        if random.random() < 0.2:
            entry["data_offsets"] = random.choice(([0, 0], [0, 2**62], [5, 3], [0, size], [2**64, 2**64]))
    return changed


class _Call:
    """Pickles as a call of a function, given by name."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._made = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self._made


def hostile_pickles(bait: Path) -> dict[str, bytes]:
    """Pickles that would write to `bait` or fill memory if loaded with the full unpickler."""
    import os
    import shutil

    touched = str(bait / "touched")
    calls = {
        "system": _Call(os.system, f"touch {touched}"),
        "eval": _Call(eval, f"open({touched!r}, 'w')"),
        "exec": _Call(exec, f"open({touched!r}, 'w').write('x')"),
        "open": _Call(open, touched, "w"),
        "mkdir": _Call(os.mkdir, touched),
        "rmtree": _Call(shutil.rmtree, str(bait)),
        "getattr": _Call(getattr, "x", "upper"),
    }
    found = {name: pickle.dumps({"cls_token": call}, protocol=2) for name, call in calls.items()}
    found["long string"] = b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x."
    found["long number"] = b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1."
    found["far memo"] = b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b"."
    found["deep"] = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    found["doubling"] = b"\x80\x02X\x01\x00\x00\x00x" + b"2\x86" * 60 + b"."
    found["persistent"] = b"\x80\x02X\x04\x00\x00\x00evilQ."
    found["no end"] = b"\x80\x02}q\x00"
    return found


def damage_checkpoint(random: Random, pth: bytes, bait: Path) -> tuple[str, bytes]:
    """Name and content of a corrupt or malicious weight file."""
    name = random.choice(("model.safetensors", "model.safetensors", "model.pth", "model.pth", "model.pt"))
    if name.endswith("safetensors"):
        return name, random.choice((
            lambda: damage_safetensors(random, TINY_MODEL.read_bytes()),
            lambda: damage_safetensors(random, TINY_MODEL.read_bytes()),
            lambda: pth,
            lambda: random.randbytes(2000),
        ))()  # fmt: skip
    return name, random.choice((
        lambda: damage_bytes(random, pth),
        lambda: _damaged_member(random, pth),
        lambda: _damaged_member(random, pth),
        lambda: _strange_state(random),
        lambda: _strange_state(random),
        lambda: with_pickle(pth, random.choice(list(hostile_pickles(bait).values()))),
        lambda: random.choice(list(hostile_pickles(bait).values())),
        lambda: archive_bomb(pth, random.choice((100, 3000, 20_000))),
        TINY_MODEL.read_bytes,
    ))()  # fmt: skip


def with_pickle(pth: bytes, content: bytes) -> bytes:
    """A .pth file with its pickle replaced."""
    return _rewritten(pth, lambda name, data: content if name.endswith("data.pkl") else data)


def archive_bomb(pth: bytes, mib: int) -> bytes:
    """A .pth file whose first tensor is a zip bomb of `mib` MiB."""
    packed, size = zero_bomb(mib), mib * 2**20
    with zipfile.ZipFile(io.BytesIO(pth)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    data = io.BytesIO()
    directory = b""
    for name, content in members:
        bomb = name.endswith("data/0")
        body, method, whole = (packed, 8, size) if bomb else (content, 0, len(content))
        checksum = 0 if bomb else zipfile.crc32(content)  # type: ignore[attr-defined]
        sizes = struct.pack("<III", checksum, len(body), min(whole, 2**32 - 1))
        at = data.tell()
        data.write(b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, method, 0, 33) + sizes)
        data.write(struct.pack("<HH", len(name), 0) + name.encode() + body)
        directory += b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, method, 0, 33) + sizes
        directory += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, at) + name.encode()
    start = data.tell()
    data.write(directory)
    data.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), start, 0))
    return data.getvalue()


def _damaged_member(random: Random, pth: bytes) -> bytes:
    chosen = random.choice(("data.pkl", "data.pkl", "data.pkl", "version", "byteorder", "data/0", "data/7"))
    return _rewritten(pth, lambda name, data: damage_bytes(random, data) if name.endswith(chosen) else data)


def _rewritten(pth: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pth)) as old, zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return data.getvalue()


def _strange_state(random: Random) -> bytes:
    """`torch.save` output of a state dict with one entry that no ViT has."""
    import torch
    from safetensors.torch import load_file

    state: dict[Any, Any] = load_file(TINY_MODEL)
    name = random.choice(list(state))
    strange: list[Callable[[], Any]] = [
        lambda: torch.zeros(1).expand(2**20, 2**20),
        lambda: torch.zeros(0),
        lambda: state[name].to(torch.complex64),
        lambda: state[name].to(torch.int64),
        lambda: state[name].to(torch.float64),
        state[name].to_sparse,
        lambda: torch.quantize_per_tensor(state[name].reshape(-1), 0.1, 0, torch.qint8),
        lambda: state[name].reshape(-1),
        lambda: state[name] * float("nan"),
        lambda: torch.nn.Parameter(state[name]),
        lambda: state[name].to(torch.float8_e4m3fn),
        lambda: torch.zeros(3, device="meta"),
        lambda: "text",
        lambda: {"state_dict": {"model": {}}},
    ]
    state[random.choice((name, name, 7, "", "module." * 50 + name, "x" * 10_000))] = random.choice(strange)()
    wrapped = random.choice((state, {"model": state}, [state], (state,), {"teacher": {"teacher": state}}, state[name]))
    data = io.BytesIO()
    torch.save(wrapped, data, _use_new_zipfile_serialization=random.random() < 0.7)
    return data.getvalue()
