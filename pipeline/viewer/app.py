"""The viewer's addresses and what they answer."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.documents import Document, message
from pipeline.errors import InputError, OutputError, UsageError, VidpartsError, one_line
from pipeline.runs.edits import EditConflictError, EditState
from pipeline.viewer.describer import Answer, Describer, Question
from pipeline.viewer.guard import Guard
from pipeline.viewer.jobs import Job, compare_clip
from pipeline.viewer.results import Viewed, ViewedResult, ViewedRun

_ASSETS = {
    "viewer.css": "text/css",
    "main.js": "text/javascript",
    "pane.js": "text/javascript",
    "labels.js": "text/javascript",
    "parts.js": "text/javascript",
    "timeline.js": "text/javascript",
    "shared.js": "text/javascript",
}
_MAX_BODY_BYTES = 2**20
_MAX_ANSWERS = 64
"""Frames whose similarities are told at once."""

Handler = Callable[[Request], Awaitable[Response]]


class _Revision(Document):
    revision: str = Field(max_length=64)


class _SavedState(_Revision):
    state: EditState


class _Place(Document):
    frame: int = Field(ge=0)
    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)


class _Addresses:
    """What the addresses answer with."""

    def __init__(self, viewed: Viewed, describer: Describer) -> None:
        self.viewed = viewed
        self.describer = describer
        self.comparisons: dict[str, Job] = {}

    async def page(self, request: Request) -> Response:
        return Response(_asset("index.html"), media_type="text/html")

    async def static(self, request: Request) -> Response:
        kind = _ASSETS.get(request.path_params["name"])
        if kind is None:
            return Response(status_code=404)
        return Response(_asset(request.path_params["name"]), media_type=kind)

    async def state(self, request: Request) -> Response:
        def told() -> bytes:
            runs = [run.describe() for run in self.viewed.runs]
            return json.dumps({"runs": runs, "warnings": self.viewed.warnings}, separators=(",", ":")).encode()

        body = await run_in_threadpool(told)
        packed = await run_in_threadpool(gzip.compress, body, 4)
        return Response(packed, media_type="application/json", headers={"content-encoding": "gzip"})

    async def labels(self, request: Request) -> Response:
        result = self._result(request)
        packed = await run_in_threadpool(result.chunk, _number(request, "chunk"))
        headers = {"content-encoding": "zstd", "vary": "accept-encoding"}
        if "zstd" not in request.headers.get("accept-encoding", ""):
            from numcodecs import Zstd  # type: ignore[import-untyped]

            packed = gzip.compress(Zstd().decode(packed), 1)
            headers["content-encoding"] = "gzip"
        return Response(packed, media_type="application/octet-stream", headers=headers)

    async def clip(self, request: Request) -> Response:
        file = self._result(request).clip
        if file is None or not file.is_file():
            return Response(status_code=404)
        return FileResponse(file, media_type="video/webm" if file.suffix == ".webm" else "video/mp4")

    async def proxy(self, request: Request) -> Response:
        job = await run_in_threadpool(self._result(request).proxy)
        return JSONResponse(job.describe())

    async def edits(self, request: Request) -> Response:
        run = self._run(request)
        if request.method == "GET":
            return JSONResponse(await run_in_threadpool(run.edits))
        saved = _SavedState.model_validate_json(await _body(request))
        return await self._changed(run, lambda: run.save(saved.state, saved.revision))

    async def undo(self, request: Request) -> Response:
        run = self._run(request)
        known = _Revision.model_validate_json(await _body(request))
        return await self._changed(run, lambda: run.undo(known.revision))

    async def similarity(self, request: Request) -> Response:
        result, place = self._result(request), _Place.model_validate_json(await _body(request))
        question = self._question(result, place)
        (answer, *_) = await run_in_threadpool(lambda: list(self.describer.ask(question)))
        if answer.error:
            raise InputError(answer.error)
        return JSONResponse(_told(answer))

    async def compare(self, request: Request) -> Response:
        result, place = self._result(request), _Place.model_validate_json(await _body(request))
        for job in self.comparisons.values():
            job.cancel()
        self.comparisons.clear()
        name = secrets.token_hex(8)
        question = self._question(result, place, whole=True)
        self.comparisons[name] = compare_clip(self.describer, question, len(result.store))
        return JSONResponse({"job": name, **self.comparisons[name].describe()})

    async def comparison(self, request: Request) -> Response:
        job = self.comparisons.get(request.path_params["job"])
        if job is None:
            return Response(status_code=404)
        if request.method == "DELETE":
            job.cancel()
        wanted = [int(word) for word in request.query_params.get("frames", "").split(",") if word.isdecimal()]
        found = [_told(job.answers[frame]) for frame in wanted[:_MAX_ANSWERS] if frame in job.answers]
        return JSONResponse({**job.describe(), "answers": found})

    async def _changed(self, run: ViewedRun, change: Callable[[], dict[str, Any]]) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(change))
        except EditConflictError as error:
            current = await run_in_threadpool(run.edits)
            return JSONResponse({"error": one_line(str(error)), **current}, status_code=409)

    def _question(self, result: ViewedResult, place: _Place, *, whole: bool = False) -> Question:
        if place.frame >= len(result.store):
            raise UsageError(f"there is no frame {place.frame}")
        return Question(result.facts.directory, place.frame, place.x, place.y, whole, result.source)

    def _result(self, request: Request) -> ViewedResult:
        return self.viewed.results[_within(request, "result", len(self.viewed.results))]

    def _run(self, request: Request) -> ViewedRun:
        return self.viewed.runs[_within(request, "run", len(self.viewed.runs))]


def make_app(viewed: Viewed, token: str, hosts: frozenset[str], describer: Describer) -> ASGIApp:
    """The application that shows results to whoever has the token."""
    at = _Addresses(viewed, describer)
    routes: list[tuple[str, Handler, list[str]]] = [
        ("/", at.page, ["GET"]),
        ("/static/{name}", at.static, ["GET"]),
        ("/state", at.state, ["GET"]),
        ("/labels/{result}/{chunk}", at.labels, ["GET"]),
        ("/clip/{result}", at.clip, ["GET"]),
        ("/proxy/{result}", at.proxy, ["POST"]),
        ("/edits/{run}", at.edits, ["GET", "PUT"]),
        ("/edits/{run}/undo", at.undo, ["POST"]),
        ("/similarity/{result}", at.similarity, ["POST"]),
        ("/comparisons/{result}", at.compare, ["POST"]),
        ("/comparison/{job}", at.comparison, ["GET", "DELETE"]),
    ]
    inner = Starlette(
        routes=[Route(f"/{token}{path}", handler, methods=methods) for path, handler, methods in routes],
        exception_handlers={VidpartsError: _refuse, ValidationError: _refuse},
    )
    return Guard(inner, token, hosts)


async def _refuse(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, InputError) else 507 if isinstance(error, OutputError) else 422
    said = message(error) if isinstance(error, ValidationError) else str(error)
    return JSONResponse({"error": one_line(said)}, status_code=status)


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            raise UsageError("the request is too large")
    return body


def _number(request: Request, name: str) -> int:
    text = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError(f"there is no {name} '{text[:20]}'")
    return int(text)


def _within(request: Request, name: str, count: int) -> int:
    number = _number(request, name)
    if number >= count:
        raise InputError(f"there is no {name} {number}")
    return number


def _told(answer: Answer) -> dict[str, Any]:
    rows, cols = answer.values.shape
    packed = base64.b64encode(answer.values.tobytes()).decode()
    return {"frame": answer.frame, "rows": rows, "cols": cols, "box": answer.box, "values": packed}


def _asset(name: str) -> bytes:
    room = "pipeline.reporting" if name == "shared.js" else "pipeline.viewer"
    return files(room).joinpath("assets", name).read_bytes()
