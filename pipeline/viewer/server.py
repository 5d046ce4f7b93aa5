"""Serving results on this machine: a free port, a token, the browser, and an orderly end."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from pipeline.errors import UsageError
from pipeline.viewer.app import make_app
from pipeline.viewer.describer import Describer
from pipeline.viewer.results import open_results

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs.

    Attributes:
        address: of the page, with the token.
        warnings: what a person should know before.
        wait: returns when it has ended, or after that many seconds; whether it has ended.
    """

    address: str
    warnings: tuple[str, ...]
    wait: Callable[[float | None], bool]


@contextmanager
def serving(results: list[Path], port: int = 0, source: Path | None = None) -> Iterator[Serving]:
    """Serve results until the end of the block.

    Args:
        results: runs, OUT, or results, OUT/<name>.
        port: to listen at; 0: any that is free.
        source: the input of the one result, if it has moved since.

    Raises:
        InputError: there is no result, or it can't be read.
        UsageError: the port is in use, or a source is given for several results.
    """
    viewed, describer = open_results(results, source), Describer()
    try:
        with _listening(port) as listener:
            actual = int(listener.getsockname()[1])
            hosts = frozenset({f"{HOST}:{actual}", f"localhost:{actual}"})
            token = secrets.token_urlsafe(24)
            app = make_app(viewed, token, hosts, describer)
            config = uvicorn.Config(
                app, log_level="error", access_log=False, server_header=False, lifespan="off", ws="none", http="h11"
            )
            server = uvicorn.Server(config)
            # Not Thread.join: up to Python 3.12 one that Ctrl-C interrupts takes the thread for ended ever after.
            ended = threading.Event()

            def run() -> None:
                try:
                    server.run(sockets=[listener])
                finally:
                    ended.set()

            threading.Thread(target=run, daemon=True).start()

            try:
                yield Serving(f"http://{HOST}:{actual}/{token}/", (*viewed.warnings, *viewed.problems), ended.wait)
            finally:
                server.should_exit = server.force_exit = True
                ended.wait(5)
    finally:
        describer.close()
        viewed.close()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            # From here on requests wait until the server takes them.
            listener.listen()
        except OSError as error:
            raise UsageError(
                f"port {port} can't be used ({error.strerror}); leave --port out, and a free one is taken"
            ) from error
        yield listener
