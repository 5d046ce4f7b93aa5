"""The report of a command on pictures and of an evaluation: its sheets, its tables, and what was said of it."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.reports import LINES
from pipeline.media.inline import data_uri, jpeg, scaled
from pipeline.media.picture_sequence import natural_key
from pipeline.media.pictures import read_picture
from pipeline.reporting.page import compose, header, table
from pipeline.reporting.verdict import count, percent

_BUDGET = 1_300_000
"""Bytes of the pictures in a page, as they are written into it."""
_SIZES = ((1280, 82), (1024, 78), (800, 74), (640, 70), (480, 64), (320, 58), (240, 52), (160, 46))
_COLUMN_PX = 640
"""Longer side of pictures that stand in columns."""
_WIDE = ' class="wide"'
_MOST = 120
"""Pictures in a page at most; the others are counted."""
_MOST_ROWS = 400
_CLIPS = 12
_MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Gallery:
    """What a page shows.

    Attributes:
        command: whose results they are.
        sentences: the verdict.
        doubts: what to doubt.
        sheets: pictures that are shown as wide as the page, in their order.
        pictures: the other pictures, in their order.
        clips: files, in their order.
        tables: HTML of each table by its heading.
    """

    command: str
    sentences: Sequence[str]
    doubts: Sequence[str] = ()
    sheets: Sequence[Path] = ()
    pictures: Sequence[Path] = ()
    clips: Sequence[Path] = ()
    tables: Mapping[str, str] | None = None


def gallery_page(folder: Path, gallery: Gallery) -> bytes:
    """A page with a folder's results as HTML."""
    sheets = gallery.sheets[:_MOST]
    pictures = gallery.pictures[: _MOST - len(sheets)]
    figures = [*_figures(folder, sheets, pictures), *(_clip(folder, clip) for clip in gallery.clips[:_CLIPS])]
    shown = len(sheets) + len(pictures) + len(gallery.clips[:_CLIPS])
    left = len(gallery.sheets) + len(gallery.pictures) + len(gallery.clips) - shown
    rest = [f'<p class="note">{count(left, "more file")} in this folder.</p>'] if left else []
    body = [header(f"vidparts {gallery.command}", folder.absolute().name, gallery.sentences, gallery.doubts), "<main>"]
    if figures:
        body += ['<section><h2>Results</h2><div class="sheets">', *figures, "</div>", *rest, "</section>"]
    body += [f"<section><h2>{html.escape(name)}</h2>{rows}</section>" for name, rows in (gallery.tables or {}).items()]
    return compose(f"{folder.absolute().name}: {gallery.command}", "\n".join([*body, "</main>"]))


def find_gallery(folder: Path) -> Gallery | None:
    """What a folder of results is to show; None where it holds none that this program writes.

    Raises:
        InputError: a file in it is damaged.
    """
    if (folder / "summary.md").is_file():
        return _evaluation(folder)
    record = _json(folder / "run.json")
    if record is not None and "pictures" in record:
        return _album(folder, record)
    for name, describe in _DESCRIBED.items():
        found = _json(folder / f"{name}.json")
        if found is not None:
            return describe(folder, found)
    pictures, clips = _files(folder, (".png", ".jpg")), _files(folder, (".mp4",))
    if not pictures and not clips:
        return None
    command = "pca" if any(path.stem.endswith("-first") for path in (*pictures, *clips)) else "saliency"
    what = {
        "pca": "The first principal component in grey, the second to the fourth as red, green and blue.",
        "saliency": "Saliency from blue, 0, to red, 1.",
    }[command]
    return Gallery(command, [f"{_counted(pictures, clips)}.", what], pictures=pictures, clips=clips)


def _album(folder: Path, record: Mapping[str, Any]) -> Gallery:
    try:
        rows, command = list(record["pictures"]), str(record["task"])
        named = [f"part {number}" for number in range(1, len(rows[0]["shares"]))] if command == "parts" else ["object"]
        shares = [[str(row["name"]), *(percent(float(share)) for share in row["shares"][1:])] for row in rows]
        outliers = [str(row["name"]) for row in rows if row["outlier"]]
        failures = [f"{name} couldn't be used: {why}" for name, why in dict(record["failures"]).items()]
        votes = [int(number) for number in record["clusters"]["votes"]]
        salient = {int(number) for number in record["clusters"]["salient"]}
        warnings = [str(warning) for warning in record["warnings"]]
        model = str(record["model"]["name"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"'{folder / 'run.json'}' is of another kind ({error!r:.80}); make the result again"
        ) from error
    what = (
        f"{count(len(named), 'part')} of {count(len(rows), 'picture')}"
        if command == "parts"
        else (f"The common object of {count(len(rows), 'picture')}")
    )
    clusters = [
        [f"#{number + 1}", str(votes[number]), "foreground" if number in salient else "background"]
        for number in sorted(range(len(votes)), key=lambda each: -votes[each])
    ]
    doubts = [*failures, *warnings, *(f"{name} is unlike the others and was left out." for name in outliers)]
    empty = [row[0] for row in shares if all(cell == "0 %" for cell in row[1:])]
    doubts += (
        [f"Nothing was found in {', '.join(empty[:5])}{' and others' if len(empty) > 5 else ''}."] if empty else []
    )
    sheets = _files(folder, (".png", ".jpg"))
    overviews = [path for path in sheets if re.fullmatch(r"overview(-\d+)?\.png", path.name)]
    single = "_parts.png" if command == "parts" else "_cutout.png"
    shown = [path for path in sheets if path.name.endswith(single)]
    tables = {
        "Share of each picture": table(["Picture", *named], shares[:_MOST_ROWS]),
        "Clusters and their votes": table(["Cluster", "Votes of pictures", "Taken as"], clusters),
    }
    return Gallery(command, [f"{what}, found with the model {model}."], doubts, overviews, shown, tables=tables)


def _evaluation(folder: Path) -> Gallery:
    tables, lines = {}, _text(folder / "summary.md").splitlines()
    sentences = [line.lstrip("# ") for line in lines if line.startswith("#")][:1]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if "|" in line]
    notes = [line.removeprefix("- ") for line in lines if line.strip() and "|" not in line and not line.startswith("#")]
    if len(rows) > 2:
        head, _, first, *_ = (_padded(row, len(rows[0])) for row in rows)
        # The first figure is the one that the benchmark is known by.
        said = [f"{name} {value}" for name, value in zip(head[1:], first[1:], strict=True) if value not in ("", "-")]
        sentences = [f"{'. '.join([*sentences, first[0]])}: {', '.join(said)}."]
        body = [_padded(row, len(head)) for row in rows[2:]]
        tables["Summary"] = table([name[:1].upper() + name[1:] for name in head], body) + _list(notes)
    for file in sorted(folder.rglob("items.csv")):
        items = list(csv.reader(io.StringIO(_text(file))))
        if len(items) > 1:
            name = "Items" if file.parent == folder else f"Items of {file.parent.relative_to(folder).as_posix()}"
            more = f" (the first {_MOST_ROWS} of {len(items) - 1:,})" if len(items) - 1 > _MOST_ROWS else ""
            tables[name + more] = _items(items[0], items[1 : _MOST_ROWS + 1])
    return Gallery("evaluate", sentences, tables=tables)


def _items(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of an items.csv, without the column that says how many there are of an item."""
    shown = [place for place, name in enumerate(names) if name != LINES]
    body = [[_rounded(row[place]) for place in shown] for row in (_padded(each, len(names)) for each in rows)]
    return table([names[place] for place in shown], body)


def _rounded(cell: str) -> str:
    return f"{float(cell):.4f}" if re.fullmatch(r"-?[0-9]+\.[0-9]{5,}(e-?[0-9]+)?", cell) else cell


def _list(notes: Sequence[str]) -> str:
    return f'<ul class="note">{"".join(f"<li>{html.escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _match(folder: Path, found: Mapping[str, Any]) -> Gallery:
    pairs = found.get("pairs")
    number = len(pairs) if isinstance(pairs, list) else 0
    return Gallery("match", [f"{count(number, 'pair')} of corresponding points."], sheets=_files(folder, (".png",)))


def _similarity(folder: Path, found: Mapping[str, Any]) -> Gallery:
    targets = found.get("targets")
    number = len(targets) if isinstance(targets, list) else 0
    sentence = f"Similarity to one point in {count(number, 'target')}: blue is low, red is high."
    return Gallery("similarity", [sentence], pictures=_files(folder, (".png",)), clips=_files(folder, (".mp4",)))


def _layers(folder: Path, found: Mapping[str, Any]) -> Gallery:
    del found
    sentence = "What each layer and facet shows, and the parts' descriptors in a plane."
    return Gallery("layers", [sentence], sheets=_files(folder, (".png",)))


_DESCRIBED = {"matches": _match, "similarity": _similarity, "layers": _layers}


def _figures(folder: Path, sheets: Sequence[Path], pictures: Sequence[Path]) -> list[str]:
    found = [(path, picture) for path in (*sheets, *pictures) if (picture := _read(path)) is not None]
    for long_side, quality in _SIZES:
        sides = [long_side if path in sheets else min(long_side, _COLUMN_PX) for path, _ in found]
        shown = [
            data_uri(jpeg(scaled(picture, side), quality)) for (_, picture), side in zip(found, sides, strict=True)
        ]
        if sum(map(len, shown)) <= _BUDGET or (long_side, quality) == _SIZES[-1]:
            break
    return [
        f'<figure{_WIDE if path in sheets else ""}><img src="{address}" alt="">'
        f"<figcaption>{_link(folder, path)}</figcaption></figure>"
        for (path, _), address in zip(found, shown, strict=True)
    ]


def _clip(folder: Path, path: Path) -> str:
    address = html.escape(urllib.parse.quote(path.relative_to(folder).as_posix()))
    return (
        f'<figure{_WIDE}><video controls muted preload="metadata" src="{address}"></video>'
        f"<figcaption>{_link(folder, path)}</figcaption></figure>"
    )


def _link(folder: Path, path: Path) -> str:
    name = path.relative_to(folder).as_posix()
    return f'<a href="{html.escape(urllib.parse.quote(name))}">{html.escape(name)}</a>'


def _read(path: Path) -> Image.Image | None:
    try:
        return Image.fromarray(read_picture(path))
    except InputError:
        return None


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix in suffixes and path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: natural_key(path.name))


def _counted(pictures: Sequence[Path], clips: Sequence[Path]) -> str:
    kinds: Iterable[str] = (
        count(len(files), kind) for files, kind in ((pictures, "picture"), (clips, "clip")) if files
    )
    return " and ".join(kinds)


def _padded(row: Sequence[str], width: int) -> list[str]:
    return [*row, *[""] * width][:width]


def _json(file: Path) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{file}' is damaged ({error!s:.80}); make the result again") from error
    return found if isinstance(found, dict) else None


def _text(file: Path) -> str:
    try:
        if file.is_symlink() or file.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"'{file}' is no plain file of a sensible size; make the result again")
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"'{file}' can't be read: {error.strerror or error}") from error
