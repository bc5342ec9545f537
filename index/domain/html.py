"""Results as compact HTML, for notebooks. Everything is escaped, and nothing is a script."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from index.domain.diff import Diff
    from index.domain.names import RunKey
    from index.domain.snapshots import FileVersion, RunSummary, Snapshot

__all__ = [
    "PREVIEWED",
    "SHOWN",
    "show_diff",
    "show_run",
    "show_runs",
    "show_snapshot",
    "show_version",
]

SHOWN: Final = 20
"""Rows of a table; the rest is counted."""

_IMAGES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
"""Types of images by their first bytes. SVG is not among them: it may hold scripts."""

PREVIEWED: Final = 128 << 10
"""Bytes of the largest file with a preview."""

_LINES: Final = 8
_COLUMNS: Final = 120


def _paragraph(*parts: object) -> str:
    """Return one line of text."""
    return f"<p>{' · '.join(_text(part) for part in parts if part not in (None, ''))}</p>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], *, count: int = 0) -> str:
    """Return a table of the first rows.

    Parameters
    ----------
    count
        Number of all rows, if `rows` has not all of them.
    """
    shown = [*rows]
    more = max(count, len(shown)) - min(len(shown), SHOWN)
    body = "".join(_row("td", row) for row in shown[:SHOWN])
    rest = f"<p>and {more:,} more</p>" if more else ""
    return f"<table><thead>{_row('th', head)}</thead><tbody>{body}</tbody></table>{rest}"


def _figure(name: str, content: str) -> str:
    """Return a preview with its name, folded."""
    return f"<details><summary>{_text(name)}</summary>{content}</details>"


def _preview(data: bytes) -> str:
    """Return a thumbnail of an image, or the head of a text; empty for other content."""
    for start, kind in _IMAGES.items():
        if data.startswith(start):
            source = f"data:{kind};base64,{b64encode(data).decode()}"
            return f'<img src="{source}" style="max-width:16em;max-height:12em">'
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    lines = [line[:_COLUMNS] for line in text.splitlines()]
    more = ["…"] if len(lines) > _LINES else []
    return f"<pre>{_text(chr(10).join([*lines[:_LINES], *more]))}</pre>" if lines else ""


def _versions_table(versions: Iterable[FileVersion], *, change: str = "", count: int = 0) -> str:
    """Return a table of file versions, each with who made it."""
    head = ("path", "type", "size", "version", "agent", "phase", "node", "recorded")
    return _table((*([""] if change else []), *head), _version_rows(versions, change), count=count)


def show_run(
    key: RunKey, count: int, shown: Sequence[FileVersion], contents: Mapping[str, bytes]
) -> str:
    """Return a run with its first files, and previews of those whose contents are given."""
    about = _paragraph(f"run {key.run}", f"session {key.session}", _counted(count, "file"))
    previews = [(path, _preview(data)) for path, data in contents.items()]
    figures = "".join(_figure(path, content) for path, content in previews if content)
    return about + (_versions_table(shown, count=count) if shown else "") + figures


def show_runs(title: str, runs: Sequence[RunSummary]) -> str:
    """Return runs, the newest first."""
    head = ("session", "run", "snapshots", "created", "forked from")
    rows = [
        (each.session, each.run, each.snapshots, each.created_at, each.parent)
        for each in reversed(runs)
    ]
    return _paragraph(title, _counted(len(runs), "run")) + (_table(head, rows) if rows else "")


def show_version(version: FileVersion) -> str:
    """Return what is known of a version."""
    facts = {
        "size": human_size(version.size),
        "digest": version.digest,
        "type": "link" if version.is_link else version.file_type,
        "recorded": version.created_at,
        **version.provenance.to_dict(),
        "final": "yes" if version.is_final_output else None,
        "meta": version.meta,
    }
    known = [(name, value) for name, value in facts.items() if value not in (None, {})]
    title = f"{version.path}, version {version.version}"
    return _paragraph(title, f"run {version.run}", f"session {version.session}") + _table(
        ("", ""), known
    )


def show_snapshot(snapshot: Snapshot) -> str:
    """Return a snapshot with its changes."""
    made = {name: value for name, value in snapshot.provenance.to_dict().items() if value}
    rows = [
        *_version_rows(snapshot.added, "added"),
        *_version_rows(snapshot.changed, "changed"),
        *_version_rows(snapshot.removed, "removed"),
    ]
    title = f"snapshot {snapshot.number}{'' if snapshot.recorded else ', nothing new'}"
    by = ", ".join(f"{name} {value}" for name, value in made.items())
    stored = f"{human_size(snapshot.bytes_stored)} stored"
    skipped = f"{len(snapshot.skipped)} skipped" if snapshot.skipped else None
    head = ("", "path", "type", "size", "version", "agent", "phase", "node", "recorded")
    about = _paragraph(title, snapshot.created_at, by, stored, skipped)
    return about + (_table(head, rows) if rows else "")


def show_diff(diff: Diff) -> str:
    """Return what differs between two states."""
    rows: list[tuple[object, ...]] = []
    for what, versions in (("added", diff.added), ("removed", diff.removed)):
        rows += [(what, each.path, human_size(each.size), each.agent) for each in versions]
    for change in diff.changed:
        before, after = human_size(change.before.size), human_size(change.after.size)
        rows.append(("changed", change.path, f"{before} → {after}", change.after.agent))
    rows.sort(key=lambda row: str(row[1]))
    counts = (
        f"{len(diff.added)} added",
        f"{len(diff.changed)} changed",
        f"{len(diff.removed)} removed",
        f"{len(diff.identical)} identical",
    )
    return _paragraph(*counts) + (_table(("", "path", "size", "agent"), rows) if rows else "")


def _version_rows(versions: Iterable[FileVersion], change: str) -> list[tuple[object, ...]]:
    return [
        (
            *([change] if change else []),
            each.path,
            "link" if each.is_link else each.file_type,
            human_size(each.size),
            each.version,
            each.agent,
            each.phase,
            each.node_id,
            each.created_at,
        )
        for each in versions
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _row(cell: str, values: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{cell}>{_text(value)}</{cell}>' for value in values)}</tr>"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        value = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    # Undecodable bytes of names are lone surrogates, which no page can hold.
    return escape(str(value).encode(errors="replace").decode())
