"""The outermost layer: refuses requests of other sites, and keeps browsers to what pages need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from index.web.access import is_foreign, is_known_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ROOT", "Guard"]

ROOT: Final = "cas.root"
"""The key of a request's scope for the path that the application is mounted at. Mounts inside it
change ``root_path``."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The policy of pages: scripts and styles of this site alone, none of them inline."""

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Vary": "Cookie, Authorization",
}
"""Headers of every answer that does not have its own."""


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    added.setdefault(name, value)
            await send(message)

        scope[ROOT] = scope.get("root_path", "")
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and not is_known_host(host, self._hosts):
            text = "this server has another name; give --allow-host NAME to `cas serve`\n"
            await PlainTextResponse(text, 421)(scope, receive, send_guarded)
            return
        if is_foreign(headers.get("origin"), host, self._hosts or ()):
            text = "requests from pages of other sites are refused\n"
            await PlainTextResponse(text, 403)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)
