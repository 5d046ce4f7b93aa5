"""Reports of commands on pictures and of evaluations, from what lies on the disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.cli.app import main
from pipeline.config import Settings, with_values
from pipeline.errors import InputError
from pipeline.reporting.gallery import find_gallery
from pipeline.tasks.coseg import coseg
from pipeline.tasks.match import match
from pipeline.tasks.parts import parts
from pipeline.tasks.pca import pca
from pipeline.tasks.report import report

Picture = Callable[[int, tuple[int, int]], NDArray[np.uint8]]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    from tests.conftest import moving_scene

    files = []
    for number, scene in enumerate(moving_scene(3, (96, 128))):
        files.append(tmp_path / f"cat <{number}>.png")
        Image.fromarray(scene).save(files[-1])
    return files


@pytest.fixture
def settings(small_settings: Settings) -> Settings:
    return with_values(small_settings, {"features.load_size": 96, "saliency.threshold": 0.2})


def test_each_command_gets_a_page_with_its_sheets(pictures: list[Path], settings: Settings, tmp_path: Path) -> None:
    parts(pictures, tmp_path / "parts", settings)
    coseg(pictures, tmp_path / "coseg", settings)
    pca(pictures, tmp_path / "pca", settings)
    match(pictures[0], pictures[1], tmp_path / "match", settings)
    said = {
        "parts": "3 parts of 3 pictures",
        "coseg": "The common object of 3 pictures",
        "pca": "6 pictures. The first principal component",
        "match": "corresponding points",
    }
    for name, sentence in said.items():
        text = report(tmp_path / name).read_text(encoding="utf-8")
        assert sentence in text, name
        assert "data:image/jpeg;base64," in text
        assert "<script" not in text
        assert "<0>" not in text
        assert len(text) < 2_000_000
        again = report(tmp_path / name).read_text(encoding="utf-8")
        assert again == text, "its own page is none of its pictures"
    # What was found comes first: the sheet over the page's width, pictures beside each other, then the tables.
    text = (tmp_path / "parts" / "report.html").read_text(encoding="utf-8")
    assert text.index('class="wide"') < text.index("<figure><img") < text.index("Share of each picture")
    assert "cat _0_" in (tmp_path / "parts" / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_shows_its_tables(tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text(
        "# CUB\n\n| figure | ours | paper |\n| --- | ---: | ---: |\n| NMI <b> | 30.1 | 38.9 |\n\n- 2 <birds>\n"
    )
    (tmp_path / "items.csv").write_text("item,lines,nmi\nbird <1>,1,0.123456789\n")
    text = report(tmp_path).read_text(encoding="utf-8")
    assert '<td>NMI &lt;b&gt;</td><td class="number">30.1</td>' in text
    assert '<p class="verdict">CUB. NMI &lt;b&gt;: ours 30.1, paper 38.9.</p>' in text
    assert "<li>2 &lt;birds&gt;</li>" in text
    assert '<th>item</th><th class="number">nmi</th>' in text
    assert '<td>bird &lt;1&gt;</td><td class="number">0.1235</td>' in text


def test_a_strangers_record_is_one_line(tmp_path: Path) -> None:
    for content in ('{"pictures": [{}], "task": "parts"}', '{"pictures": []}', '{"pictures": ' + "[" * 9999):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(InputError) as told:
            find_gallery(tmp_path)
        assert "\n" not in str(told.value)


def test_a_failing_report_undoes_nothing(
    pictures: list[Path], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("my own")
    words = [
        "saliency",
        str(pictures[0]),
        "-o",
        str(out),
        "--model",
        str(tiny_model),
        "--load-size",
        "48",
        "--stride",
        "8",
    ]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "there is no report" in capsys.readouterr().err
    (out / "report.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main([*words, "--overwrite"])
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out
    assert "Saliency from blue" in (out / "report.html").read_text()
