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
TRACKING = "tests/index/test_tracking.py"
IGNORING = "tests/index/test_ignoring.py"
TORN = "tests/index/test_torn.py"
RACY = "tests/index/test_racy.py"
ISOLATION = "tests/index/test_isolation.py"
DAMAGED = "tests/index/test_damaged_blobs.py"
NAMED = "tests/index/test_named_files.py"
RECOVER = "tests/index/test_recover.py"
STATUS = "tests/index/test_status.py"
WATCH = "tests/index/test_watch.py"
STATS = "tests/index/test_stats.py"
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
        """            self._calls.rename(source, target)
            self._path = None
            self._calls.fsync_directory(os.path.dirname(target))
""",
        """            self._calls.rename(source, target)
            self._path = None
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
    Mutation(
        "what is read without locks is taken for one state",
        "index/db/database.py",
        "if read_only is not None and not read_only.is_unchanged():",
        "if read_only is not None and False:",
        ("tests/index/test_read_only.py",),
    ),
    # Restores
    Mutation(
        "what is not in the way may be replaced",
        "index/reading/restore.py",
        "if version.path not in self._target.replaceable:",
        "if not self._overwrite:",
        ("tests/index/test_restore_elsewhere.py",),
    ),
    Mutation(
        "a directory is replaced whatever it holds",
        "index/reading/restore.py",
        "going = check_obstacles(obstacles, target, paths, known_below, can_read)",
        "going = {}",
        ("tests/index/test_restore_elsewhere.py",),
    ),
    Mutation(
        "a restore deletes what was never recorded",
        "index/reading/surplus.py",
        "if contents is None or (digest in contents and can_read(digest)):",
        "if True:",
        ("tests/index/test_restore_in_place.py",),
    ),
    Mutation(
        "a restore deletes a file that changed meanwhile",
        "index/reading/surplus.py",
        "if status is not None and signature_of(status) == file.signature:",
        "if status is not None:",
        ("tests/index/test_restore_in_place.py",),
    ),
    Mutation(
        "a restore deletes a file that has another name where case is ignored",
        "index/reading/surplus.py",
        "if alias is not None and signature_of(alias) == signature_of(status):",
        "if False:",
        ("tests/index/test_restore_in_place.py",),
    ),
    Mutation(
        "a restore writes into the store",
        "index/reading/restore.py",
        "if own and _is_in(version.path, own):",
        "if False:",
        ("tests/index/test_restore_in_place.py",),
    ),
    # Commits
    Mutation(
        "a commit does not check the run's revision",
        "index/db/queries/runs.py",
        """            tables.runs.c.revision == revision,
            tables.runs.c.newest_record == newest_record,
        )
        .values(revision=revision + 1, newest_record=next_record, **(settled or {}))
""",
        """        )
        .values(revision=revision + 1, newest_record=next_record, **(settled or {}))
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
        "if now is None or not now.seen_by & seen_by:",
        "if now is None:",
        (CONCURRENCY,),
    ),
    Mutation(
        "a scan removes what a scan of another directory recorded under a prefix",
        "index/scan/findings.py",
        "if version.seen_by & self.bit:",
        "if version.seen_by:",
        (f"{TRACKING}::TestPrefix",),
    ),
    Mutation(
        "a scan does not tell that it has seen what another one recorded",
        "index/scan/scanner.py",
        "== signature_of(status) and version.seen_by & bit:",
        "== signature_of(status):",
        (f"{TRACKING}::TestPrefix",),
    ),
    Mutation(
        "any node fills in missing provenance",
        "index/domain/changes.py",
        "if known.provenance.node_id == node_id\n        and any(",
        "if any(",
        ("tests/index/test_tracking.py::TestAttribution", "tests/index/test_provenance.py"),
    ),
    Mutation(
        "a claim changes who is recorded as the maker",
        "index/domain/changes.py",
        "if getattr(recorded, name) is None and (name in _MAKER or not at_another_node)",
        "if name in _MAKER or not at_another_node",
        (NAMED,),
    ),
    Mutation(
        "bytes that are put set a mode and time",
        "index/domain/changes.py",
        "if seen.signature is None:",
        "if False:",
        (NAMED,),
    ),
    Mutation(
        "a put counts as seen on disk",
        "index/commit/write.py",
        "seen_by=known.seen_by | seen.seen_by,",
        "seen_by=known.seen_by | 1,",
        (NAMED,),
    ),
    Mutation(
        "a put does not see files below its path",
        "index/db/queries/current.py",
        "found += _known(connection.execute(_SELECTED.where(columns.id.in_(batch))))",
        "pass",
        (NAMED,),
    ),
    Mutation(
        "a put does not compare the version again after a conflict",
        "index/commit/named.py",
        """                        self._check_expected(wanted, state)
                        return""",
        "                        return",
        (NAMED,),
    ),
    # Kept counts
    Mutation(
        "a content counts twice among the distinct bytes of a scan",
        "index/db/queries/counts.py",
        "for (digest,) in self._seen.add_new((d,) for d in sizes)",
        "for digest in sizes",
        (STATS,),
    ),
    Mutation(
        "a content that the run holds counts as new",
        "index/db/queries/counts.py",
        "self.bytes -= sum(fresh[digest] for (digest,) in held)",
        "pass",
        (STATS,),
    ),
    Mutation(
        "a version that has ended counts as current",
        "index/db/queries/counts.py",
        "        count[0] -= 1\n        count[1] -= size\n",
        "",
        (STATS,),
    ),
    Mutation(
        "a deletion leaves counts where foreign keys are off",
        "index/db/queries/deletion.py",
        "*(tables.files, tables.counts, tables.snapshots),",
        "*(tables.files, tables.snapshots),",
        ("tests/index/test_file_repository.py",),
    ),
    # Change detection
    Mutation(
        "the signature of a file written just before the scan is trusted",
        "index/scan/ingest.py",
        """            status.st_ctime_ns < self._racy_from
            and not self._racy_from <= status.st_mtime_ns <= self._racy_until
            and is_storable""",
        "            is_storable",
        (RACY,),
    ),
    Mutation(
        "the signature of a file that changed during the read is trusted",
        "index/scan/ingest.py",
        "is_whole and size == after.st_size and",
        "size == after.st_size and",
        (RACY,),
    ),
    Mutation(
        "a file that changed while it was read counts as whole",
        "index/scan/ingest.py",
        "before is not None and _is_same(before, after)",
        "before is not None",
        (TORN,),
    ),
    Mutation(
        "a file that was written to in this tick counts as settled",
        "index/scan/ingest.py",
        "return max(_TICK_NS - min(abs(now - written), abs(now - changed)), 0)",
        "return 0",
        (TORN,),
    ),
    # Status and watch
    Mutation(
        "a status takes a file of the same size for unchanged content",
        "index/scan/ingest.py",
        "            hasher.update(piece)\n            if self.on_read",
        "            hasher.size += len(piece)\n            if self.on_read",
        (STATUS,),
    ),
    Mutation(
        "a status reads files that are new",
        "index/scan/ingest.py",
        "if self._only_looks and not _may_have_stayed(known, status):",
        "if False:",
        (STATUS,),
    ),
    Mutation(
        "a status forgets what a new path displaces",
        "index/commit/track.py",
        "    changes = with_displaced(changes, state)\n",
        "",
        (STATUS,),
    ),
    Mutation(
        "a directory that is never quiet is never scanned",
        "index/scan/events.py",
        "or now - first >= max_delay",
        "",
        (WATCH,),
    ),
    Mutation(
        "a watch scans for what it passes over",
        "index/scan/events.py",
        "return not all(self._passes_over(here, name, is_directory=kind)[0] for kind in kinds)",
        "return True",
        (WATCH,),
    ),
    # What a scan leaves out
    Mutation(
        "hidden files of the run are passed over",
        "index/scan/scanner.py",
        "if (path if is_directory else name) in held or (",
        "if (",
        (IGNORING,),
    ),
    Mutation(
        "a pattern does not reach into hidden directories",
        "index/scan/patterns.py",
        'return self._ways.matches(path, "", is_directory=True)',
        "return False",
        (IGNORING,),
    ),
    Mutation(
        "hidden files are not asked for among the names of a directory",
        "index/scan/coverage.py",
        'if "/." in joined and not self._hidden:',
        "if False:",
        (IGNORING,),
    ),
    Mutation(
        "names are not compared with patterns of whole paths",
        "index/scan/patterns.py",
        'return names.split("/")',
        "return ()",
        (IGNORING,),
    ),
    Mutation(
        "of several patterns the first one decides",
        "index/scan/patterns.py",
        "        ][::-1]\n",
        "        ]\n",
        (IGNORING,),
    ),
    Mutation(
        "a directory matches a pattern for what is below it",
        "index/scan/patterns.py",
        'return f"(?:.*/)?{inner}" if lead == "/" else f".*{inner}"',
        'return f"(?:.*/)?{inner}"',
        (IGNORING,),
    ),
    Mutation(
        "the store is known by its path only",
        "index/context.py",
        "return _identity(status) in self.identities",
        "return False",
        (f"{TRACKING}::TestCoverage",),
    ),
    Mutation(
        "a scan goes on without descriptors",
        "index/scan/findings.py",
        "if error.errno in _EXHAUSTED:",
        "if False:",
        (f"{TRACKING}::TestFailures",),
    ),
    Mutation(
        "a scope that does not exist is no mistake",
        "index/scan/findings.py",
        "self.absent.append(scope)",
        "pass",
        (f"{TRACKING}::TestCoverage",),
    ),
    # Sessions
    Mutation(
        "a run is found by its name in any session",
        "index/db/queries/runs.py",
        """        .where(tables.sessions.c.name == bindparam("session"))
""",
        "",
        (ISOLATION,),
    ),
    Mutation(
        "a single file is found in a run of that name in any session",
        "index/db/queries/single.py",
        """            tables.sessions.c.name == bindparam("session"),
            tables.runs.c.name""",
        """            tables.sessions.c.name != "",
            tables.runs.c.name""",
        ("tests/index/test_single_reads.py", ISOLATION),
    ),
    Mutation(
        "a single read does not notice a snapshot that is not there yet",
        "index/db/queries/single.py",
        "            select(snapshots.id).where(*in_run).exists(),\n",
        "",
        ("tests/index/test_single_reads.py",),
    ),
    Mutation(
        "file ids and digests are looked up in all sessions",
        "index/db/queries/single.py",
        """            tables.sessions.c.name == bindparam("session"),
            tables.files.c[name]""",
        """            tables.sessions.c.name != "",
            tables.files.c[name]""",
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
        """        if actual != digest:
            raise DigestMismatchError(digest, actual""",
        """        if actual is None:
            raise DigestMismatchError(digest, actual""",
        ("tests/cas/test_store.py", DAMAGED),
    ),
    Mutation(
        "the frame that was decoded last serves any blob at its place",
        "cas/reader.py",
        """            data = slice_blob(location, frame)
            if Digest.of(data) == digest:
""",
        """            data = slice_blob(location, frame)
            if data:
""",
        ("tests/cas/test_frames.py",),
    ),
    Mutation(
        "a piece of a chunk that was verified before is not verified when it is read again",
        "cas/pieces.py",
        "if blake3(piece).digest() != digests[number",
        "if not piece and digests[number",
        ("tests/cas/test_pieces.py",),
    ),
    Mutation(
        "a window in which a blob is damaged is kept",
        "cas/reader.py",
        """            self._windows.forget(location)
""",
        "",
        ("tests/cas/test_windows.py",),
    ),
    Mutation(
        "windows around small blobs grow though nobody reads what is in them",
        "cas/windows.py",
        "self._next * _GROWTH if self._has_served else self._next // 2",
        "self._next * _GROWTH",
        ("tests/cas/test_windows.py",),
    ),
    Mutation(
        "the threads of a stream work on when it is closed",
        "cas/chunked.py",
        """        self._end_threads()
        super().close()""",
        """        super().close()""",
        ("tests/cas/test_chunked.py",),
    ),
    Mutation(
        "a frame is copied whole though a part of it is wanted",
        "cas/packs/frames.py",
        """        if _is_whole([place for _, place, _ in group], share=share):
""",
        """        if group:
""",
        ("tests/cas/test_frames.py",),
    ),
    Mutation(
        "a blob's part of a frame is counted as all of it",
        "index/db/queries/blobs.py",
        """        and_(_blobs.frame_size > 0,""",
        """        and_(_blobs.frame_size < 0,""",
        ("tests/index/test_gc_packs.py",),
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
        "the scope of a generator holds for its caller between two items",
        "index/domain/scopes.py",
        "return inside in _generators and (inside.f_back is not None or _awaits(inside))",
        "return inside in _generators",
        ("tests/index/test_provenance.py",),
    ),
    Mutation(
        "a scope in a generator does not reach the threads that it waits for",
        "index/domain/scopes.py",
        "return at is not None and code[at + 1] & 3 == 3",
        "return False",
        ("tests/index/test_provenance.py",),
    ),
    Mutation(
        "a decorated coroutine function becomes a plain one",
        "index/domain/scopes.py",
        "in _KINDS if is_kind(function)), plain)",
        "in _KINDS if is_kind is None), plain)",
        ("tests/index/test_provenance.py",),
    ),
    Mutation(
        "a batch that is given up does not end what its threads wait for",
        "cas/packs/packer.py",
        "        self._stop.set()\n",
        "",
        ("tests/cas/test_packer.py",),
    ),
    Mutation(
        "a wait ends only for the thread's own stop, not for one of who waits for it",
        "cas/waiting.py",
        "stops = (self, *_stops())",
        "stops = (self,)",
        ("tests/cas/test_threads.py",),
    ),
    Mutation(
        "a pack is begun anew for each task where no thread starts",
        "cas/packs/packer.py",
        """            pack, self._open = self._open, None
            self._run(pack)
""",
        """            self._open = None
            self._run()
""",
        ("tests/cas/test_packer.py",),
    ),
    Mutation(
        "the phase of the tracker is not recorded",
        "index/api/dag_tracker.py",
        'labels["phase"] or current_provenance().phase or self.current_phase',
        'labels["phase"] or current_provenance().phase',
        ("tests/index/test_dag_tracker.py",),
    ),
    Mutation(
        "bytes read after the end of a large file are stored",
        "cas/segments.py",
        "        if left.is_all:",
        "        if left is None:",
        ("tests/cas/test_segments.py",),
    ),
    Mutation(
        "the whole of a large file is hashed from other bytes than its chunks",
        "cas/segments.py",
        "whole.update(memoryview(data)[:end])",
        "whole.update(memoryview(data)[len(left.begun) :])",
        ("tests/cas/test_segments.py",),
    ),
    Mutation(
        "chunks do not grow with their position",
        "cas/chunker.py",
        "if position + start >= stop:",
        "if position + start < 0:",
        ("tests/cas/test_chunker.py",),
    ),
    Mutation(
        "a file whose ends are stored is taken for a stored one",
        "cas/writer.py",
        "return (digest, whole.size) if self._is_whole(digest) else None",
        "return digest, whole.size",
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
        "unused = {digest: place for digest, place in listed.items() if digest not in located}",
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
    # Examination
    Mutation(
        "a probe of the filesystem leaves its second name",
        "cas/probe.py",
        'stack.callback(_remove, calls, f"{name}-link")',
        'stack.callback(_remove, calls, f"{name}-lost")',
        ("tests/cas/test_probe.py",),
    ),
    Mutation(
        "an examination ends at the first service that is down",
        "index/maintenance/doctor/report.py",
        "except (CasError, ArtifactIndexError, OSError, ValueError) as error:",
        "except ArtifactIndexError as error:",
        ("tests/index/test_doctor.py",),
    ),
    Mutation(
        "metrics tell times that there are not",
        "index/domain/metrics.py",
        "if value is not None:",
        "if value is not False:",
        ("tests/index/test_stats.py",),
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
    # Notes, status, commands
    Mutation(
        "what was there before a command is attributed to it",
        "index/api/command.py",
        "track(replace(request, provenance=Provenance(), final=(), marks=running))",
        "track(replace(request, final=(), marks=running))",
        ("tests/index/test_recorded_commands.py",),
    ),
    Mutation(
        "a terminal's Ctrl-C reaches a command twice",
        "index/api/command.py",
        "if not (number in _OF_TERMINAL and _is_in_foreground()):",
        "if process:",
        ("tests/index/test_cli_run.py",),
    ),
    Mutation(
        "a status leaves no record",
        "index/commit/describe.py",
        "status=_status(marks),",
        "status=None,",
        (RECOVER,),
    ),
    # Retention
    Mutation(
        "a hold stops no deletion",
        "index/commit/delete.py",
        "holds.check(connection, session, None if run is None else [each.id for each in dead])",
        "pass",
        ("tests/index/test_holds.py",),
    ),
    Mutation(
        "a hold stops no drop",
        "index/db/queries/drops.py",
        "    holds.check(connection, key.session, [run_id])\n",
        "",
        ("tests/index/test_holds.py",),
    ),
    Mutation(
        "a run that has changed since the plan is deleted",
        "index/commit/delete.py",
        "if run.revision == expected[run.name]]",
        "if run.name in expected]",
        ("tests/index/test_retention.py",),
    ),
    Mutation(
        "a dropped version still counts",
        "index/db/queries/drops.py",
        "sum(size for d, size in sizes.items() if d not in held)",
        "0",
        ("tests/index/test_drops.py",),
    ),
    Mutation(
        "a drop in one store is a divergence in the other",
        "index/transfer/compare.py",
        "return content_of(row.digest, row.dropped)",
        "return row.digest",
        ("tests/index/test_drops.py",),
    ),
    Mutation(
        "a quota is checked only by what the store lacks",
        "index/commit/write.py",
        "before.check(0 if after is None else after.bytes - before.bytes)",
        "pass",
        ("tests/index/test_quotas.py",),
    ),
    Mutation(
        "bytes beyond a quota are written and then refused",
        "index/commit/prepare.py",
        "    batch.on_new = check\n",
        "",
        ("tests/index/test_quotas.py",),
    ),
    Mutation(
        "a tagged version is dropped",
        "index/db/queries/drops.py",
        "if (tag := is_tagged(version, named)) is not None:",
        "if (tag := is_tagged(version, ())) is not None:",
        ("tests/index/test_drops.py",),
    ),
    # Imports
    Mutation(
        "an import writes through a link of the same commit",
        "index/imports/replay.py",
        "sorted(there, key=lambda each: stat.S_ISLNK(each[1].mode))",
        "sorted(there, key=lambda each: not stat.S_ISLNK(each[1].mode))",
        ("tests/imports/test_dvc.py::test_nothing_is_written_through_a_link_of_the_same_commit",),
    ),
    Mutation(
        "an import records its last revision again",
        "index/imports/replay.py",
        "return ids.index(newest) + 1",
        "return ids.index(newest)",
        ("tests/imports/test_git.py::test_a_second_import_goes_on_where_the_first_ended",),
    ),
    Mutation(
        "an import does not compare what it reads back",
        "index/imports/git_objects.py",
        "return found.hexdigest() == self.oid",
        "return True",
        ("tests/imports/test_git.py::test_bytes_are_read_back_and_compared",),
    ),
    Mutation(
        "a link in DVC's cache is followed",
        "index/imports/dvc_files.py",
        "os.O_RDONLY | os.O_NOFOLLOW |",
        "os.O_RDONLY |",
        ("tests/imports/test_dvc.py::test_only_files_of_the_cache_are_read",),
    ),
    Mutation(
        "bytes of DVC's cache need not have their digest",
        "index/imports/dvc_files.py",
        "if digits not in hashed.digests():",
        "if not digits:",
        ("tests/imports/test_dvc.py::test_bytes_without_their_digest_are_not_imported",),
    ),
)
