"""Another session's runs and files behave as if they did not exist.

Two sessions have the same run ids and paths. Each way to reach something is tried with the other
session's ids and with unused ids; the two results must be the same except for the id.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from places import EACH_INDEX, objects_of, places
from sqlalchemy import create_engine
from sqlalchemy.orm import Session as DatabaseSession
from trees import contents, write

from cas.digest import Digest
from index import ArtifactStore, FileRepository
from index.errors import ArtifactIndexError, UnsafePathError

place = places(EACH_INDEX)

SECRET = b"the other session's bytes"
NOWHERE = 999_999


@pytest.fixture
def mine(store):
    session = store.session("mine")
    session.run("r").put("f", b"mine", agent="me")
    session.run("r").put("g", b"shared", agent="me")
    return session


@pytest.fixture
def theirs(store, mine):
    session = store.session("theirs")
    run = session.run("r")
    run.put("f", SECRET, agent="them")
    run.put("g", b"shared", agent="them")
    run.put("only/theirs", SECRET)
    session.run("their-run").put("x", SECRET)
    return session


def outcome(call, *unknown):
    """Return the value of a call, or its error without the id."""
    try:
        return call()
    except ArtifactIndexError as error:
        text = str(error)
        for word in unknown:
            text = text.replace(str(word), "?")
        return type(error), text


READS = {
    "files": lambda run: run.files(),
    "file": lambda run: run.file("x"),
    "history": lambda run: run.history("x"),
    "snapshots": lambda run: run.snapshots(),
    "open": lambda run: run.open("x"),
    "read_bytes": lambda run: run.read_bytes("x"),
    "stats": lambda run: run.stats(),
    "final_outputs": lambda run: run.final_outputs(),
    "manifest": lambda run: run.manifest(),
    "diff": lambda run: run.diff(0),
    "fork": lambda run: run.fork("new"),
    "rewind": lambda run: run.rewind(0),
    "delete": lambda run: run.delete(),
    "drop": lambda run: run.drop("x", version=1, reason="x"),
    "hold": lambda run: run.hold("x"),
}


@pytest.mark.parametrize("name", READS)
def test_a_run_of_another_session_is_as_one_that_is_not_there(mine, theirs, name):
    call = READS[name]
    there = outcome(lambda: call(mine.run("their-run")), "their-run")
    nowhere = outcome(lambda: call(mine.run("nobody")), "nobody")
    assert there == nowhere
    assert there[0].__name__ == "UnknownRunError"
    assert contents(theirs.run("their-run")) == {"x": SECRET}


def test_restoring_another_sessions_run_is_the_same(mine, theirs, tmp_path):
    there = outcome(lambda: mine.run("their-run").restore(tmp_path / "out"), "their-run")
    assert there == outcome(lambda: mine.run("nobody").restore(tmp_path / "out"), "nobody")
    assert not (tmp_path / "out").exists()


def test_a_path_of_the_other_sessions_run_of_the_same_name(mine, theirs, tmp_path):
    run = mine.run("r")
    for call in (run.file, run.history, run.open, run.read_bytes):
        there = outcome(lambda call=call: call("only/theirs"), "only/theirs")
        assert there == outcome(lambda call=call: call("no/bodys"), "no/bodys")
    assert contents(run) == {"f": b"mine", "g": b"shared"}
    assert [v.agent for v in run.history("f")] == ["me"]
    assert len(run.snapshots()) == 2
    run.restore(tmp_path / "out")
    assert (tmp_path / "out" / "f").read_bytes() == b"mine"
    assert not (tmp_path / "out" / "only").exists()
    assert run.stats().versions == 2


def test_a_file_id_of_the_other_session(mine, theirs):
    their_id = theirs.run("r").file("f").id
    for call in (mine.file, mine.open, mine.read_bytes):
        there = outcome(lambda call=call: call(their_id), their_id)
        assert there == outcome(lambda call=call: call(NOWHERE), NOWHERE)
        assert there[0].__name__ == "UnknownFileIdError"


def test_a_digest_of_the_other_session(mine, theirs):
    theirs_only, nobodys = Digest.of(SECRET), Digest.of(b"nobody's")
    for call in (mine.open, mine.read_bytes):
        there = outcome(lambda call=call: call(theirs_only), theirs_only)
        assert there == outcome(lambda call=call: call(nobodys), nobodys)
        assert there[0].__name__ == "UnknownDigestError"
    assert mine.producers(theirs_only) == mine.producers(nobodys) == ()
    assert mine.producers(str(theirs_only)) == ()
    assert mine.producers("only/theirs") == ()


def test_shared_bytes_are_read_but_their_other_maker_is_not_told(mine, theirs):
    shared = Digest.of(b"shared")
    assert mine.read_bytes(shared) == b"shared"
    assert [(v.session, v.agent) for v in mine.producers(shared)] == [("mine", "me")]


def test_a_chunk_of_the_other_session_cannot_be_opened(mine, theirs, store):
    large = bytes(range(256)) * (10 << 10)
    theirs.run("r").put("large", large)
    chunk = Digest.of(large[: 1 << 20])
    there = outcome(lambda: mine.open(chunk), chunk)
    assert there == outcome(lambda: mine.open(Digest.of(b"no")), Digest.of(b"no"))


def test_a_run_of_another_session_cannot_be_compared_with(mine, theirs):
    for other, name in ((theirs.run("their-run"), "their-run"), (theirs.run("r"), "r")):
        there = outcome(lambda other=other: mine.run("r").diff(other), name)
        nobody = outcome(lambda: mine.run("r").diff(mine.run("nobody")), "nobody")
        assert there[0] == nobody[0]
        assert "their-run" not in there[1]


def test_a_fork_may_have_the_id_of_the_other_sessions_run(mine, theirs):
    mine.run("r").fork("their-run")
    assert contents(mine.run("their-run")) == {"f": b"mine", "g": b"shared"}
    assert contents(theirs.run("their-run")) == {"x": SECRET}


def test_deleting_a_run_or_session_leaves_the_other_whole(mine, theirs, store):
    receipt = mine.run("r").delete()
    assert {blob.digest for blob in receipt.released} == {Digest.of(b"mine"), Digest.of(b"shared")}
    assert "their" not in repr(receipt)
    mine.delete()
    assert contents(theirs.run("r")) == {"f": SECRET, "g": b"shared", "only/theirs": SECRET}
    assert [s.run for s in theirs.runs()] == ["r", "their-run"]


def test_tracking_the_same_names_in_both(mine, theirs, work):
    write(work, {"f": b"mine again"})
    mine.run("r").track(work, agent="me")
    assert contents(theirs.run("r"))["f"] == SECRET
    assert [v.agent for v in theirs.run("r").history("f")] == ["them"]


def test_the_listing_of_runs_is_the_sessions_own(mine, theirs, store):
    assert [s.run for s in mine.runs()] == ["r"]
    assert outcome(lambda: store.session("nobody").runs(), "nobody")[0].__name__ == (
        "UnknownSessionError"
    )


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**20])
def test_ids_and_versions_beyond_every_row_are_not_there(store, number):
    run = store.session("s").run("r")
    run.put("a", b"1")
    for ask in (store.session("s").file, store.session("s").open):
        with pytest.raises(LookupError):
            ask(number)
    with pytest.raises(LookupError):
        run.file("a", version=number)


@pytest.mark.parametrize("wrong", ["1", True, 1.0, b"1"])
def test_what_is_no_number_is_a_type_error_that_says_so(store, wrong):
    run = store.session("s").run("r")
    run.put("a", b"1")
    for ask in (
        lambda: run.files(at=wrong),
        lambda: run.rewind(wrong),
        lambda: run.fork("other", at=wrong),
        lambda: run.diff(wrong),
        lambda: run.restore("nowhere", at=wrong),
    ):
        with pytest.raises(TypeError, match="by its number"):
            ask()
    with pytest.raises(TypeError, match="a file id is a number"):
        store.session("s").file(wrong)


def test_a_prefix_may_be_a_path_and_must_be_possible(store):
    run = store.session("s").run("r")
    run.put("data/a", b"1")
    assert [version.path for version in run.files(prefix=Path("data"))] == ["data/a"]
    with pytest.raises(UnsafePathError, match="no file name"):
        run.files(prefix="\ud800")


WORDS = [
    "%", "_", "their%", "thei__", "%theirs", "*", "theirs*", "their?", "THEIRS", "Theirs",
    "theirs ", " theirs", "the\u0131rs", "th\u200beirs", "theirs\\", "' OR '1'='1", "theirs' --",
    'theirs"', "theirs'; DROP TABLE cas_files; --", "x' UNION SELECT 1 --", "%(name)s", ":name",
    "?", "{name}",
]  # fmt: skip
"""Wildcards, other spellings, and characters that end a string or name a parameter in SQL."""


def test_no_word_for_a_session_or_run_means_another_one(store, mine, theirs):
    shared = Digest.of(b"shared")
    for word in WORDS:
        their_word = word.replace("theirs", "their-run")
        assert outcome(store.session(word).runs)[0].__name__ == "UnknownSessionError"
        for run in (store.session(word).run("r"), mine.run(their_word), mine.run(word)):
            for read in (run.files, run.snapshots, run.stats, run.delete):
                assert outcome(read)[0].__name__ == "UnknownRunError", word
        assert outcome(store.session(word).delete)[0].__name__ == "UnknownSessionError"
        session = store.session(word)
        assert session.producers(shared) == (), word
        assert outcome(lambda s=session: s.open(shared))[0].__name__ == "UnknownDigestError"
    assert contents(theirs.run("r")) == {"f": SECRET, "g": b"shared", "only/theirs": SECRET}


def test_no_word_for_a_path_or_a_filter_means_another_one(mine, theirs):
    run = mine.run("r")
    for word in WORDS:
        for read in (run.file, run.history, run.open):
            assert outcome(lambda r=read, w=word: r(w))[0].__name__ == "UnknownFileError", word
        assert mine.producers(word) == (), word
        assert not run.files(prefix=word), word
        for name in ("phase", "agent", "node_id", "step_id", "event_id", "file_type", "priority"):
            assert not run.files(**{name: word}), word
    assert contents(run) == {"f": b"mine", "g": b"shared"}


def test_every_word_is_an_id_and_a_path_like_any_other(store):
    for number, word in enumerate(WORDS):
        told = dict.fromkeys(("phase", "agent", "node_id", "step_id", "event_id"), word)
        store.session(word).run("r").put(word, b"%d" % number, **told)
    for number, word in enumerate(WORDS):
        run = store.session(word).run("r")
        assert contents(run) == {word: b"%d" % number}
        assert [v.path for v in run.files(prefix=word, agent=word, node_id=word)] == [word]
        assert run.delete().versions == 1
    assert store.stats().versions == 0


def test_an_abbreviated_digest_of_the_other_session_finds_nothing(cas, store_root):
    with ArtifactStore.open(store_root) as store:
        store.session("mine").run("r").put("f", b"mine")
        store.session("theirs").run("r").put("x", SECRET)
        store.session("theirs").run("r").put("y", b"also theirs")
    for length in (7, 12, 63, 64):
        told = []
        for data in (SECRET, b"nobody's"):
            prefix = str(Digest.of(data))[:length]
            code, out, err = cas("--store", store_root, "who", "--session", "mine", prefix)
            told.append((code, out, err.replace(prefix, "?")))
        assert told[0] == told[1]
        assert told[0][0] == 4


def test_an_abbreviated_digest_is_not_ambiguous_by_what_the_other_session_has(cas, store_root):
    begins = {}
    for number in range(200_000):
        data = b"%d" % number
        prefix = str(Digest.of(data))[:7]
        if prefix in begins:
            break
        begins[prefix] = data
    with ArtifactStore.open(store_root) as store:
        store.session("mine").run("r").put("f", data)
        store.session("theirs").run("r").put("f", begins[prefix])
    code, out, _ = cas("--store", store_root, "who", "--session", "mine", prefix)
    assert code == 0
    assert str(Digest.of(data))[:12] in out


@pytest.fixture
def repository(place, store, work):
    url = place.get("index") or f"sqlite:///{place['root']}/index.db"
    engine = create_engine(url)
    with DatabaseSession(engine) as db_session:
        yield FileRepository(db_session, "mine", store=store, work_dir=work)
        db_session.commit()
    engine.dispose()


def test_a_repository_of_one_session_sees_and_changes_nothing_of_the_other(
    mine, theirs, repository, work
):
    assert repository.list_files("their-run") == repository.list_files("nobody") == []
    for word in WORDS:
        assert repository.list_files(word) == []
    assert {v.session for v in repository.list_files("r")} == {"mine"}
    write(work, {"x": b"mine too", "f": b"newer"})
    repository.register_file("their-run", "x", generating_agent="me")
    repository.register_file("r", "f", generating_agent="me")
    repository._db_session.commit()
    assert contents(theirs.run("their-run")) == {"x": SECRET}
    assert contents(theirs.run("r")) == {"f": SECRET, "g": b"shared", "only/theirs": SECRET}
    assert contents(mine.run("their-run")) == {"x": b"mine too"}


def test_a_sync_of_one_session_brings_nothing_of_the_other(store, mine, theirs, tmp_path):
    mine.run("r").put("h", SECRET[:10], agent="me")
    with ArtifactStore.open(tmp_path / "copy") as copy:
        store.sync_to(copy, sessions=["mine"])
        assert [summary.session for summary in copy.runs()] == ["mine"]
        assert copy.producers(Digest.of(SECRET)) == ()
        assert {v.agent for v in copy.producers(Digest.of(b"shared"))} == {"me"}
    objects = objects_of({"root": tmp_path / "copy"})
    assert all(SECRET not in objects.read(name) for name in objects.names())
    index = (tmp_path / "copy" / "index.db").read_bytes()
    assert b"their" not in index
    assert bytes(Digest.of(SECRET)) not in index
