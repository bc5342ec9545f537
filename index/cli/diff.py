"""The command that compares snapshots and runs: diff."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from index.cli.completing import completing
from index.cli.options import LABELS, listing_options, only_run, run_options
from index.cli.output import Form, counted, print_json, print_json_lines, print_json_list
from index.cli.tables import Column, path_column, show
from index.cli.terminal import is_for_people, page, printable
from index.domain.tags import check_tag
from index.domain.units import human_size
from index.errors import InvalidNameError, UnknownFileError, UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from index.api.run import Run
    from index.api.session import Session
    from index.cli.location import StoreLocation
    from index.domain.content_diff import ContentDiff
    from index.domain.diff import Diff
    from index.domain.snapshots import FileVersion
    from index.domain.table_diff import TableDiff

__all__ = ["diff"]

_DIGEST_SHOWN: Final = 12


class _NotFoundError(click.ClickException):
    """A word that names neither a run nor a path."""

    exit_code = 4


@click.command()
@run_options
@click.argument(
    "arguments",
    nargs=-1,
    metavar="[FIRST [SECOND]] [PATH]...",
    shell_complete=completing("run", "snapshot"),
)
@click.option("--text", is_flag=True, help="Show what differs in each file.")
@click.option("--stat", is_flag=True, help="Count the lines that differ in each file.")
@click.option("--by", type=click.Choice(sorted(LABELS)), help="Group the changes by provenance.")
@listing_options
@click.pass_obj
def diff(
    location: StoreLocation,
    *,
    session_id: str,
    run_id: str | None,
    arguments: tuple[str, ...],
    text: bool,
    stat: bool,
    by: str | None,
    form: Form | None,
    full: bool,
) -> None:
    """Compare two snapshots of a run, or two runs of a session.

    A number or a tag is a snapshot of --run. A word is a run, if there is one of that name, and
    @TAG is the run that a tag names. RUN@N and RUN@TAG are a run at a snapshot, and RUN@ a run as
    it is now, also if its id is a number.
    Other words are files and directories to compare; ./WORD always is one. Without SECOND, the
    command compares with the present state of the run. Without FIRST, it shows what the newest
    snapshot changed.

    --text shows lines as git does, and a table (CSV, TSV) with more than 20 changed lines by
    column. Files that are no text, or have more than 1 MiB (tables 8 MiB), get one line.

    \b
    cas diff                     what the newest snapshot changed
    cas diff 1 2 --run run-7
    cas diff 3 --by agent
    cas diff 3 --text data/result.csv
    cas diff best
    cas diff run-7 run-8 plots
    cas diff run-7@3 run-8 --stat
    cas diff 1@ 2@               the runs 1 and 2
    """  # noqa: D301
    if text + stat + (by is not None) > 1:
        raise click.UsageError("give one of --text, --stat and --by")
    with location.open(create=False) as store:
        session = store.session(session_id)
        states, paths = _states(session, run_id, arguments)
        needs_run = not states or any(state.run is None for state in states)
        default = only_run(store, session_id, run_id) if needs_run else None
        found = _compare(default, states, paths)
        if text or stat:
            compared = (session.compare(*pair) for pair in found.pairs)
            if stat:
                show(compared, _STAT, form, full=full)
            elif form is not None:
                (print_json_list if form == Form.JSON else print_json_lines)(compared)
            else:
                page(line for each in compared for line in _content_lines(each, full=full))
            return
        # Its groups also have the identical files, which are read now.
        parts = {} if by is None else found.by(LABELS[by])  # type: ignore[arg-type]  # its literals
    if by is not None:
        if form is not None:
            groups = [{by: group, **part.to_dict()} for group, part in parts.items()]
            (print_json if form == Form.JSON else print_json_lines)(groups)
        else:
            page(_grouped_lines(by, parts, full=full))
    elif form == Form.JSON:
        print_json(found)
    elif form is not None:
        print_json_lines(found.rows)
    else:
        page(_lines(found, full=full))


class _State(NamedTuple):
    """A run, None for that of ``--run``, at a snapshot or its tag, None for now."""

    run: Run | None
    at: int | str | None


def _states(
    session: Session, run_id: str | None, arguments: tuple[str, ...]
) -> tuple[list[_State], tuple[str, ...]]:
    """Split the arguments into at most two states, and paths."""
    tags = {tag.name for tag in session.tags() if run_id is None or tag.run == run_id}
    states: list[_State] = []
    for text in arguments[:2]:
        state = _state(session, text, tags)
        if state is None:
            break
        states.append(state)
    return states, arguments[len(states) :]


def _state(session: Session, text: str, tags: set[str]) -> _State | None:
    """Return the state that a word means; None for a path.

    ``N``, ``TAG`` and ``@TAG`` are snapshots of the run of ``--run``, which has such tags. ``RUN``,
    ``RUN@``, ``RUN@N`` and ``RUN@TAG`` are runs.
    """
    name, mark, selector = text.rpartition("@")
    is_number = selector.isascii() and selector.isdigit()
    if is_number and not name:
        return _State(None, int(selector))
    run = _find_run(session, name if mark and (is_number or not selector) else text)
    if run is not None and mark and not name and selector in tags:
        raise click.UsageError(
            f"{text} is a run and a snapshot by tags; write {text}@ for the run, or {selector}"
        )
    if run is not None and text in tags:
        raise click.UsageError(f"{text} is a run and a tag; write {text}@ for the run, or @{text}")
    if run is not None:
        return _State(run, int(selector) if mark and is_number else None)
    if not name and selector in tags:
        return _State(None, selector)
    with suppress(InvalidNameError):
        run = _find_run(session, name) if name and check_tag(selector) else None
    return None if run is None else _State(run, selector)


def _find_run(session: Session, name: str) -> Run | None:
    try:
        run = session.run(name)
        run.find_snapshot()
    except (InvalidNameError, UnknownRunError):
        return None
    return run


def _compare(default: Run | None, states: list[_State], paths: tuple[str, ...]) -> Diff:
    """Return the differences of two states, by default what the newest snapshot changed.

    `default` is the run of states without one.
    """
    may_be_run = len(states) < 2
    if not states:
        newest = default.find_snapshot() if default is not None else None
        number = 0 if newest is None else newest.number
        states = [_State(None, max(number - 1, 0)), _State(None, number)]
    first, second = (*states, _State(states[0].run, None))[:2]
    one, other = first.run or default, second.run or default
    assert one is not None, "default is a run then"  # noqa: S101
    assert other is not None, "default is a run then"  # noqa: S101
    try:
        return one.diff(other, second.at, at=first.at, paths=paths or None)
    except UnknownFileError as error:
        if not may_be_run or "/" in error.path:
            raise
        raise _NotFoundError(f"{error}; there is no run of that name, either") from error


def _lines(found: Diff, indent: str = "", *, full: bool = False) -> Iterator[str]:
    for before, after in found.pairs:
        version = after or before
        assert version is not None  # noqa: S101 - for the type checker
        mark, colour = ("+", "green") if before is None else ("-", "red")
        if before is not None and after is not None:
            mark, colour = "~", "yellow"
        line = f"{indent}{mark} {printable(version.path)}"
        if full:
            line += f"  {_facts(before, full=True)} -> {_facts(after, full=True)}"
        elif before is not None and after is not None:
            line += f"  {human_size(before.size)} -> {human_size(after.size)}"
        else:
            line += f"  {human_size(version.size)}"
        yield click.style(line, fg=colour)
    yield (
        f"{indent}{len(found.added)} added, {len(found.removed)} removed,"
        f" {len(found.changed)} changed, {len(found.lazy_identical)} identical"
    )


def _grouped_lines(by: str, parts: dict[str | None, Diff], *, full: bool) -> Iterator[str]:
    for group, part in parts.items():
        if part:
            yield f"{by} {printable(group or '-')}"
            yield from _lines(part, "  ", full=full)


def _facts(version: FileVersion | None, *, full: bool) -> str:
    """Return size and digest of a version."""
    if version is None:
        return "nothing"
    if version.digest is None:
        return "no bytes"
    digest = str(version.digest)
    if full:
        return f"{version.size} B {digest}"
    return f"{human_size(version.size)} {digest[:_DIGEST_SHOWN]}"


_STAT = (
    Column("added", lambda each: each.lines_added, rank=0),
    Column("removed", lambda each: each.lines_removed, rank=0),
    Column("kind", rank=1),
    path_column(),
)


def _content_lines(each: ContentDiff, *, full: bool) -> Iterator[str]:
    """Yield what differs in a file. Text is shown as it is but on a terminal."""
    if each.kind == "text":
        escaped = is_for_people()
        for number, line in enumerate(each.lines):
            shown = _on_terminal(line) if escaped else line
            if number < 2 or line.startswith("@@ "):
                yield click.style(shown, bold=number < 2, fg=None if number < 2 else "cyan")
            elif line[0] in "+-":
                yield click.style(shown, fg="green" if line[0] == "+" else "red")
            else:
                yield shown
        if not each.lines:  # an empty file
            yield click.style(f"{_change(each)} {printable(each.path)}: empty", bold=True)
        return
    path = printable(each.path)
    if each.kind == "table" and each.table is not None:
        yield click.style(f"{_change(each)} {path}: {_rows(each.table)}", bold=True)
        yield from _column_lines(each.table)
    elif each.kind == "link":
        became = "a link became a file" if each.before and each.before.is_link else (
            "a file became a link"
        )  # fmt: skip
        yield click.style(f"{_change(each)} {path}: {became}", bold=True)
    else:
        what = _WHY[each.kind]
        versions = f"{_facts(each.before, full=full)} -> {_facts(each.after, full=full)}"
        yield click.style(f"{_change(each)} {path}: {what}, {versions}", bold=True)


_WHY: Final = {
    "binary": "binary files differ",
    "large": "files differ, too large to compare",
    "unknown": "one version has no stored bytes",
}


def _change(each: ContentDiff) -> str:
    return "+" if each.before is None else "-" if each.after is None else "~"


def _on_terminal(line: str) -> str:
    return "\t".join(map(printable, line.split("\t")))


def _rows(table: TableDiff) -> str:
    how = "in order" if table.key is None else f"by {printable(table.key)}"
    return (
        f"table of {counted(table.rows_after, 'row')}, {table.rows_before} before:"
        f" {table.rows_added} added, {table.rows_removed} removed, {table.rows_changed} changed"
        f" ({how})"
    )


def _column_lines(table: TableDiff) -> Iterable[str]:
    for name in table.columns_added:
        yield click.style(f"  + column {printable(name)}", fg="green")
    for name in table.columns_removed:
        yield click.style(f"  - column {printable(name)}", fg="red")
    for what, is_so in (("rows", table.rows_reordered), ("columns", table.columns_reordered)):
        if is_so:
            yield click.style(f"  ~ {what} in another order", fg="yellow")
    for column in table.columns:
        line = f"  ~ {printable(column.name)}: {counted(column.cells, 'cell')}"
        if column.largest_change is not None:
            line += f", by at most {column.largest_change:.6g}"
        yield click.style(line, fg="yellow")
