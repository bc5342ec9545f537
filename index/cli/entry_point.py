"""Entry point: run a command, and turn an error into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
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
from index.cli.commands import cas
from index.cli.output import printable
from index.errors import (
    ArtifactIndexError,
    DanglingFileError,
    IndexUnavailableError,
    InvalidNameError,
    SameStoreError,
    SchemaOutOfDateError,
    UnsafePathError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXIT_CODES", "run"]

_OK: Final = 0
_ERROR: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""

_HELP: Final[type[Exception] | tuple[()]] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""The exception that click 8.2 raises to print the help. Its message has many lines."""

EXIT_CODES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...]] = (
    ((InvalidNameError, UnsafePathError, InvalidDigestError, SameStoreError), 2),
    ((DigestMismatchError, CorruptPackError, DanglingFileError), 3),
    ((BlobNotFoundError, ObjectNotFoundError), 3),
    (SchemaOutOfDateError, 6),
    ((BackendError, IndexUnavailableError), 5),
    (LookupError, 4),
)
"""Exit codes by error class: the first match counts. Any other error of this library exits with 1.
The README has the same table."""


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `cas` command and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text files
    try:
        # None, or the exit code of a command that ended without an error but incompletely.
        code: int | None = cas.main(args=arguments, prog_name="cas", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; unfinished work was not recorded", err=True)
        sys.exit(_INTERRUPTED)
    except (CasError, ArtifactIndexError) as error:
        _print_error(error)
        sys.exit(next((code for kind, code in EXIT_CODES if isinstance(error, kind)), _ERROR))
    except (ValueError, OverflowError) as error:  # an argument that the library refused
        _print_error(error)
        sys.exit(_USAGE)
    except OSError as error:  # standard output can't be written
        _print_error(error)
        os._exit(_ERROR)  # sys.exit would flush the buffers and fail again, with a traceback
    sys.exit(code or _OK)


def _print_error(error: Exception) -> None:
    click.echo(f"error: {printable(str(error))}", err=True)


def _show(error: click.ClickException) -> None:
    """Print a usage error. Arguments may be file names with control characters, so escape them."""
    message = error.format_message()
    if message.isprintable() or isinstance(error, _HELP):
        error.show()
    elif isinstance(error, click.UsageError):
        click.UsageError(printable(message), error.ctx).show()
    else:
        click.ClickException(printable(message)).show()
