"""The ASGI application: routes of the API and of the pages, and what happens around each."""

from __future__ import annotations

import inspect
import json
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from index.web.access import Tokens, UnauthorizedError
from index.web.archives import archive
from index.web.asked import Asked
from index.web.endpoints import ENDPOINTS, FEEDS, PREFIX
from index.web.failures import failure_of
from index.web.feed import Feed
from index.web.guard import ROOT, Guard
from index.web.openapi import document
from index.web.pages import PAGES, login_url, render, render_failure, render_login
from index.web.parameters import read_query
from index.web.previews import Previewer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from index import ArtifactStore
    from index.web.access import Authorize, Grant
    from index.web.parameters import Parameter

__all__ = ["application"]

READS: Final = 16
"""Requests that read the store at once; others wait."""

ARCHIVES: Final = 4
"""Archives that are sent at once; others are refused, for each may take hours."""

_STATIC: Final = Path(__file__).with_name("static")

_FORM: Final = 1 << 14
"""Bytes of a form with a token, at most. Who sends one has shown no token yet."""

_CLOSE: Final = {"Connection": "close"}
"""Ends the connection, so that the rest of a request is not read."""

_COOKIE_S: Final = 30 * 24 * 3600
"""Seconds that a browser keeps the token."""


def application(
    store: ArtifactStore, *, authorize: Authorize, hosts: Sequence[str] | None = None
) -> Starlette:
    """Return an ASGI application that shows the runs of a store, and changes nothing.

    Serve it alone, or mount it in an application of your own. The pages are at its root, the API is
    at ``/api/v1``, and the API's OpenAPI document at ``/api/v1/openapi.json``. The store stays
    open, and is yours to close.

    Parameters
    ----------
    authorize
        Called with each request, on the event loop; returns the `Grant` of what it may see, or None
        to refuse it. It may be a coroutine function. `Tokens` is one; with it, the application has
        a page to log in.
    hosts
        The host names that browsers may reach it by. A request with another name gets status 421,
        which defeats DNS rebinding. None if the application that mounts it checks names.
    """
    return _Application(store, authorize, hosts).app


class _Application:
    """The state that all requests share."""

    def __init__(
        self, store: ArtifactStore, authorize: Authorize, hosts: Sequence[str] | None
    ) -> None:
        self._store, self._authorize = store, authorize
        self._previewer = Previewer()
        self._feed = Feed(store)
        self._reads: CapacityLimiter | None = None
        self._archives = 0
        routes: list[BaseRoute] = [Route(f"{PREFIX}/openapi.json", self._document)]
        for each in ENDPOINTS:
            answer = partial(self._answer, each.answer, each.parameters, _json)
            routes.append(Route(PREFIX + each.path, _endpoint(answer), name=each.name))
        for path in FEEDS:
            answer = partial(self._answer, self._feed.events, (), _json)
            routes.append(Route(PREFIX + path, _endpoint(answer), name="events"))
        for page in PAGES:
            answer = partial(self._answer, page.context, page.parameters, partial(render, page))
            routes.append(Route(page.path, _endpoint(answer), name=page.name))
        if isinstance(authorize, Tokens):
            routes.append(Route("/login", self._log_in, methods=["GET", "POST"]))
        routes.append(Mount("/static", StaticFiles(directory=_STATIC)))
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(Guard, hosts=hosts)],
            exception_handlers={HTTPException: self._failed},
            lifespan=self._lifespan,
        )
        self.app.state.close = self._close

    def _close(self) -> None:
        self._feed.close()
        self._previewer.close()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._close()

    async def _grant(self, request: Request) -> Grant:
        grant = self._authorize(request)
        if inspect.isawaitable(grant):
            grant = await grant
        if grant is None:
            raise UnauthorizedError
        return grant

    async def _answer(
        self,
        answer: Callable[[Asked], Any],
        parameters: Sequence[Parameter],
        respond: Callable[[Asked, Any], ASGIApp],
        request: Request,
    ) -> ASGIApp:
        try:
            root = request.scope[ROOT]
            asked = Asked(
                store=self._store,
                grant=await self._grant(request),
                previewer=self._previewer,
                path=request.path_params,
                values=read_query(request.scope["query_string"], parameters),
                headers=request.headers,
                is_head=request.method == "HEAD",
                root=root,
                place=request.scope["path"].removeprefix(root),
            )
            if answer is archive and not asked.is_head:
                return await self._archive(asked)
            return await self._off_the_loop(lambda: respond(asked, answer(asked)))
        except Exception as error:  # noqa: BLE001 - each has an answer
            return self._failed(request, error)

    async def _off_the_loop(self, work: Callable[[], ASGIApp]) -> ASGIApp:
        if self._reads is None:  # a limiter belongs to a loop
            self._reads = CapacityLimiter(READS)
        return await run_sync(work, limiter=self._reads)

    async def _archive(self, asked: Asked) -> ASGIApp:
        if self._archives >= ARCHIVES:
            message = "too many archives are being sent; try again later"
            raise HTTPException(503, message, {"Retry-After": "10"})
        self._archives += 1
        try:
            response = await self._off_the_loop(lambda: archive(asked))
        except BaseException:
            self._archives -= 1
            raise

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await response(scope, receive, send)
            finally:
                self._archives -= 1

        return counted

    async def _document(self, request: Request) -> Response:
        return _json(None, document(request.scope[ROOT]))

    def _failed(self, request: Request, error: Exception) -> Response:
        failure = failure_of(error)
        root = request.scope[ROOT]
        place = request.scope["path"].removeprefix(root)
        if failure.status == 401 and isinstance(self._authorize, Tokens) and not _is_api(place):
            query = request.scope["query_string"].decode("latin-1")
            wanted = f"{quote(request.scope['path'])}?{query}"
            return RedirectResponse(login_url(root, wanted), 303)
        headers = dict(getattr(error, "headers", None) or {})
        if failure.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if _is_api(place):
            return _json(None, failure._asdict(), status=failure.status, headers=headers)
        page = render_failure(failure, root)
        return HTMLResponse(page, failure.status, headers)

    async def _log_in(self, request: Request) -> Response:
        tokens, root = self._authorize, request.scope[ROOT]
        assert isinstance(tokens, Tokens)  # noqa: S101 - or there is no such route
        wanted = request.query_params.get("next", "")
        code = request.query_params.get("code")
        if code is not None:
            # HEAD is sent by what looks at links, not by who opens them.
            token = tokens.redeem(code) if request.method == "GET" else None
            refused = "This link was used before. Start the server again, or paste its token here."
        else:
            form = parse_qs(await _short_body(request)) if _posts(request) else {}
            token = form.get("token", [""])[0].strip()
            refused = "This is not a token of this server."
        if token is None or tokens.grant_of(token) is None:
            was_tried = code is not None or _posts(request)
            page = render_login(root, wanted, refused if was_tried else None)
            return HTMLResponse(page, 401 if was_tried else 200)
        is_ours = wanted.startswith(f"{root}/") and wanted[1:2] not in ("/", "\\")
        response = RedirectResponse(wanted if is_ours else f"{root}/", 303)
        response.set_cookie(
            tokens.cookie,
            token,
            max_age=_COOKIE_S,
            path=root or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response


def _endpoint(answer: Callable[[Request], Awaitable[ASGIApp]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> ASGIApp:
        return await answer(request)

    return endpoint


def _json(
    _asked: Asked | None,
    value: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    if isinstance(value, Response):
        return value
    # Names that are not UTF-8 have lone surrogates, which only escapes can express.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")


def _is_api(place: str) -> bool:
    return place.startswith(f"{PREFIX}/")


def _posts(request: Request) -> bool:
    return request.method == "POST"


async def _short_body(request: Request) -> str:
    """Return the body of a request. One that is longer than any form of ours is refused."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM:
            raise HTTPException(413, "this is longer than a form with a token", _CLOSE)
    return body.decode("latin-1")
