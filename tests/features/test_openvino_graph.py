"""Cache of converted OpenVINO graphs: atomic, optional, repaired; telemetry stays off."""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.caches import read_checked, write_checked
from pipeline.features import openvino_graph
from pipeline.features.openvino_backbone import OpenVinoBlocks
from pipeline.features.openvino_graph import open_graph
from pipeline.features.vit import Backbone, Embedded, Reading, Tap, ViTConfig


@pytest.fixture
def remembered_graphs() -> None:
    """Nothing is remembered where compiling is what is tested."""


CONFIG = ViTConfig(24, 3, 3, 8, (4, 4), 0, 48, True, False, 1e-6)
READING = Reading((Tap(1, "key"), Tap(2, "query")), saliency=True, heads=(0, 2))


def random_backbone() -> Backbone:
    generator, backbone = torch.Generator().manual_seed(0), Backbone(CONFIG).requires_grad_(False).eval()
    for parameter in backbone.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return backbone


def results(backbone: Backbone) -> list[torch.Tensor]:
    tokens = torch.randn(1, 17, 24, generator=torch.Generator().manual_seed(1))
    return list(OpenVinoBlocks(backbone, "f", torch.float32)([Embedded(tokens, None)], READING)[0])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vidparts" / "graphs"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """Records the conversions."""
    found: list[Reading] = []
    real = openvino_graph.convert

    def counted(backbone: Backbone, reading: Reading) -> object:
        found.append(reading)
        return real(backbone, reading)

    monkeypatch.setattr(openvino_graph, "convert", counted)
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_a_graph_is_converted_once_and_what_is_read_gives_the_same_bytes(
    cache: Path, conversions: list[Reading]
) -> None:
    fresh = results(random_backbone())
    (file,) = cache.iterdir()
    assert len(conversions) == 1
    assert same(results(random_backbone()), fresh)
    assert len(conversions) == 1
    weights = sum(parameter.numel() for parameter in random_backbone().parameters()) * 4
    large = Backbone(ViTConfig(240, 3, 3, 8, (4, 4), 0, 960, True, False, 1e-6)).requires_grad_(False)
    open_graph(large, "large", READING)
    (other,) = set(cache.iterdir()) - {file}
    assert abs(other.stat().st_size - file.stat().st_size) < weights, "weights are in the file"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:100] + bytes(100) + content[200:],
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "half", "last bit", "zeros", "nothing but zeros"],
)
def test_a_damaged_file_is_written_anew(
    cache: Path, conversions: list[Reading], damage: Callable[[bytes], bytes]
) -> None:
    fresh = results(random_backbone())
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert same(results(random_backbone()), fresh)
    assert len(conversions) == 2
    assert [path.name for path in cache.iterdir()] == [file.name]
    assert same(results(random_backbone()), fresh)
    assert len(conversions) == 2


def test_a_cache_that_can_not_be_written_changes_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = results(random_backbone())
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO):
        assert same(results(random_backbone()), fresh)
    assert "graphs are made anew in each run" in caplog.text


@pytest.mark.usefixtures("cache")
def test_a_disk_that_is_full_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = results(random_backbone())
    for file in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.graph"):
        file.unlink()
    # A truncated file, as an interrupted OpenVINO leaves it.
    real = openvino_graph.save
    monkeypatch.setattr(openvino_graph, "save", lambda parts: real({k: v[: len(v) // 2] for k, v in parts.items()}))
    assert same(results(random_backbone()), fresh)
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.graph"))


def test_twenty_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    file, contents = tmp_path / "folder" / "a.graph", [bytes([number]) * 2**20 for number in range(20)]

    def write(content: bytes) -> bytes | None:
        write_checked(file, content)
        return read_checked(file)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(write, contents)) <= set(contents)
    assert [path.name for path in file.parent.iterdir()] == ["a.graph"]


@pytest.mark.usefixtures("cache")
def test_nothing_beyond_what_is_asked_is_computed() -> None:
    reading = Reading((Tap(1, "key"),))
    tokens = torch.randn(1, 17, 24, generator=torch.Generator().manual_seed(1))
    ((expected,),) = OpenVinoBlocks(random_backbone(), "a", torch.float32)([Embedded(tokens, None)], reading)
    poisoned = random_backbone()
    last = poisoned.blocks[1]
    for parameter in (*last.attn.proj.parameters(), *last.mlp.parameters(), *poisoned.blocks[2].parameters()):
        parameter.fill_(math.nan)
    for rows in (slice(0, 24), slice(48, 72)):
        last.attn.qkv.weight[rows].fill_(math.nan)
        last.attn.qkv.bias[rows].fill_(math.nan)
    ((found,),) = OpenVinoBlocks(poisoned, "b", torch.float32)([Embedded(tokens, None)], reading)
    assert torch.equal(found, expected)
    graph = open_graph(poisoned, "b", reading)
    assert len(graph.outputs) == 1
    assert not any("blocks.2" in node.get_friendly_name() for node in graph.get_ops())


WATCHED = """
import sys
def watch(event, arguments):
    if event.startswith("socket."):
        print("socket", event, arguments, file=sys.stderr)
sys.addaudithook(watch)
from pipeline.__main__ import program
program()
"""


def test_a_run_opens_no_socket_and_writes_nothing_into_the_home_directory_but_its_cache(
    tmp_path: Path, tiny_model: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    words = ["features", tmp_path / "a.png", "-o", tmp_path / "a.npz", "--model", tiny_model, "--load-size", 48]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, words), "--backend", "openvino"],
        env={**environment, "HOME": str(home), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "socket" not in done.stderr
    written = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert len(written) == 1
    assert all(name.startswith(os.path.join(".cache", "vidparts", "graphs")) for name in written)  # noqa: PTH118


INTERRUPTED = """
import gc, os, signal, sys, threading, time
import numpy as np
from pipeline.config import load_settings
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine

engines = [open_engine(load_settings(overrides={"model": sys.argv[1], "run.backend": "openvino"}), Silent())]
engines[0].extractor.extract([np.zeros((48, 64, 3), np.uint8)])

def forget():
    engines.clear()
    gc.collect()

other = threading.Thread(target=forget)
other.start()
other.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_is_one_though_another_thread_has_ended_the_last_engine(tiny_model: Path) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, tiny_model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert done.stdout == "interrupted\n"
