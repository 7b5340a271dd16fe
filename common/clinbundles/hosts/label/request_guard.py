"""A guard before all requests: no names that lead out of a folder, no commands from foreign web pages."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from monailabel.config import settings

from clinbundles.hosts.label.request_names import NameRefused, plain_id, plain_session, plain_tag

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_QUERY: dict[str, Callable[[str], str]] = {
    "image": plain_id,
    "label": plain_id,
    "id": plain_id,
    "tag": plain_tag,
    "session_id": plain_session,
}
_CLOSED = ("/reload",)  # lets anybody restart the app, also where authentication is on
_LOOPBACK = re.compile(r"(127(\.\d+){3}|localhost|\[::1\])(:\d+)?", re.IGNORECASE)


class RequestGuard:
    """Refuses requests before MONAI Label sees them.

    - a path with ``..`` or a backslash, and query names (image, label, id, tag, session) that are no plain names: 400;
    - requests that a browser sends for a web page of another origin, unless MONAI_LABEL_CORS_ORIGINS lists it: 403;
    - on loopback, requests under another host name (DNS rebinding): 403;
    - ``/reload``: 404.

    Args:
        app: the application behind.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.origins = {str(origin).rstrip("/") for origin in settings.MONAI_LABEL_CORS_ORIGINS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin", "")
        refused = self._refusal(scope, headers, origin)
        if refused is not None:
            await _answer(send, *refused)
        elif origin in self.origins:
            await self._answer_origin(scope, receive, send, origin)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: MutableMapping[str, str], origin: str) -> tuple[int, str] | None:
        host = headers.get("host", "")
        server = scope.get("server") or ("", 0)
        if str(server[0]).startswith("127.") and not _LOOPBACK.fullmatch(host):
            return 403, f"this server listens on this machine only and is not called {host!r}"
        if origin and origin not in self.origins and urlsplit(origin).netloc != host:
            return 403, f"requests of web pages from {origin} are refused; MONAI_LABEL_CORS_ORIGINS may allow them"
        path = str(scope["path"])
        if ".." in path.split("/") or "\\" in path or "\0" in path:
            return 400, "the path is refused: it leads out of its folder"
        if path.rstrip("/") in _CLOSED:
            return 404, "not here"
        try:
            for name, value in parse_qsl(scope.get("query_string", b"").decode("latin-1")):
                if name in _QUERY and value:
                    _QUERY[name](value)
        except NameRefused as error:
            return 400, str(error)
        return None

    async def _answer_origin(self, scope: Scope, receive: Receive, send: Send, origin: str) -> None:
        allowed = [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"origin"),
        ]

        async def send_with_origin(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *allowed]
            await send(message)

        if scope["method"] == "OPTIONS":
            await _answer(send_with_origin, 200, "")
        else:
            await self.app(scope, receive, send_with_origin)


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
