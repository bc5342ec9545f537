"""What a command tells while it works: progress, waits, and messages of the library."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from cas.waiting import WAITS
from index.cli.terminal import printable, terminal_width
from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from index.domain.progress import Progress

__all__ = ["log_messages", "progress_bar"]

_SHOWN_AFTER_S: Final = 2.0
"""A wait that is over sooner is not worth a line."""

_WITH_RATE: Final = 80
_WITH_BAR: Final = 110
"""Columns of a terminal from which on the rate and the remaining time, and a bar, have room."""

_LOGGERS: Final = ("cas", "index")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__)
_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)

_bars: list[Callable[[str], None]] = []
"""The progress bar on the screen, if there is one: called with the reason for a wait."""


class _WaitLines(logging.Handler):
    """Shows long waits for storage, a database or a lock: in the progress bar, or a line each."""

    def __init__(self) -> None:
        super().__init__()
        self._until: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        subject, waited, pause = (getattr(record, name) for name in ("subject", "waited", "pause"))
        before = self._until.get(subject, 0.0) if waited else 0.0
        self._until[subject] = waited + pause
        if before < _SHOWN_AFTER_S <= waited + pause:
            text = f"{printable(record.getMessage())} …"
            if _bars:
                _bars[-1](text)
            else:
                click.echo(text, err=True)


class _Lines(logging.Handler):
    """Prints messages on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.name}: {printable(record.getMessage())}", err=True)


class _JsonLines(logging.FileHandler):
    """Writes one JSON document a line: time, level, logger, message, and what else there is."""

    def format(self, record: logging.LogRecord) -> str:
        more = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info is not None:
            more["error"] = logging.Formatter().formatException(record.exc_info)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps({**line, **more}, default=str)


def log_messages(context: click.Context, *, quiet: bool, verbose: int, file: Path | None) -> None:
    """Print long waits and what the library logs on stderr, and write it to a file.

    Parameters
    ----------
    context
        Closes the file.
    quiet
        Print nothing.
    verbose
        0 for warnings, 1 for what happens, 2 for details.
    file
        Everything, but details only with `verbose`, is appended to it, one JSON document a line.
    """
    context.call_on_close(partial(_restore, [_state(name) for name in (WAITS, *_LOGGERS)]))
    waits = logging.getLogger(WAITS)
    waits.setLevel(logging.INFO)
    waits.handlers = [] if quiet else [_WaitLines()]
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if not quiet:
        shown = _Lines(_LEVELS[min(verbose, 2)])
        # Long waits are shown already.
        shown.addFilter(lambda record: verbose > 0 or record.name != WAITS)
        handlers.append(shown)
    if file is not None:
        try:
            written = _JsonLines(file, encoding="utf-8")
        except OSError as error:
            reason = error.strerror or str(error)
            raise click.UsageError(f"the log file {file} can't be written: {reason}") from error
        context.call_on_close(written.close)
        handlers.append(written)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = handlers
        logger.propagate = False
        if file is not None or verbose:
            logger.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)


_State: TypeAlias = "tuple[logging.Logger, list[logging.Handler], int, bool]"


def _state(name: str) -> _State:
    logger = logging.getLogger(name)
    return logger, logger.handlers, logger.level, logger.propagate


def _restore(states: list[_State]) -> None:
    """Leave the loggers as they were before the command: it may run inside another program."""
    for logger, handlers, level, propagate in states:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@contextmanager
def progress_bar(label: str, noun: str = "files") -> Iterator[Callable[[Progress], None] | None]:
    """Show progress on a terminal's stderr; yield None where there is no terminal, or with -q."""
    if not sys.stderr.isatty() or click.get_current_context().find_root().params.get("quiet"):
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.table import Column

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: rich_progress.Task) -> str:
            return "" if task.speed is None else f"{human_size(int(task.speed))}/s"

    width = terminal_width()
    line = Column(no_wrap=True)
    texts = ("{task.description}", "{task.fields[files]}", "{task.fields[size]}")
    columns: list[rich_progress.ProgressColumn] = [
        rich_progress.SpinnerColumn(),
        *(rich_progress.TextColumn(text, table_column=line) for text in texts),
    ]
    if width >= _WITH_RATE:
        columns += [Rate(line), rich_progress.TimeRemainingColumn(compact=True, table_column=line)]
    if width >= _WITH_BAR:
        columns.insert(2, rich_progress.BarColumn(20))
    with rich_progress.Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None, files="", size="")

        def show(progress: Progress) -> None:
            files = f"{progress.files:,}"
            if progress.files_total is not None:
                files += f" of {progress.files_total:,}"
            size = human_size(progress.bytes)
            if progress.bytes_total is not None:
                size += f" of {human_size(progress.bytes_total)}"
            bar.update(
                task,
                description=label,
                size=size,
                completed=progress.bytes,
                total=progress.bytes_total,
                files=f"{files} {noun}",
            )

        _bars.append(lambda reason: bar.update(task, description=reason))
        try:
            yield show
        finally:
            _bars.pop()
