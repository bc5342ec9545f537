"""Commands that a run records: how they are run, and what is noted of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas.errors import CasError
from cas.redaction import shown_command
from index.domain.inputs import PathInput
from index.domain.marks import Marks
from index.domain.provenance import Provenance
from index.domain.results import Result
from index.errors import (
    ArtifactIndexError,
    BytesNotKeptError,
    CommandNotFoundError,
    CommandNotStartedError,
    UnknownFileError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from index.commit.track import TrackRequest
    from index.domain.inputs import NewInput
    from index.domain.runs import RunStatus
    from index.domain.snapshots import Snapshot

__all__ = ["RecordedCommand", "check_command", "record"]

_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals by which people and schedulers end a command."""

_OF_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""Those that a key sends to all processes in the foreground."""

_GIT_TIMEOUT_S: Final = 10
"""A repository whose state takes longer to find is not worth the wait."""


@dataclass(frozen=True, slots=True)
class RecordedCommand(Result):
    """How a recorded command ended, and the snapshot of what it left."""

    status: RunStatus
    reason: str | None
    """Why it did not finish; None if it did."""
    exit_status: int
    """As a shell has it: 128 and the number of the signal that killed it."""
    snapshot: Snapshot


def check_command(command: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the words of a command, whose program exists.

    Raises
    ------
    CommandNotFoundError, CommandNotStartedError
        When there is no such program, or it is not executable.
    """
    if isinstance(command, str | bytes | os.PathLike):
        raise TypeError(f"a command is a sequence of words, not one: give [{command!r}, …]")
    words = [os.fspath(word) for word in command]
    if not words:
        raise ValueError("the command is empty; give a program and its arguments")
    program = words[0]
    if shutil.which(program) is None:
        if os.sep in program and Path(program).exists():
            raise CommandNotStartedError(program, "it is no executable file")
        raise CommandNotFoundError(program, "there is no such program")
    return words


def record(
    command: Sequence[str | os.PathLike[str]],
    request: TrackRequest,
    environment: Mapping[str, str | None],
    *,
    track: Callable[[TrackRequest], Snapshot],
    find_input: Callable[[str], NewInput],
    set_status: Callable[..., object],
    clock: Callable[[], datetime],
) -> RecordedCommand:
    """Run a command between two scans; see `Run.record`."""
    words = check_command(command)
    notes: dict[str, Any] = {
        "command": shown_command(words),
        "directory": _current_directory(),
        "host": socket.gethostname(),
        "user": _user(),
        "git": _git_state(),
        "environment": dict(environment) or None,
    }
    running = Marks(status="running", run_notes=notes)  # without those that are None
    track(replace(request, provenance=Provenance(), final=(), marks=running))
    try:
        # Before the command, which may take days: its results would be lost for a missing input.
        inputs = [
            find_input(each.path) if isinstance(each, PathInput) else each
            for each in request.marks.inputs
        ]
        notes["started_at"] = clock().isoformat()
        begun = time.monotonic()
        code, is_interrupted = _run(words)
        status, reason = _outcome(code, is_interrupted=is_interrupted)
        exit_status = code if code >= 0 else 128 - code
        ended = {
            "duration_s": round(time.monotonic() - begun, 3),
            "status": status,
            "exit_status": exit_status,
        }
        known = {name: value for name, value in notes.items() if value is not None} | ended
        snapshot = track(replace(request, marks=Marks(known, status, reason, inputs=inputs)))
    except BaseException as error:
        why = str(error) if isinstance(error, _NOT_STARTED) else _LOST
        with suppress(CasError, ArtifactIndexError):  # storage or index may be what failed
            set_status("failed", reason=why)
        raise
    return RecordedCommand(status, reason, exit_status, snapshot)


_NOT_STARTED: Final = (CommandNotStartedError, UnknownFileError, BytesNotKeptError)
"""The last two are of its inputs."""

_LOST: Final = "what it left was not recorded"


def _run(words: Sequence[str]) -> tuple[int, bool]:
    """Run a command; return its code as `subprocess` has it, and whether it was to end early."""
    with _passing_on_signals() as (started, received):
        try:
            # It gets every file descriptor that our caller gave to us, as if we were not there.
            process = subprocess.Popen(words, close_fds=False)  # noqa: S603 - the caller's own
        except OSError as error:
            raise CommandNotStartedError(words[0], error.strerror or str(error)) from error
        started(process)
        return process.wait(), bool(received)


@contextmanager
def _passing_on_signals() -> Iterator[tuple[Callable[[subprocess.Popen[bytes]], None], list[int]]]:
    """Pass signals on to a process, and survive them; yield what to call with it, and what came.

    What a terminal sends reaches the process by itself: another one would count as a second Ctrl-C.
    Signals that are ignored stay so. Only the main thread of a program can do this.
    """
    received: list[int] = []
    known: list[subprocess.Popen[bytes]] = []

    def take(number: int, _frame: object) -> None:
        received.append(number)
        for process in known:
            if not (number in _OF_TERMINAL and _is_in_foreground()):
                process.send_signal(number)

    def started(process: subprocess.Popen[bytes]) -> None:
        early = tuple(received)
        known.append(process)
        for number in early:  # it may have come before there was a process to get it
            process.send_signal(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _PASSED_ON}
    caught = {number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in caught:
            signal.signal(number, take)  # the command gets the default: exec resets handlers
        yield started, received
    finally:
        for number in caught:
            signal.signal(number, before[number])


def _is_in_foreground() -> bool:
    """Whether the terminal, if there is one, sends its signals to this process."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _outcome(code: int, *, is_interrupted: bool) -> tuple[RunStatus, str | None]:
    if code == 0:
        return "finished", None
    if code > 0:
        return "cancelled" if is_interrupted else "failed", f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a signal of real time has none
        name = f"signal {-code}"
    is_cancelled = is_interrupted or -code in _PASSED_ON
    return "cancelled" if is_cancelled else "failed", f"killed by {name}"


def _current_directory() -> str | None:
    with suppress(OSError):  # it was removed
        return str(Path.cwd())
    return None


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many containers
        return str(os.getuid())


def _git_state() -> dict[str, Any] | None:
    """Return the git commit of the current directory; None if there is none, or no git."""
    commit = _git("rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "--no-optional-locks", *arguments],  # noqa: S607 - the user's own
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
