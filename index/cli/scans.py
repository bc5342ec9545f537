"""What the commands that scan a work directory share: track, status, watch and run."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from os.path import lexists, normpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click
from click.core import ParameterSource

from index.cli.completing import completing
from index.cli.options import all_options, provenance_options, session_option
from index.cli.output import print_report
from index.cli.progress import progress_bar
from index.cli.settings import setting, track_settings
from index.cli.terminal import printable
from index.domain.names import check_id
from index.domain.provenance import Provenance
from index.domain.tags import check_run_word
from index.domain.units import human_size
from index.errors import InvalidNameError, StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from index.api.run import Run
    from index.api.store import ArtifactStore
    from index.cli.location import StoreLocation
    from index.domain.snapshots import Skipped, Snapshot
    from index.domain.status import Status

__all__ = [
    "find_status",
    "input_option",
    "inputs_of",
    "opened",
    "outcome",
    "popped_labels",
    "recording_options",
    "scan_of",
    "scan_options",
    "show_status",
    "tell_skipped",
    "tell_torn",
]

P = ParamSpec("P")
R = TypeVar("R")


def scan_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options of a scan of a work directory: its run, and what it covers."""
    return all_options(*_OPTIONS)(command)


def recording_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options of a scan that is recorded: also whose it is, and what is final."""
    return all_options(
        *_OPTIONS,
        provenance_options,
        click.option(
            "--final",
            multiple=True,
            metavar="PATTERN",
            help="Mark matching files as final outputs; may be repeated.",
        ),
    )(command)


def input_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--input``."""
    return click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="INPUT",
        help="Note what was read: a path, a digest or a URI; may be repeated.",
    )(command)


_OPTIONS: Final = (
    session_option(),
    click.option(
        "--run",
        "run_id",
        envvar="CAS_RUN",
        default=setting("run"),
        metavar="ID",
        shell_complete=completing("run"),
        help="Default: the directory's name.",
    ),
    click.option(
        "--scope",
        multiple=True,
        metavar="DIR",
        help="Scan only this directory; may be repeated.",
    ),
    click.option(
        "--ignore",
        envvar="CAS_IGNORE",
        multiple=True,
        metavar="PATTERN",
        help="Leave out, as in .gitignore; may be repeated. !PATTERN brings in.",
    ),
    click.option(
        "--hidden/--no-hidden",
        envvar="CAS_HIDDEN",
        default=None,
        help="Record hidden files too.",
    ),
    click.option(
        "--default-ignores/--no-default-ignores",
        envvar="CAS_DEFAULT_IGNORES",
        default=None,
        help="Leave out .git, node_modules, *.tmp and the like (the default).",
    ),
    click.option(
        "--gitignore/--no-gitignore",
        envvar="CAS_GITIGNORE",
        default=None,
        help="Leave out what .gitignore files name.",
    ),
    click.option(
        "--prefix", metavar="PATH", help="Record the directory under this path of the run."
    ),
    click.option("--moved", is_flag=True, help="DIR is the run's directory, in another place now."),
)


def popped_labels(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options for provenance out of those of a command; return them."""
    return {name: options.pop(name) for name in Provenance.__slots__}


def inputs_of(directory: Path, prefix: str | None, words: Iterable[str]) -> list[str]:
    """Return inputs of a scan, with paths of files on disk as paths of the run.

    What lies on disk outside of the directory becomes an absolute path.
    """
    root = directory.absolute()
    inputs = []
    for word in words:
        file = Path(word).absolute()
        if "://" in word or not lexists(file):
            inputs.append(word)
            continue
        place = Path(normpath(file))
        inside = place.is_relative_to(normpath(root))
        path = place.relative_to(normpath(root)).as_posix() if inside else str(place)
        inputs.append(f"{prefix}/{path}" if prefix and inside else path)
    return inputs


def scan_of(
    directory: Path,
    *,
    session_id: str,
    run_id: str | None,
    moved: bool,
    ignore: tuple[str, ...],
    hidden: bool | None,
    default_ignores: bool | None,
    gitignore: bool | None,
    scope: tuple[str, ...],
    prefix: str | None,
) -> tuple[str, dict[str, Any]]:
    """Return the id of the run that a scan is for, and what it covers, as `Run.track` takes it.

    All arguments are checked first: a mistyped one must not create a store.
    """
    from index.scan.descent import check_directory

    check_directory(str(directory))
    check_id("session", session_id)
    settings = track_settings(
        ignore=ignore, hidden=hidden, default_ignores=default_ignores, gitignore=gitignore
    )
    source = click.get_current_context().get_parameter_source("run_id")
    is_guess = source is not ParameterSource.COMMANDLINE and not moved
    name = _run_for(directory) if run_id is None else check_run_word(run_id)
    return name, {**settings, "scope": scope or None, "prefix": prefix, "same_directory": is_guess}


def _run_for(directory: Path) -> str:
    """Return the name of the directory as a run id; raise if it is no valid id."""
    name = directory.absolute().resolve().name
    try:
        return check_id("run", name)
    except InvalidNameError as error:
        raise click.UsageError(f"{error}; name the run with --run") from error


@contextmanager
def opened(location: StoreLocation) -> Iterator[ArtifactStore | None]:
    """Open the store; None if there is none yet."""
    with ExitStack() as stack:
        store = None
        with suppress(StoreNotFoundError):
            store = stack.enter_context(location.open(create=False))
        yield store


def find_status(
    store: ArtifactStore | None,
    directory: Path,
    session_id: str,
    run_id: str,
    covered: Mapping[str, Any],
) -> Status:
    """Return what a scan would record. Without a store, everything is new."""
    with progress_bar("looking") as progress:
        if store is not None:
            run = store.session(session_id).run(run_id)
            return run.status(directory, progress=progress, **covered)
        from index.commit.track import TrackRequest, look
        from index.context import OwnFiles
        from index.domain.names import RunKey
        from index.domain.provenance import Provenance
        from index.domain.run_state import RunState

        key, nobody = RunKey(session_id, run_id), Provenance()
        request = TrackRequest.of(key, directory, nobody, progress=progress, **covered)
        return look(request, RunState(), OwnFiles.of(()))


def show_status(
    found: Status, session_id: str, run_id: str, *, has_store: bool, as_json: bool
) -> None:
    """Print what a scan would record."""
    if as_json:
        print_report(found, session=session_id, run=run_id)
        return
    tell_skipped(found.skipped, (), found.absent)
    for mark, colour, entries in (
        ("+", "green", found.added),
        ("-", "red", found.removed),
        ("~", "yellow", found.changed),
    ):
        for path, _, size in entries:
            size_shown = "" if size is None else f"  {human_size(size)}"
            click.secho(f"{mark} {printable(path)}{size_shown}", fg=colour)
    if not has_store:
        state = "there is no store yet"
    elif not found.snapshot:
        state = "nothing is recorded yet"
    else:
        state = f"since snapshot {found.snapshot}" if found else "nothing new"
    click.echo(
        f"{printable(run_id)}: {state}, {len(found.added)} added, {len(found.changed)} changed, "
        f"{len(found.removed)} removed, {found.unchanged} unchanged, {len(found.skipped)} skipped"
        f"{_passed_over(found)}; {human_size(found.new_bytes)} to record"
    )


def outcome(run: Run, snapshot: Snapshot) -> str:
    """Return what a scan recorded, in a line."""
    state = f"snapshot {snapshot.number}" if snapshot.recorded else "nothing new"
    return (
        f"{printable(run.id)}: {state}, {len(snapshot.lazy_added)} added, "
        f"{len(snapshot.lazy_changed)} changed, {len(snapshot.lazy_removed)} removed, "
        f"{snapshot.unchanged} unchanged, {len(snapshot.skipped)} skipped{_passed_over(snapshot)}; "
        f"{human_size(snapshot.bytes_read)} read, {human_size(snapshot.bytes_stored)} stored"
    )


def _passed_over(scan: Snapshot | Status) -> str:
    """Return how much a scan passed over, as the end of a list."""
    counts = ((scan.hidden, "hidden"), (scan.ignored, "ignored"))
    return "".join(f", {number} {reason}" for number, reason in counts if number)


def tell_skipped(skipped: Iterable[Skipped], torn: Iterable[str], absent: Iterable[str]) -> None:
    """Tell on stderr what a scan could not record, or perhaps not well."""
    for path, reason in skipped:
        click.echo(f"skipped {printable(path)}: {printable(reason)}", err=True)
    for path in torn:
        tell_torn(path)
    for path in absent:
        click.echo(f"absent {printable(path)}: nothing is there", err=True)


def tell_torn(path: str) -> None:
    """Tell on stderr that a file never settled."""
    click.echo(f"torn {printable(path)}: it changed each time it was read", err=True)
