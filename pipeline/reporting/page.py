"""The frame of every report: one HTML file with all it needs inline, in which nothing from outside can run."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from pipeline.version import __version__

MARK = b"<!-- a report of vidparts -->\n"
"""The end of every page, by which one that may be replaced is known."""


def asset(name: str) -> str:
    """The text of a file of `assets/`."""
    return files("pipeline.reporting").joinpath("assets", name).read_text(encoding="utf-8")


def compose(title: str, body: str, data: Mapping[str, Any] | None = None) -> bytes:
    """A page.

    Args:
        title: of the window; plain text.
        body: HTML between the page's ends, in which every text from a file is escaped already.
        data: what the page's script builds the rest from; None: there is no script.
    """
    # In the page there are no modules.
    shared = asset("shared.js").replace("export function", "function")
    script = "" if data is None else f'"use strict";\n{shared}{asset("run.js")}'
    beside = " Clips lie beside this page." if data is not None or "<video" in body else ""
    style = asset("page.css")
    # Only this script and this style may run, and only pictures in the page and clips beside it be loaded.
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "media-src 'self' file:",
            "style-src 'unsafe-inline'",
            f"script-src '{_hash(script)}'" if script else "script-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{style}</style></head><body>",
        body,
        f"<footer>Written by vidparts {html.escape(__version__)}.{beside}</footer>",
    ]
    if data is not None:
        parts.append(f'<script type="application/json" id="data">{_embedded(data)}</script>')
        parts.append(f"<script>{script}</script>")
    return "\n".join([*parts, "</body></html>", ""]).encode() + MARK


def header(kicker: str, title: str, sentences: Sequence[str], doubts: Sequence[str] = ()) -> str:
    """The head of a page: what it is about, the verdict, and what to doubt."""
    lines = [f'<header class="top"><p class="kicker">{html.escape(kicker)}</p><h1>{html.escape(title)}</h1>']
    lines += [f'<p class="verdict">{html.escape(" ".join(sentences))}</p>']
    if doubts:
        lines += ['<ul class="doubts">', *(f"<li>{html.escape(doubt)}</li>" for doubt in doubts), "</ul>"]
    return "\n".join([*lines, "</header>"])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns that hold numbers in every row are set to the right."""
    numbers = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    marks = [' class="number"' if number else "" for number in numbers]
    head = "".join(f"<th{mark}>{html.escape(name)}</th>" for name, mark in zip(columns, marks, strict=True))
    body = [
        "<tr>" + "".join(f"<td{mark}>{html.escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    ]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def _is_number(text: str) -> bool:
    return re.fullmatch(r"|-|(< )?-?[0-9][0-9,]*(\.[0-9]+)?( %)?", text) is not None


def _embedded(data: Mapping[str, Any]) -> str:
    # No text can end the script element, or begin a comment in it.
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
