"""The tour in a notebook runs from its first cell to its last, and results show themselves."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.media.label_store import open_labels
from pipeline.runs.outputs import Outcome

ROOT = Path(__file__).resolve().parents[2]


def test_the_tour_runs_and_shows_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is a test dependency")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is a test dependency")
    pytest.importorskip("ipykernel", reason="ipykernel is a test dependency")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "samples" / "walk.mp4", tmp_path)
    tour = nbformat.read(ROOT / "samples" / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in tour.cells), "stored outputs grow stale; clear them"
    nbclient.NotebookClient(tour, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output["data"] for cell in tour.cells for output in cell.get("outputs", []) if "data" in output]
    first, _, legend, second, *_ = [each.get("text/html", each.get("text/plain")) for each in shown]
    assert first.count("data:image/jpeg;base64,") == 6
    assert "4 parts in" in first
    assert re.search(r"part 2 <small>[\d.<]+ ?", first)
    assert "#0072b2" in legend
    assert "body" in second
    assert "part 2" not in second.split("<ul>")[0]
    assert (tmp_path / "tour" / "report.html").is_file()
    frames = len(open_labels(tmp_path / "tour" / "walk" / "labels.zarr"))
    assert len(list((tmp_path / "tour" / "yolo" / "images" / "train").iterdir())) == frames > 12
    assert (tmp_path / "tour" / "outline.mp4").is_file()


def test_files_show_themselves_with_their_names_escaped(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((900, 1200, 3), np.uint8)).save(tmp_path / "a <b>.png")
    (tmp_path / "numbers.npz").write_bytes(b"x")
    text = Outcome((tmp_path / "a <b>.png", tmp_path / "numbers.npz"))._repr_html_()
    assert "<b>.png" not in text
    assert "a &lt;b&gt;.png" in text
    assert "numbers.npz" in text
    assert text.count("data:image/jpeg;base64,") == 1
