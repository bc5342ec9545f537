"""The command that shows runs in a browser: serve."""

from __future__ import annotations

import secrets
import signal
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from index.cli.completing import completing
from index.cli.terminal import printable
from index.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from starlette.applications import Starlette

    from index.cli.location import StoreLocation

__all__ = ["serve"]

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_CONNECTIONS: Final = 200
"""Connections that are answered at once; more get status 503."""

_GRACE_S: Final = 5
"""Seconds that downloads have to end after Ctrl-C."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Address to listen on.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N",
              help="Port to listen on. Default: a free one.")  # fmt: skip
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--session", "session_ids", multiple=True, metavar="ID",
              shell_complete=completing("session"),
              help="Show only this session. Repeat it for a link to each of several.")  # fmt: skip
@click.option("--token", envvar="CAS_TOKEN", metavar="TEXT",
              help="Secret that readers need. Default: a new one each time.")  # fmt: skip
@click.option("--allow-host", "names", multiple=True, metavar="NAME",
              help="Another name of this server, as behind a proxy; may be repeated.")  # fmt: skip
@click.pass_obj
def serve(
    location: StoreLocation,
    /,
    *,
    host: str,
    port: int,
    opens: bool,
    session_ids: tuple[str, ...],
    token: str | None,
    names: tuple[str, ...],
) -> None:
    """Show runs in a browser, and serve the JSON API.

    The command prints a link that opens the page once, and a token for the API and for other
    browsers. Without --session they are for everything in the store. It needs
    `pip install 'runcas[web]'`. Nothing can be changed through it. Ctrl-C ends it.

    \b
    cas serve --open
    cas serve --port 8400 --session task-12
    CAS_TOKEN=… cas serve --host 0.0.0.0 --port 8400 --allow-host runs.example.org
    """  # noqa: D301
    if token is not None and len(session_ids) > 1:
        raise click.UsageError("--token goes with one session; leave it out to get one for each")
    try:
        from index.web import Grant, Tokens, application
    except ImportError as error:
        raise MissingPackageError("cas serve", str(error.name), "runcas[web]") from error
    secret = token or secrets.token_urlsafe(32)
    grants = {secret: Grant()}
    if session_ids:
        shown = dict.fromkeys(session_ids)
        first, *others = shown
        tokens = {first: secret, **{each: secrets.token_urlsafe(32) for each in others}}
        grants = {tokens[each]: Grant.of(each) for each in shown}
    with location.open(create=False) as store, _listening(host, port) as listener:
        for each in session_ids:
            store.session(each).runs(limit=0)  # which raises if there is no such session
        number = listener.getsockname()[1]
        authorize = Tokens(grants, cookie=f"cas-token-{number}")
        app = application(store, authorize=authorize, hosts=(*_LOOPBACK, host, *names))
        address = _address([*names, host][0], number)
        if host not in _LOOPBACK and not names:
            click.echo(_IN_THE_CLEAR, err=True)
        links = {each: f"{address}/login?code={authorize.make_code(each)}" for each in grants}
        for each, grant in grants.items():
            what = f"session {', '.join(grant.sessions)}" if grant.sessions else "all runs"
            click.echo(f"{printable(what)}: {links[each]}")
            click.echo(f"  token: {each}")
        click.echo("The link opens the page once. Ctrl-C ends the server.", err=True)
        if opens:
            import webbrowser  # only this needs it

            webbrowser.open(links[secret])
        _serve(app, listener)


_IN_THE_CLEAR: Final = (
    "warning: without TLS, others on the network can read the token; put a proxy with TLS before it"
)


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before anything is printed, so that a link works as soon as it is seen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address, family=family, backlog=_CONNECTIONS)
    except (OSError, ValueError) as error:  # ValueError for what is no name of a host
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise click.UsageError(
            f"{printable(host)} port {port} can't be listened on: {reason}; give another --port"
        ) from error
    # Connections inherit it. asyncio does not set it for a listener of another's making, and the
    # headers and the body of an answer are two packets: without it each waits 40 ms for the other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


def _serve(app: Starlette, listener: socket.socket) -> None:
    """Answer requests until SIGINT, SIGTERM or SIGHUP."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.close()  # streams of events would go on
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # it would have codes of links
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = Server(config)
    hangs_up = signal.getsignal(signal.SIGHUP)
    # uvicorn sees to the other two. A handler of an application, or nohup's, stays.
    if getattr(hangs_up, "__module__", None) == "index.cli.entry_point":
        signal.signal(signal.SIGHUP, server.handle_exit)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended
        server.run(sockets=[listener])
