"""Entry point: runs a command and turns what goes wrong into one sentence and an exit code."""

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
"""What click 8.2 raises in place of printing the help, which has many lines."""

EXIT_CODES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...]] = (
    ((InvalidNameError, UnsafePathError, InvalidDigestError, SameStoreError), 2),
    ((DigestMismatchError, CorruptPackError, DanglingFileError), 3),
    ((BlobNotFoundError, ObjectNotFoundError), 3),
    (SchemaOutOfDateError, 6),
    ((BackendError, IndexUnavailableError), 5),
    (LookupError, 4),
)
"""Exit codes by error, the first that fits; any other error of ours is 1. In the README as well."""


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `cas` command and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text files
    try:
        # None, or the code that a command left with: no error, but not all that was asked for.
        code: int | None = cas.main(args=arguments, prog_name="cas", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was not recorded yet is as before", err=True)
        sys.exit(_INTERRUPTED)
    except (CasError, ArtifactIndexError) as error:
        _tell(error)
        sys.exit(next((code for kind, code in EXIT_CODES if isinstance(error, kind)), _ERROR))
    except (ValueError, OverflowError) as error:  # an argument that the library refused
        _tell(error)
        sys.exit(_USAGE)
    except OSError as error:  # our own output could not be written
        _tell(error)
        os._exit(_ERROR)  # not to fail again, with a traceback, when what is buffered is flushed
    sys.exit(code or _OK)


def _tell(error: Exception) -> None:
    click.echo(f"error: {printable(str(error))}", err=True)


def _show(error: click.ClickException) -> None:
    """Print what is wrong with a call; its arguments may be names that a shell has completed."""
    message = error.format_message()
    if message.isprintable() or isinstance(error, _HELP):
        error.show()
    elif isinstance(error, click.UsageError):
        click.UsageError(printable(message), error.ctx).show()
    else:
        click.ClickException(printable(message)).show()
