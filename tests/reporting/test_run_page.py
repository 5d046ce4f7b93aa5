"""The report of a run: one file, small, self-contained, and safe with names of strangers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Settings, with_values
from pipeline.errors import InputError, OutputError
from pipeline.media.label_store import LabelWriter
from pipeline.reporting.facts import run_facts
from pipeline.reporting.run_page import command_again, run_page
from pipeline.reporting.verdict import judge
from pipeline.runs.edits import Change
from pipeline.tasks.edit import edit
from pipeline.tasks.report import load_run, report
from pipeline.tasks.segment import segment
from pipeline.tasks.verify import verify

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"


@pytest.fixture
def run(make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path) -> Path:
    clips = [make_clip(tmp_path / "one.mp4", frames=30), make_clip(tmp_path / "two.mp4", frames=5)]
    segment(clips, tmp_path / "out", small_settings)
    return tmp_path / "out"


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    return dict(json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)[0]))


def test_the_page_holds_all_but_the_clips(run: Path) -> None:
    page = report(run)
    text = page.read_text(encoding="utf-8")
    assert page == run / "report.html"
    assert len(text) < 2_000_000
    # Nothing in it leads elsewhere, but for the name of SVG's elements.
    assert set(re.findall(r"https?://[^\s\"'<>]*", text)) == {"http://www.w3.org/2000/svg"}
    one, two = data_of(page)["inputs"]
    assert (one["name"], one["clip"], one["frames"], two["frames"]) == ("one", "one/overlay.mp4", 30, 5)
    assert (run / one["clip"]).is_file()
    assert [len(each["pairs"]) for each in (one, two)] == [12, 5]
    assert all(pair["picture"].startswith("data:image/jpeg;base64,") for pair in one["pairs"])
    assert len(one["seconds"]) == len(one["flicker"]) == len(one["areas"][0]["values"]) == 30
    fit = data_of(page)["fit"]
    assert fit["frames"] == 35
    assert fit["clusters"][0]["patches"].startswith("data:image/jpeg")
    assert sum(cluster["salient"] for cluster in fit["clusters"]) > 0
    assert fit["curve"] == sorted(fit["curve"], reverse=True)
    assert "parts in 2 inputs, 35 frames; together they cover" in text


def test_the_same_result_gives_the_same_bytes_and_verifies(run: Path) -> None:
    first = report(run).read_bytes()
    assert report(run / "two").read_bytes() == first
    assert verify(run / "one").frames == 30


def test_edits_are_in_the_page_and_in_the_clip(run: Path) -> None:
    edit(run, Change(names={1: "body"}, hide=[3]))
    page = report(run)
    one = data_of(page)["inputs"][0]
    assert [part["name"] for part in one["parts"]] == ["body", "part 2"]
    assert one["clip"] == "one/corrected.mp4"
    assert (run / "one" / "corrected.mp4").is_file()
    assert not one["note"]
    assert verify(run / "one").frames == 30
    (run.parent / "one.mp4").unlink()
    edit(run, Change(hide=[2]))
    (run / "one" / "corrected.mp4").unlink()
    assert "as the run painted it" in data_of(report(run))["inputs"][0]["note"]


def test_names_of_strangers_stay_text(run: Path) -> None:
    hostile = run / HOSTILE.replace("/", "_")
    (run / "one").rename(hostile)
    record = json.loads((hostile / "run.json").read_text())
    record["warnings"] = [HOSTILE]
    record["source"]["path"] = f"/tmp/{HOSTILE}"
    record["model"]["name"] = HOSTILE
    (hostile / "run.json").write_text(json.dumps(record))
    edit(run, Change(names={1: HOSTILE}))
    text = report(run).read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert text.count("</script>") == 2
    assert data_of(run / "report.html")["inputs"][0]["parts"][0]["name"] == HOSTILE
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', text)[0]
    assert "default-src &#x27;none&#x27;" in policy
    assert "script-src &#x27;sha256-" in policy


def test_many_inputs_stay_below_two_megabytes(run: Path) -> None:
    noise = np.random.default_rng(0)
    facts = load_run(run / "one")
    each = facts.inputs[0]
    from dataclasses import replace
    from io import BytesIO

    from PIL import Image

    def picture() -> bytes:
        encoded = BytesIO()
        grain = noise.integers(0, 255, (27, 48, 3), dtype=np.uint8)
        Image.fromarray(grain).resize((480, 270)).save(encoded, "JPEG", quality=90)
        return encoded.getvalue()

    # The page keeps each picture for itself, so that the inputs' may be the same.
    seen = replace(each.measures, thumbnails={index: picture() for index in range(12)})
    many = [replace(each, measures=seen)] * 60
    assert len(run_page(replace(facts, inputs=tuple(many)))) < 2_000_000


def test_the_verdict_doubts_what_is_to_be_doubted(run: Path, tmp_path: Path) -> None:
    with LabelWriter(tmp_path / "l.zarr", (36, 48), (48, 64), load_run(run).inputs[0].store.time_base, 3) as writer:
        for number in range(30):
            labels = np.full((36, 48), 1, dtype=np.uint8)
            labels[0, 0] = 2 if number < 3 else 0
            writer.write(number, labels)
    import shutil

    shutil.rmtree(run / "one" / "labels.zarr")
    (tmp_path / "l.zarr").rename(run / "one" / "labels.zarr")
    (run / "one" / "measures.npz").unlink()
    record = json.loads((run / "one" / "run.json").read_text())
    record["source"] |= {"lost_frames": 2, "missing_frames": 1}
    record["warnings"] = ["part 3 appears in no frame", "the sound is left out"]
    (run / "one" / "run.json").write_text(json.dumps(record))
    doubts = judge(run_facts(run, [run / "one"])).doubts
    for expected in (
        "2 frames lost to damage in the file.",
        "1 frame announced by the file's header, but not in it.",
        "The parts cover 100 % of the picture: background may be among them.",
        "'part 2' is seen in 10 % of the frames only.",
        "'part 3' isn't seen in any frame.",
    ):
        assert expected in doubts, doubts
    # What the labels say is told once.
    assert "the sound is left out" in doubts
    assert not [doubt for doubt in doubts if "appears in no frame" in doubt]


def test_the_command_to_run_it_again_gives_the_same_settings(run: Path, small_settings: Settings) -> None:
    from typer.main import get_command

    from pipeline.cli.app import app

    text = command_again(load_run(run))
    words = [word for line in text.splitlines() if not line.startswith("#") for word in line.split()]
    command = get_command(app).commands["segment"]  # type: ignore[attr-defined]
    taken = command.make_context("segment", words[2:], resilient_parsing=False).params
    assert (taken["parts"], taken["stride"], taken["load_size"], taken["device"]) == (3, 8, 48, "cpu")
    assert "saliency.threshold: 0.35" in text
    assert "cluster.sample_interval: 3" in text


def test_a_report_of_somebody_else_is_not_replaced(run: Path) -> None:
    (run / "report.html").write_text("<p>my own</p>")
    with pytest.raises(OutputError, match="wasn't written by vidparts; rename it"):
        report(run)
    assert (run / "report.html").read_text() == "<p>my own</p>"


def test_without_a_result_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no result"):
        report(tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        report(tmp_path / "none")


def test_a_codebook_without_its_fit_and_a_result_without_measures_are_shown(
    run: Path, make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "later.mp4", frames=4)
    settings = with_values(small_settings, {"input.start": 0.05})
    segment([clip], tmp_path / "later", settings, codebook=run / "codebook.safetensors")
    data = data_of(report(tmp_path / "later"))
    assert "given to this run by --codebook" in data["fit"]["texts"][0]
    assert data["fit"]["clusters"][0]["patches"] is None
    # The span's clip begins where the input does.
    assert data["inputs"][0]["shift"] == pytest.approx(-0.08)
    (tmp_path / "later" / "codebook.safetensors").unlink()
    (tmp_path / "later" / "later" / "measures.npz").unlink()
    data = data_of(report(tmp_path / "later"))
    assert data["fit"] is None
    assert (data["inputs"][0]["flicker"], data["inputs"][0]["pairs"]) == (None, [])
