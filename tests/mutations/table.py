"""The mutations. For each, at least one of its tests must fail."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation"]


class Mutation(NamedTuple):
    """One replacement of a text that occurs exactly once in a file."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """Arguments of pytest."""


RACES = "tests/index/test_gc_races.py"
GC = "tests/index/test_gc.py"
PACKS = "tests/index/test_gc_packs.py"
CONCURRENCY = "tests/index/test_concurrency.py"
RACY = "tests/index/test_racy.py"
ISOLATION = "tests/index/test_isolation.py"
DAMAGED = "tests/index/test_damaged_blobs.py"
RECOVER = "tests/index/test_recover.py"
CRASH = "tests/crash/test_crash_points.py"

MUTATIONS = (
    # Durability
    Mutation(
        "a pack gets its name before its bytes are synced",
        "cas/backends/local.py",
        """            source = self._sync(target)
            self._calls.rename(source, target)
            self._path = None
""",
        """            self._file.finish()
            self._backend.make_directory(os.path.dirname(target))
            self._calls.rename(self._path, target)
            self._calls.fsync(self._fd)
            self._path = None
""",
        ("tests/conformance/test_local.py",),
    ),
    Mutation(
        "the bytes of a pack are never synced",
        "cas/backends/local.py",
        """        self._file.finish()
        self._calls.fsync(self._fd)
""",
        """        self._file.finish()
""",
        (f"{CRASH}::test_bytes_are_durable_before_rows",),
    ),
    Mutation(
        "the name of a pack is never synced",
        "cas/backends/local.py",
        """            self._path = None
            self._calls.fsync_directory(os.path.dirname(target))
""",
        """            self._path = None
""",
        (f"{CRASH}::test_bytes_are_durable_before_rows",),
    ),
    Mutation(
        "the file of a running writer is removed as abandoned",
        "cas/backends/local.py",
        """                    self._calls.lock_exclusive(fd, wait=False)
                    self._calls.unlink(entry.path)
""",
        """                    self._calls.unlink(entry.path)
""",
        ("tests/conformance/test_local.py",),
    ),
    # Commits
    Mutation(
        "a commit does not check the run's revision",
        "index/db/queries/runs.py",
        """            tables.runs.c.revision == revision,
            tables.runs.c.newest_record == newest_record,
        )
        .values(revision=revision + 1, newest_record=next_record)
""",
        """        )
        .values(revision=revision + 1, newest_record=next_record)
""",
        (CONCURRENCY,),
    ),
    Mutation(
        "a pack that is not pending becomes live",
        "index/db/queries/blobs.py",
        """.where(tables.packs.c.name.in_(batch), tables.packs.c.state == "pending")""",
        """.where(tables.packs.c.name.in_(batch))""",
        (RACES,),
    ),
    Mutation(
        "a writer that reuses a condemned blob does not unmark it",
        "index/db/queries/blobs.py",
        "SET condemned_at = NULL, touched_at",
        "SET touched_at",
        (f"{CONCURRENCY}::TestWhatWasCollectedMeanwhile", RACES, GC),
    ),
    Mutation(
        "writers rely on blobs that are marked as damaged",
        "index/db/queries/blobs.py",
        "digest {wanted} AND damaged_at IS NULL",
        "digest {wanted}",
        (DAMAGED,),
    ),
    Mutation(
        "a scan removes a file that was put after it began",
        "index/domain/changes.py",
        "elif change.observed is None and (now is None or not now.seen_on_disk):",
        "elif change.observed is None and now is None:",
        (CONCURRENCY,),
    ),
    Mutation(
        "any node fills in missing provenance",
        "index/domain/changes.py",
        "if known.provenance.node_id == node_id\n        and any(",
        "if any(",
        ("tests/index/test_file_repository.py", "tests/index/test_provenance.py"),
    ),
    # Change detection
    Mutation(
        "the signature of a file written just before the scan is trusted",
        "index/scan/ingest.py",
        "return newest_ns < self._trusted_before and is_storable(signature)",
        "return is_storable(signature)",
        (RACY,),
    ),
    Mutation(
        "the signature of a file that changed during the read is trusted",
        "index/scan/ingest.py",
        """            and signature == signature_of(before)
""",
        "",
        (RACY,),
    ),
    # Sessions
    Mutation(
        "a run is found by its name in any session",
        "index/db/queries/runs.py",
        """.where(tables.sessions.c.name == session, tables.runs.c.name == run)
    ).first()
    return None if found is None else FoundRun(*found)""",
        """.where(tables.runs.c.name == run)
    ).first()
    return None if found is None else FoundRun(*found)""",
        (ISOLATION,),
    ),
    Mutation(
        "file ids and digests are looked up in all sessions",
        "index/db/queries/files.py",
        """        statement = statement.where(tables.sessions.c.name == session)
    return [FileVersion(""",
        """        pass
    return [FileVersion(""",
        (ISOLATION,),
    ),
    # Garbage collection
    Mutation(
        "a sweep does not check references",
        "index/db/queries/liveness.py",
        """ *(~exists().where(to == _blobs.digest) for to in _DIRECT),
            *(~exists().where(part == _blobs.digest) for part, _ in _PARTS),
""",
        "\n",
        ("tests/index/test_gc_guards.py", GC),
    ),
    Mutation(
        "a large blob does not keep its chunks",
        "index/db/queries/liveness.py",
        ", *(~part for part in _parts_of(digest, is_kept)))",
        ")",
        ("tests/index/test_gc_guards.py", GC),
    ),
    Mutation(
        "a pack is declared dead while rows point into it",
        "index/db/queries/packs.py",
        """[_packs.state == "live", _packs.id > after, empty]""",
        """[_packs.state == "live", _packs.id > after]""",
        (GC,),
    ),
    Mutation(
        "compaction moves rows that point elsewhere by now",
        "index/db/queries/packs.py",
        """            if (pack_id, offset)
            == (old.get(targets[digest].source.pack), targets[digest].source.offset)
""",
        "",
        (RACES,),
    ),
    Mutation(
        "the row of a dead pack is deleted while its writer may still publish it",
        "index/maintenance/gc/collect.py",
        "if was_there or pack.created_at <= late",
        "if was_there or pack.id",
        (RACES,),
    ),
    Mutation(
        "an orphan is removed while a transaction records it",
        "index/db/queries/packs.py",
        "return inserted.rowcount == 1 or connection.scalar(buried) is not None",
        "return inserted.rowcount == 1 or buried is not None",
        ("tests/index/test_gc_guards.py", PACKS),
    ),
    Mutation(
        "a reader whose pack is gone does not look up the new location",
        "cas/reader.py",
        "if again == gone or not isinstance(again, Location):",
        "if again == gone or isinstance(again, Location):",
        ("tests/index/test_gc_guards.py", "tests/index/test_gc_reading.py"),
    ),
    # Reading
    Mutation(
        "the digest of a blob is not verified when it is read",
        "cas/reader.py",
        """    if actual != digest:
        raise DigestMismatchError(digest, actual""",
        """    if actual is None:
        raise DigestMismatchError(digest, actual""",
        ("tests/cas/test_store.py", DAMAGED),
    ),
    Mutation(
        "the digests of neighbouring blobs are not verified when they are read",
        "cas/reader.py",
        "if data is not None and Digest.of(data) == digest:",
        "if data is not None:",
        ("tests/cas/test_store.py", "tests/index/test_restore.py"),
    ),
    Mutation(
        "the digest of a large blob is not verified, only those of its chunks",
        "cas/reader.py",
        """            if whole.size == placement.size:
                check_whole(placement, whole)
""",
        "",
        ("tests/cas/test_store.py", DAMAGED, "tests/index/test_restore.py"),
    ),
    Mutation(
        "the pack with the records does not wait for the other packs",
        "cas/packs/packer.py",
        """after all packs that were sealed before.\"""
        self._publisher.finish()
""",
        """after all packs that were sealed before.\"""
""",
        ("tests/cas/test_packer.py",),
    ),
    Mutation(
        "bytes read after the end of a large file are stored",
        "cas/segments.py",
        "if before is not None and before.result().is_last:",
        "if before is not None and before.result() is None:",
        ("tests/cas/test_segments.py",),
    ),
    Mutation(
        "the name of a pack does not cover its header",
        "cas/packs/pack.py",
        "for part in (header, footer, trailer):",
        "for part in (footer, trailer):",
        ("tests/cas/test_pack.py", "tests/cas/test_inspector.py"),
    ),
    Mutation(
        "entries that the index does not have are not verified",
        "cas/packs/inspector.py",
        "unused = _elsewhere(verdict, located)",
        "unused: dict[Digest, Location] = {}",
        ("tests/cas/test_inspector.py",),
    ),
    Mutation(
        "verification does not compare the name of a pack with its bytes",
        "index/maintenance/verify/findings.py",
        "if verdict.actual not in (None, pack.name):",
        "if verdict.actual not in (None, verdict.actual):",
        ("tests/index/test_verify_storage.py",),
    ),
    # Recovery
    Mutation(
        "recovery treats replaced records as commits",
        "index/maintenance/recover/chains.py",
        "for lost in entry.replaces",
        "for lost in ()",
        (RECOVER,),
    ),
    Mutation(
        "recovery restores deleted runs",
        "index/maintenance/recover/chains.py",
        "chain.is_deleted = bool(deletions)",
        "chain.is_deleted = bool(deletions) and not deletions",
        (RECOVER,),
    ),
    Mutation(
        "recovery ignores whether another record names a record",
        "index/maintenance/recover/chains.py",
        "return (digest in self._named, entry.revision,",
        "return (True, entry.revision,",
        (RECOVER,),
    ),
)
