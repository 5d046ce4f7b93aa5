"""Report and viewer in a real browser: Chromium of the system, no console error, no request that leaves the machine."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.label_store import open_labels
from pipeline.runs.edits import Change, load_edits
from pipeline.tasks.edit import edit
from pipeline.tasks.report import report

pytest.importorskip("uvicorn", reason="the extra `view` is a test dependency")

from pipeline.viewer.server import serving
from tests.viewer.conftest import UNEVEN

# What the clip shows, by the grey of its middle that tells a frame's number, and which labels lie over it.
LOOK = """async (pane) => {
  const { video, screen, result, canvas } = viewer.panes[pane], picture = document.createElement("canvas");
  picture.width = video.videoWidth; picture.height = video.videoHeight;
  const context = picture.getContext("2d");
  context.drawImage(video, 0, 0);
  const grey = context.getImageData(picture.width / 2, picture.height / 4, 1, 1).data[1];
  const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const pixels = { length: drawn.length / 4 };
  return { frame: viewer.panes[pane].frame, shown: Math.round((grey - 40) / 5), labels: Number(screen.dataset.labels),
           painted: Array.from(pixels, (_, i) => drawn[4 * i + 3] ? drawn.slice(4 * i, 4 * i + 3).join() : "") };
}"""


def keep(page: Any, name: str) -> None:
    """Keep a picture of the page where the gate wants build products."""
    if folder := os.environ.get("VIDPARTS_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    with serving([run]) as server:
        yield server.address


def open_page(page: Any, address: str, panes: int = 2) -> None:
    page.goto(address)
    for number in range(panes):
        page.locator(f".pane:nth-child({number + 1}) .screen[data-ready=yes]").wait_for(timeout=60_000)


def settle(page: Any, frame: int) -> None:
    labels = "Number(viewer.lead.screen.dataset.labels)"
    condition = f"frame => viewer.lead.frame === frame && viewer.lead.shown === frame && {labels} === frame"
    page.wait_for_function(condition, arg=frame, timeout=20_000)


def colors_of(run: Path, name: str, frame: int, colors: dict[int, str]) -> list[str]:
    labels = open_labels(run / name / "labels.zarr")[frame].ravel().tolist()
    return [colors.get(label, "") for label in labels]


LABELLED = 20
"""A frame that shows more than one part."""
PALETTE = {1: "230,25,75", 2: "60,180,75", 3: "67,99,216"}


def test_stepping_shows_each_frame_with_its_own_labels(page: Any, address: str, run: Path) -> None:
    open_page(page, address)
    for frame in range(40):
        settle(page, frame)
        look = page.evaluate(LOOK, 0)
        assert (look["frame"], look["shown"], look["labels"]) == (frame, frame, frame)
        assert look["painted"] == colors_of(run, "even", frame, PALETTE)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Home")
    settle(page, 0)
    page.keyboard.press("End")
    settle(page, 39)
    page.keyboard.press("Shift+ArrowLeft")
    settle(page, 29)
    assert "frame 29 of 40 · pts 14848 · 1.160 s" in page.locator("#where").inner_text()
    keep(page, "viewer")


def test_a_variable_rate_steps_exactly_forwards_and_backwards(page: Any, run: Path) -> None:
    with serving([run / "uneven"]) as server:
        open_page(page, server.address, 1)
        frames = [*range(len(UNEVEN)), *range(len(UNEVEN) - 2, -1, -1)]
        for place, frame in enumerate(frames):
            settle(page, frame)
            look = page.evaluate(LOOK, 0)
            assert (look["shown"], look["labels"]) == (frame, frame)
            assert look["painted"] == colors_of(run, "uneven", frame, PALETTE)
            if place + 1 < len(frames):
                page.keyboard.press("ArrowRight" if frames[place + 1] > frame else "ArrowLeft")


def test_two_results_keep_one_clock(page: Any, address: str) -> None:
    open_page(page, address)
    times = [pts / 12800 for pts in UNEVEN]
    for frame in (0, 5, 10, 17, 39):
        page.evaluate("frame => viewer.seek(frame)", frame)
        settle(page, frame)
        passed = frame / 25
        expected = max(number for number, time in enumerate(times) if time <= passed + 1e-6)
        page.wait_for_function("frame => viewer.panes[1].shown === frame", arg=expected)
        look = page.evaluate(LOOK, 1)
        assert (look["frame"], look["shown"], look["labels"]) == (expected, expected, expected)


def test_playing_ends_at_the_last_frame_with_its_labels(page: Any, address: str) -> None:
    open_page(page, address)
    page.keyboard.press("Space")
    page.wait_for_function("() => viewer.playing && viewer.lead.frame > 3")
    page.wait_for_function("() => !viewer.playing", timeout=20_000)
    settle(page, 39)
    assert page.locator("#play").inner_text() == "▶ Play"


def test_parts_are_named_hidden_merged_recoloured_saved_and_undone(page: Any, address: str, run: Path) -> None:
    open_page(page, address)
    page.evaluate("viewer.seek(20)")
    settle(page, LABELLED)
    assert {*colors_of(run, "even", LABELLED, PALETTE)} > {""}
    page.get_by_label("name of part 1").fill("<b>head</b>")
    page.get_by_label("name of part 1").press("Enter")
    page.get_by_label("name of part 1").blur()
    page.locator(".part[data-label='2'] button", has_text="Hide").click()
    assert page.evaluate(LOOK, 0)["painted"] == colors_of(run, "even", LABELLED, {**PALETTE, 2: ""})
    page.get_by_label("merge part 3 into").select_option("1")
    merged = {1: PALETTE[1], 3: PALETTE[1]}
    assert page.evaluate(LOOK, 0)["painted"] == colors_of(run, "even", LABELLED, merged)
    page.evaluate("viewer.lead.edits.recolor(1, '#0000ff')")
    assert page.evaluate(LOOK, 0)["painted"] == colors_of(run, "even", LABELLED, dict.fromkeys(merged, "0,0,255"))
    assert not (run / "edits.json").exists()
    keep(page, "viewer-edited")
    page.keyboard.press("Control+s")
    page.get_by_text("Saved", exact=True).first.wait_for()
    page.wait_for_function("() => document.getElementById('status').textContent === 'Saved'")
    state = load_edits(run / "edits.json").current
    assert (state.names, state.hidden, state.merged, state.colors) == ({1: "<b>head</b>"}, (2,), {3: 1}, {1: "#0000ff"})
    page.reload()
    page.wait_for_selector(".screen[data-ready=yes]")
    assert page.get_by_label("name of part 1").input_value() == "<b>head</b>"
    page.locator("#undo").click()
    page.wait_for_function("() => document.getElementById('status').textContent === 'Undone'")
    assert load_edits(run / "edits.json").states == ()
    assert page.get_by_label("name of part 1").input_value() == "part 1"


def test_a_key_hides_and_shows_a_part(page: Any, address: str, run: Path) -> None:
    open_page(page, address)
    page.evaluate("viewer.seek(20)")
    settle(page, LABELLED)
    assert {*colors_of(run, "even", LABELLED, PALETTE)} > {""}
    page.keyboard.press("1")
    assert page.evaluate(LOOK, 0)["painted"] == colors_of(run, "even", LABELLED, {**PALETTE, 1: ""})
    page.keyboard.press("1")
    assert page.evaluate(LOOK, 0)["painted"] == colors_of(run, "even", LABELLED, PALETTE)
    page.keyboard.press("1")
    page.keyboard.press("Control+z")
    assert page.evaluate(LOOK, 0)["painted"] == colors_of(run, "even", LABELLED, PALETTE)


def test_an_edit_of_somebody_else_is_told_and_neither_is_lost(page: Any, address: str, run: Path) -> None:
    open_page(page, address)
    page.locator(".part[data-label='1'] button", has_text="Hide").click()
    edit(run, Change(names={2: "theirs"}))
    # The server's answer to a conflict is one of the two errors that a browser reports by itself.
    page.locator("#save").click()
    page.get_by_text("Another viewer has saved meanwhile").wait_for()
    page.problems[:] = [problem for problem in page.problems if "409" not in problem]
    assert load_edits(run / "edits.json").current.names == {2: "theirs"}
    page.locator("#save").click()
    page.wait_for_function("() => document.getElementById('status').textContent === 'Saved'")
    assert [(each.names, each.hidden) for each in load_edits(run / "edits.json").states] == [
        ({2: "theirs"}, ()),
        ({}, (1,)),
    ]


def test_pictures_get_a_clip_that_the_browser_plays(
    page: Any, run: Path, tmp_path: Path, small_settings: Any, make_picture: Any
) -> None:
    from PIL import Image

    from pipeline.tasks.segment import segment

    (tmp_path / "frames").mkdir()
    for number in range(10):
        Image.fromarray(make_picture(number, (48, 64))).save(tmp_path / "frames" / f"{number}.png")
    segment([tmp_path / "frames"], tmp_path / "pictures", small_settings, codebook=run / "codebook.safetensors")
    before = sorted((tmp_path / "pictures").rglob("*"))
    with serving([tmp_path / "pictures"]) as server:
        open_page(page, server.address, 1)
        for frame in range(10):
            settle(page, frame)
            look = page.evaluate(LOOK, 0)
            assert (look["shown"], look["labels"]) == (frame, frame)
            page.keyboard.press("ArrowRight")
    assert sorted((tmp_path / "pictures").rglob("*")) == before


def test_results_of_other_codebooks_are_warned_of(
    page: Any, run: Path, tmp_path: Path, small_settings: Any, make_film: Any
) -> None:
    from pipeline.config import with_values
    from pipeline.tasks.segment import segment

    other = with_values(small_settings, {"cluster.parts": 2})
    segment([make_film("third.mp4", frames=6)], tmp_path / "other", other)
    with serving([run / "even", tmp_path / "other"]) as server:
        open_page(page, server.address)
        assert "different codebooks" in page.locator("#warnings").inner_text()
        page.get_by_role("button", name="out / even").click()
        assert page.locator(".pane").count() == 1
        assert page.locator(".pane h2").inner_text().startswith("third")
        assert page.locator(".part").count() == 2


def test_a_click_shows_what_is_similar(page: Any, address: str) -> None:
    open_page(page, address)
    page.locator(".pane:first-child .screen").click(position={"x": 60, "y": 60})
    page.locator("#whole").wait_for(timeout=60_000)
    assert page.locator(".pane:first-child .heat").is_visible()
    page.locator("#whole").click()
    page.get_by_text(re.compile("done: 40 of 40 frames")).wait_for(timeout=60_000)
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => viewer.heat.answers.has(1)")
    keep(page, "viewer-similarity")
    page.keyboard.press("Escape")
    assert not page.locator(".pane:first-child .heat").is_visible()


def test_memory_of_a_long_clip_stays_flat(page: Any, address: str) -> None:
    open_page(page, address)
    page.evaluate("async () => { for (let i = 0; i < 40; i++) await viewer.step(1); }")
    kept = page.evaluate("viewer.panes.map(pane => pane.chunks.kept.size)")
    assert max(kept) <= 12


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_opens_from_the_disk(page: Any, run: Path, dark: bool) -> None:
    edit(run, Change(names={1: "</script><b>x</b>"}))
    path = report(run)
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    assert page.get_by_text("</script><b>x</b>").first.is_visible()
    assert page.locator("section h2").all_inner_texts()[:2] == ["even", "uneven"]
    assert page.locator("#input-0 .pair").count() == 12
    page.wait_for_function("() => document.querySelector('#input-0 video').readyState >= 1")
    # A click in a chart jumps the clip to the frame there.
    chart = page.locator("#input-0 svg.chart").first
    box = chart.bounding_box()
    chart.click(position={"x": box["width"] * 10.5 / 39, "y": 40})
    page.wait_for_function("() => Math.abs(document.querySelector('#input-0 video').currentTime - 10 / 25) < 1 / 25")
    assert "frame 10 of 40" in page.locator("#input-0 .where").inner_text()
    chart.press("ArrowRight")
    assert "frame 11 of 40" in page.locator("#input-0 .where").inner_text()
    page.locator("#input-0 .pair").last.click()
    assert "frame 39 of 40" in page.locator("#input-0 .where").inner_text()
    keep(page, "report-dark" if dark else "report")
