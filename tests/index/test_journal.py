"""Every commit leaves a journal record in storage, chained to the previous one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import EACH_INDEX, places
from sqlalchemy import text

from cas.digest import Digest
from cas.packs.pack import EntryKind, pack_object_name, read_footer
from index import provenance
from index.commit.write import record
from index.errors import DamagedRecordError
from index.journal.encoding import decode_record, encode_record
from index.journal.entries import CommitEntry, DeletionEntry, Entry, ForkEntry, NewFiles

place = places(EACH_INDEX)

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
FORK = ForkEntry(
    created_at=NOW,
    session="s",
    run="f",
    previous=Digest.of(b""),
    revision=0,
    forked_from="r",
    at=3,
)


@pytest.fixture
def run(store):
    return store.session("s").run("r")


def entries_in(store, kind=EntryKind.RECORD):
    """Return the digests of entries of one kind, read from storage without the index."""
    backend = store.context.blobs._backend
    found = set()
    for each in backend.iter_objects("packs/"):
        footer = read_footer(
            each.name,
            each.size,
            lambda start, size, name=each.name: backend.read(name, start, size),
        )
        found.update(entry.digest for entry in footer if entry.kind is kind)
    return found


def chain(store, session="s", run="r"):
    """Return the records of a run in the index, oldest first."""
    query = text(
        "SELECT digest FROM cas_records JOIN cas_runs ON cas_runs.id = run_id"
        " JOIN cas_sessions ON cas_sessions.id = session_id"
        " WHERE cas_sessions.name = :session AND cas_runs.name = :run ORDER BY position"
    )
    with store.context.database.reading() as connection:
        digests = connection.scalars(query, {"session": session, "run": run}).all()
    assert set(map(bytes, digests)) <= entries_in(store)
    return [decode_record(store.context.blobs.read(Digest(bytes(digest)))) for digest in digests]


class TestScans:
    def test_a_scan_tells_what_it_recorded(self, store, run, work):
        (work / "data").mkdir()
        (work / "data/a").write_bytes(b"1")
        (work / "b").write_bytes(b"22")
        run.track(work, phase="p", agent="x", node_id="n", scope=None)
        (entry,) = chain(store)
        assert (entry.session, entry.run, entry.previous, entry.snapshot) == ("s", "r", None, 1)
        assert list(entry.files.paths) == ["b", "data/a"]
        assert list(entry.files.digests) == [Digest.of(b"22"), Digest.of(b"1")]
        assert entry.provenance["agent"] == "x"
        assert entry.revision == 1

    def test_each_record_names_the_one_before_it(self, store, run, work):
        for content in (b"1", b"2", b"3"):
            (work / "a").write_bytes(content)
            run.track(work)
        one, two, three = chain(store)
        assert one.previous is None
        digests = [
            d for d in entries_in(store) if decode_record(store.context.blobs.read(d)) == one
        ]
        assert two.previous in digests
        assert three.previous not in (one.previous, two.previous)
        assert [e.snapshot for e in (one, two, three)] == [1, 2, 3]

    def test_it_rides_in_the_pack_that_the_scan_writes(self, store, run, work):
        (work / "a").write_bytes(b"1")
        run.track(work)
        assert store.stats().packs == 1

    def test_a_scan_that_writes_no_pack_leaves_a_small_object(self, store, run, work):
        (work / "a").write_bytes(b"1")
        run.track(work)
        (work / "a").unlink()
        run.track(work)
        assert store.stats().packs == 2
        assert list(chain(store)[-1].removed) == ["a"]

    def test_a_scan_that_finds_nothing_new_leaves_none(self, store, run, work):
        (work / "a").write_bytes(b"1")
        for _ in range(3):  # the second one only learns a signature
            run.track(work)
        assert len(entries_in(store)) == 1

    def test_what_is_filled_in_later_is_told(self, store, run, work):
        (work / "a").write_bytes(b"1")
        run.track(work, node_id="n")
        run.track(work, node_id="n", agent="x")
        assert list(chain(store)[-1].filled) == ["a"]
        assert chain(store)[-1].snapshot is None

    def test_a_new_mode_is_told_and_a_new_signature_is_not(self, store, run, work):
        (work / "a").write_bytes(b"1")
        run.track(work)
        (work / "a").chmod(0o600)
        run.track(work)
        ((path, mode, _, seen_by),) = chain(store)[-1].touched
        assert (path, mode & 0o777, seen_by) == ("a", 0o600, 1)

    def test_names_that_are_not_utf8_come_back(self, store, run):
        name = b"caf\xe9\\".decode("utf-8", "surrogateescape")
        run.put(name, b"1")
        assert list(chain(store)[0].files.paths) == [name]

    def test_the_record_of_a_scan_of_many_files_is_cut(self, store, run, work, monkeypatch):
        monkeypatch.setattr("index.commit.describe._PART_SIZE", 2_000)
        for n in range(100):
            (work / f"{n:03}").write_bytes(b"%d" % n)
        run.track(work)
        *parts, entry = chain(store)
        assert len(parts) > 3
        paths = [path for each in (entry, *parts) for path in each.files.paths]
        assert paths == [f"{n:03}" for n in range(100)]


class TestOtherCommits:
    def test_a_put_with_notes(self, store, run):
        run.put("a", b"1", meta={"rows": 3})
        run.put("a", b"1", meta={"rows": 4})
        first, second = chain(store)
        assert first.files.kinds == [["other", "internal", False, {"rows": 3}]]
        assert first.seen_by == 0
        assert second.notes == {"a": {"meta": {"rows": 4}}}

    def test_a_fork_goes_on_with_the_chain_of_its_parent(self, store, run):
        run.put("a", b"1")
        run.fork("f")
        original, fork = chain(store, run="f")
        assert [original] == chain(store)
        assert (fork.forked_from, fork.at, fork.run) == ("r", 1, "f")
        run.delete()
        assert chain(store, run="f") == [original, fork]

    def test_a_rewind_is_told(self, store, run):
        run.put("a", b"1")
        run.put("a", b"2")
        with provenance(agent="boss"):
            run.rewind(1)
        assert chain(store)[-1].at == 1
        assert chain(store)[-1].provenance["agent"] == "boss"

    def test_a_rewind_to_what_is_there_leaves_nothing(self, store, run):
        run.put("a", b"1")
        run.rewind(1)
        assert len(entries_in(store)) == 1

    def test_a_deletion_outlives_the_run(self, store, run):
        run.put("a", b"1")
        run.delete()
        query = text("SELECT digest FROM cas_records WHERE run_id IS NULL")
        with store.context.database.reading() as connection:
            (digest,) = connection.scalars(query).all()
        entry = decode_record(store.context.blobs.read(Digest(bytes(digest))))
        assert isinstance(entry, DeletionEntry)
        assert [name for name, _, _ in entry.runs] == ["r"]

    def test_a_run_without_a_chain_begins_one_with_all_of_its_history(self, store, run):
        run.put("a", b"1", agent="x")
        run.put("a", b"2", agent="y")
        with store.context.database.writing() as connection:
            connection.execute(text("DELETE FROM cas_records"))
            connection.execute(text("UPDATE cas_runs SET newest_record = NULL"))
        run.put("a", b"3")
        versions, history, last = chain(store)
        assert [len(history.snapshots), history.versions, len(versions.rows)] == [2, 2, 2]
        assert last.previous is not None
        assert [v.version for v in run.history("a")] == [1, 2, 3]

    def test_who_loses_a_race_replaces_his_record(self, store, run, work, monkeypatch):
        (work / "a").write_bytes(b"1")
        run.track(work)
        (work / "b").write_bytes(b"2")
        raced = []

        def race(*args):
            if not raced:
                raced.append(1)
                run.put("c", b"3")
            return record(*args)

        monkeypatch.setattr("index.commit.committer.record", race)
        run.track(work)
        first, put, scan = chain(store)
        assert len(entries_in(store)) == 4
        ((lost),) = scan.replaces
        assert decode_record(store.context.blobs.fetch(lost, _place(store, lost))).previous == (
            put.previous
        )
        assert (first.revision, put.revision, scan.revision) == (1, 2, 3)


def _place(store, digest):
    from cas.catalog import Location

    backend = store.context.blobs._backend
    for each in backend.iter_objects("packs/"):
        for e in read_footer(
            each.name, each.size, lambda start, size, n=each.name: backend.read(n, start, size)
        ):
            if e.digest == digest:
                name = Digest.parse(each.name.rpartition("/")[2].removesuffix(".pack"))
                assert pack_object_name(name) == each.name
                return Location.of(name, e)
    raise AssertionError(digest)


class TestBytes:
    def test_a_record_comes_back_and_is_never_the_same_bytes(self):
        assert decode_record(encode_record(FORK)) == FORK
        assert encode_record(FORK) != encode_record(FORK)

    def test_a_commit_comes_back(self):
        entry = CommitEntry(
            created_at=NOW,
            session="s",
            run="r",
            previous=None,
            revision=4,
            provenance={"agent": None},
            snapshot=3,
            files=NewFiles(
                ["a"],
                [Digest.of(b"a")],
                [1],
                [0o644],
                [-5],
                [["data", "primary", False, None]],
                [0],
            ),
            parts=(Digest.of(b"b"),),
        )
        decoded = decode_record(encode_record(entry))
        assert (decoded.files, decoded.parts, decoded.created_at) == (entry.files, entry.parts, NOW)

    @given(st.binary() | st.text().map(str.encode))
    def test_other_bytes_are_refused(self, data):
        with pytest.raises(DamagedRecordError):
            decode_record(data)

    @given(st.data())
    def test_changed_bytes_are_a_record_or_refused(self, data):
        changed = bytearray(encode_record(FORK))
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            assert isinstance(decode_record(changed), Entry)
        except DamagedRecordError:
            return
