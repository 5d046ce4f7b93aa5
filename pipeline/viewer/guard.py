"""Who may ask the viewer: whoever has the token, with which each address begins, and isn't a foreign page."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets through what has the token and comes from the page itself; all else gets an empty 403."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        """`hosts` are the values of Host, such as `127.0.0.1:8000`, that belong to this server."""
        self._app = app
        self._token = token.encode()
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http" or not self._is_ours(scope):
            if scope["type"] == "http":
                await Response(status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, self._protected(send))

    def _is_ours(self, scope: Scope) -> bool:
        headers, first = Headers(scope=scope), scope["path"].lstrip("/").split("/")[0]
        hosts = headers.getlist("host")
        return (
            hmac.compare_digest(first.encode("utf-8", "replace"), self._token)
            and len(hosts) == 1
            and hosts[0] in self._hosts
            and all(origin in self._origins for origin in headers.getlist("origin"))
            and all(site in ("same-origin", "none") for site in headers.getlist("sec-fetch-site"))
        )

    def _protected(self, send: Send) -> Send:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        return answer
