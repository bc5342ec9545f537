"""What a store's public interface returns for its runs, without what only that store has."""

from __future__ import annotations

from dataclasses import asdict

from counted import assert_counted


def history_of(run):
    """Return a run's snapshots, all its versions, and what it holds at each snapshot."""
    snapshots = run.snapshots()
    paths = {v.path for s in snapshots for v in (*s.added, *s.changed)}
    versions = [asdict(v) for path in sorted(paths) for v in run.history(path)]
    for version in versions:
        del version["id"]
    held = {
        s.number: {
            v.path: run.read_bytes(v.path, at=s.number)
            for v in run.files(at=s.number)
            if v.digest is not None
        }
        for s in snapshots
    }
    reported = [
        (
            *(s.number, s.created_at, s.provenance, s.unchanged, s.skipped, s.torn, s.notes),
            *(s.bytes_read, s.bytes_stored),
        )
        for s in snapshots
    ]
    tags = {tag.name: run.tag_history(tag.name) for tag in run.tags()}
    return {
        "snapshots": reported,
        "versions": versions,
        "held": held,
        "stats": run.stats(),
        "tags": tags,
    }


def histories(store):
    """Return the history of every run, with its dates, its origin and its statistics."""
    assert_counted(store)
    return {
        (summary.session, summary.run): (
            summary,
            history_of(store.session(summary.session).run(summary.run)),
        )
        for summary in store.runs()
    }


def productions(store):
    """Return the producers in every session: by session and digest, runs, paths and versions."""
    made = {}
    for session, run in run_keys(store):
        for snapshot in store.session(session).run(run).snapshots():
            for version in (*snapshot.added, *snapshot.changed):
                if version.digest is not None:
                    made.setdefault((session, version.digest), None)
    return {
        (session, digest): {
            (v.run, v.path, v.version) for v in store.session(session).producers(digest)
        }
        for session, digest in made
    }


def everything_of(store):
    """Return everything that a store reports, without what a recovery loses."""
    everything = {}
    for key, (summary, history) in histories(store).items():
        snapshots = [snapshot[:-1] for snapshot in history["snapshots"]]  # without bytes_stored
        everything[key] = (summary, {**history, "snapshots": snapshots})
    tags = {
        name: {tag.name: session.run_tag_history(tag.name) for tag in session.run_tags()}
        for name in sorted({session for session, _ in everything})
        for session in [store.session(name)]
    }
    return everything, productions(store), tags


def run_keys(store):
    """Return session and run of every run."""
    return [(summary.session, summary.run) for summary in store.runs()]
