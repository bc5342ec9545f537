"""The counts that an index keeps of file versions, against a count of the versions."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import text

_LABELS = (
    *("run_id", "file_type", "priority", "is_final_output", "workflow_phase", "generating_agent"),
    *("generating_code_hash", "node_id", "step_id", "event_id"),
)
_NUMBERS = ("files", "bytes", "versions", "version_bytes")


def assert_counted(store):
    """Check that the kept counts of every run are what its versions say."""
    with store._context.database.reading() as connection:
        kept = connection.execute(text("SELECT * FROM cas_counts")).mappings().all()
        versions = connection.execute(text("SELECT * FROM cas_files")).mappings().all()
    counted = {name: Counter() for name in _NUMBERS}
    contents = set()
    for version in versions:
        key = tuple(version[name] for name in _LABELS)
        counted["versions"][key] += 1
        counted["version_bytes"][key] += version["size"]
        if version["end_snapshot"] is None:
            counted["files"][key] += 1
            counted["bytes"][key] += version["size"]
        if version["digest"] is not None:
            contents.add((version["run_id"], version["digest"], version["size"]))
    for name, expected in counted.items():
        assert expected == Counter({tuple(row[n] for n in _LABELS): row[name] for row in kept})
    distinct = Counter()
    for run, _, size in contents:
        distinct[run] += size
    for row in kept:
        distinct[row["run_id"]] -= row["distinct_bytes"]
    assert not any(distinct.values())
