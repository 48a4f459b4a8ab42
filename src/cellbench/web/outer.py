"""What every request passes first and every answer last: host, origin, size, security headers."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cellbench.web.rights import SAFE_METHODS
from cellbench.web.site import Site

#: More than any request needs; a pasted protocol is the largest.
BODY_MAX_BYTES = 1_000_000
BODY_MOST_S = 10.0
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'none'; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class _Unreadable(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Outer:
    """The outermost layer of the application.

    Args:
        app: What is inside.
        site: Whose hosts and origins count.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], headers)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answered.setdefault(name, value)
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, dressed)
            return
        if scope["method"] not in SAFE_METHODS:
            try:
                receive = await _received(receive)
            except _Unreadable as error:
                await _refused(error.status, str(error))(scope, receive, dressed)
                return
        await self._app(scope, receive, dressed)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._site.is_ours(host):
            return _refused(421, "this server is not known by that name; see --host-name")
        if method in SAFE_METHODS:
            return None
        if not _is_same_origin(headers, host, tls=self._site.tls):
            return _refused(403, "the request comes from another origin")
        return None


def _is_same_origin(headers: Headers, host: str, *, tls: bool) -> bool:
    """Whether a request that changes something was made by a page of ours, or by no page."""
    origin = headers.get("origin")
    if origin is not None:
        parts = urlsplit(origin)
        same = parts.netloc.lower() == host.lower()
        return same and parts.scheme == ("https" if tls else "http")
    return headers.get("sec-fetch-site", "none") in {"same-origin", "none"}


async def _received(receive: Receive) -> Receive:
    """Take in a body whole, and hand it on."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_MOST_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Unreadable(400, "the request is incomplete")
                body += message.get("body", b"")
                if len(body) > BODY_MAX_BYTES:
                    raise _Unreadable(413, f"the request has more than {BODY_MAX_BYTES} bytes")
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise _Unreadable(408, f"no whole request within {BODY_MOST_S:g} s") from None
    whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def handed_on() -> Message:
        return whole.pop() if whole else await receive()

    return handed_on


def _refused(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status)
