"""Entry point: run a command, and turn an error into one sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

import click

from cas.errors import (
    BackendError,
    BlobNotFoundError,
    CasError,
    CorruptPackError,
    DigestMismatchError,
    InvalidDigestError,
    ObjectNotFoundError,
)
from index.cli.advice import in_commands
from index.cli.commands import cas
from index.cli.terminal import colour_wanted, printable
from index.errors import (
    AmbiguousNameError,
    ArtifactIndexError,
    CommandNotFoundError,
    CommandNotStartedError,
    ConfigError,
    DanglingFileError,
    ImportMismatchError,
    IndexUnavailableError,
    InvalidExpressionError,
    InvalidNameError,
    ParentCycleError,
    SameStoreError,
    SchemaOutOfDateError,
    UnsafePathError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["EXIT_CODES", "run"]

_OK: Final = 0
_ERROR: Final = 1
_USAGE: Final = 2
_KILLED: Final = 128
"""Shells report a process that a signal has ended as this and the number of the signal."""

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command as Ctrl-C does: it removes what it has written by half."""

_AT_ONCE_S: Final = 1.0
"""Seconds after a Ctrl-C in which another one is the same."""

_HELP: Final[type[Exception] | tuple[()]] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""The exception that click 8.2 raises to print the help. Its message has many lines."""

EXIT_CODES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...]] = (
    (CommandNotFoundError, 127),  # this and the next one as shells have them
    (CommandNotStartedError, 126),
    ((ConfigError, InvalidNameError, UnsafePathError, InvalidDigestError, SameStoreError), 2),
    ((AmbiguousNameError, InvalidExpressionError, ParentCycleError), 2),
    ((DigestMismatchError, CorruptPackError, DanglingFileError, ImportMismatchError), 3),
    ((BlobNotFoundError, ObjectNotFoundError), 3),
    (SchemaOutOfDateError, 6),
    ((BackendError, IndexUnavailableError), 5),
    (LookupError, 4),
)
"""Exit codes by error class: the first match counts. Any other error of this library exits with 1.
docs/cli.md has the same table."""


KEPT: Final = {
    **dict.fromkeys(("track", "put", "adopt"), "what had not ended was not recorded; run it again"),
    "restore": "no file is half written; run it again to go on",
    "watch": "snapshots that were recorded stay",
    "sync": "runs that were copied stay; run it again to go on",
    "prune": "what was deleted or dropped is gone; run it again to go on",
    "import": "snapshots that were recorded stay; run it again to go on",
    "export": "nothing was written; run it again",
    "gc": "what was removed is gone, and all that is needed is there; run it again to go on",
    "verify": "packs that were read count as verified, and damage that was found is noted",
    "repair": "what was repaired stays; run it again to go on",
    "backup": "no copy was stored; earlier ones stay",
    "recover": "there is no index before it ends; run it again",
}
"""What commands that work for long leave behind when they are interrupted."""


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `cas` command and exit."""
    if arguments is None:
        _decode_names_as_utf8()
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text files
    if os.environ.get("_CAS_COMPLETE"):
        from index.cli.completion import complete

        complete(cas)
    try:
        # None, or the exit code of a command that ended without an error but incompletely.
        with _interrupted_by_signals():
            code: int | None = cas.main(args=arguments, prog_name="cas", standalone_mode=False)
            sys.stdout.flush()
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo(f"interrupted; {_kept(arguments)}", err=True)
        cause = error if error.__cause__ is None else error.__cause__  # of click's own error
        sys.exit(_KILLED + (cause.number if isinstance(cause, _SignalledError) else signal.SIGINT))
    except (CasError, ArtifactIndexError) as error:
        _print_error(error)
        sys.exit(next((code for kind, code in EXIT_CODES if isinstance(error, kind)), _ERROR))
    except (ValueError, OverflowError) as error:  # an argument that the library refused
        _print_error(error)
        sys.exit(_USAGE)
    except MemoryError as error:
        _print_error(str(error) or "no memory is left; free some and run the command again")
        sys.exit(_ERROR)
    except OSError as error:  # mostly, standard output can't be written
        subject = "standard output" if error.filename is None else str(error.filename)
        _print_error(f"{subject} can't be used: {error.strerror or error}")
        os._exit(_ERROR)  # sys.exit would flush the buffers and fail again, with a traceback
    sys.exit(code or _OK)


class _SignalledError(KeyboardInterrupt):
    """A signal other than that of Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let signals that would kill the process do what Ctrl-C does, and one Ctrl-C do it once."""
    last = -_AT_ONCE_S

    def end(_number: int, _frame: object) -> None:
        nonlocal last
        # `timeout -s INT` and an impatient hand send several, which would end the tidying up.
        if (now := time.monotonic()) - last >= _AT_ONCE_S:
            last = now
            raise KeyboardInterrupt

    def interrupt(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice; once is enough
        raise _SignalledError(number)

    # `nohup` ignores one of them, and an application may have handlers of its own: these stay. Only
    # the main thread may set a handler.
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {**dict.fromkeys(_ENDING, interrupt), signal.SIGINT: end}
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {each: signal.getsignal(each) for each in handlers} if in_main else {}
    caught = [each for each, handler in before.items() if handler in defaults]
    for number in caught:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def _kept(arguments: Sequence[str] | None) -> str:
    """Return what an interrupted command has left behind, as a sentence."""
    given = sys.argv[1:] if arguments is None else arguments
    # Options come first, and a store may be called as a command is.
    parser = cas.make_parser(click.Context(cas, resilient_parsing=True))
    _, words, _ = parser.parse_args(list(given))
    return KEPT.get(words[0] if words else "", "nothing was changed")


def _decode_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode, in a locale that decodes file names otherwise.

    File names are UTF-8 in the store, whatever the locale is. (Source: Python documentation,
    "Python UTF-8 Mode".)
    """
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def _replace_closed_streams() -> None:
    """Open what the caller has closed of the standard streams.

    Else a file of the store would get one of the numbers 0 to 2, and messages would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


def _print_error(error: object) -> None:
    mark = click.style("error:", fg="red", bold=True)
    click.echo(f"{mark} {printable(in_commands(str(error)))}", err=True, color=colour_wanted())


def _show(error: click.ClickException) -> None:
    """Print a usage error. Arguments may be file names with control characters, so escape them."""
    if isinstance(error, _HELP):
        error.show()
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
        click.echo(f"Try '{error.ctx.command_path} --help' for help.\n", err=True)
    _print_error(error.format_message())
