"""What a word means: digests by their first digits, runs, snapshots, versions; and `cas show`."""

from __future__ import annotations

import json
import os

import pytest
from places import EACH_INDEX, places

from cas.digest import Digest
from cas.errors import InvalidDigestError
from index import ArtifactStore
from index.errors import (
    AmbiguousNameError,
    DanglingFileError,
    UnknownDigestError,
    UnknownNameError,
    UnknownRunError,
    UnknownSessionError,
    UnknownTagError,
)

place = places(EACH_INDEX)


def twins():
    """Return two contents whose digests begin with the same seven digits."""
    begun = {}
    for number in range(200_000):
        data = b"%d" % number
        prefix = str(Digest.of(data))[:7]
        if prefix in begun:
            return prefix, begun[prefix], data
        begun[prefix] = data
    raise AssertionError


PREFIX, ONE, OTHER = twins()


@pytest.fixture
def session(store):
    session = store.session("s")
    run = session.run("run-7")
    run.put("data/result.csv", b"1,2\n", agent="engineer")
    run.put("data/result.csv", b"1,2,3\n", agent="reviewer")
    run.put("gone.txt", b"gone")
    run.remove("gone.txt")
    return session


class TestDigests:
    @pytest.mark.parametrize("length", [7, 12, 63, 64])
    def test_the_first_digits_are_enough_wherever_a_digest_is_taken(self, store, session, length):
        digest = Digest.of(b"1,2\n")
        text = str(digest)[:length]
        assert session.digest(text) == store.digest(text) == digest
        assert session.read_bytes(text) == b"1,2\n"
        with session.open(text) as stream:
            assert stream.read() == b"1,2\n"
        assert session.producers(text) == store.producers(text) == session.producers(digest)
        assert [v.version for v in session.find(digest=text, all_versions=True)] == [1]

    @pytest.mark.parametrize("wrong", ["", "abcdef", "ABCDEF0", "g" * 7, "0" * 65, "\u0660" * 7, 7])
    def test_other_text_is_no_digest(self, session, wrong):
        with pytest.raises(InvalidDigestError):
            session.digest(wrong)

    def test_one_that_no_file_has_is_unknown(self, store, session):
        for owner, where in ((session, "session 's' has no file"), (store, "no session has a fil")):
            for text in ("0000000", "0" * 64, Digest.of(b"nobody's")):
                with pytest.raises(UnknownDigestError, match=where):
                    owner.digest(text)
        with pytest.raises(UnknownDigestError):
            session.open("0000000")
        assert session.producers("0000000") == ()

    def test_several_are_named(self, store, session):
        session.run("r").put_many([("one", ONE), ("other", OTHER)])
        both = tuple(sorted(str(Digest.of(data)) for data in (ONE, OTHER)))
        for ask in (session.digest, session.open, session.read_bytes, session.producers):
            with pytest.raises(AmbiguousNameError, match="write the one you mean") as raised:
                ask(PREFIX)
            assert tuple(sorted(raised.value.candidates)) == both
        assert session.digest(both[0][:20]) == Digest.parse(both[0])

    def test_what_another_session_has_makes_nothing_ambiguous(self, store, session):
        session.run("r").put("one", ONE)
        store.session("other").run("r").put("other", OTHER)
        assert session.digest(PREFIX) == Digest.of(ONE)
        assert session.read_bytes(PREFIX) == ONE
        with pytest.raises(AmbiguousNameError):
            store.digest(PREFIX)

    def test_a_path_that_looks_like_one_is_the_path(self, session):
        run = session.run("run-7")
        text = str(Digest.of(b"1,2\n"))[:8]
        run.put(text, b"a path")
        assert [v.path for v in session.producers(text)] == [text]
        assert [v.path for v in session.producers(text[:7])] == ["data/result.csv"]


def meant(session, word, run=None):
    """Return a meaning as a short text."""
    value, of = session.resolve(word, run=run)
    if isinstance(value, Digest):
        assert of is None
        return "digest"
    if hasattr(value, "number"):
        return f"snapshot {of.id} {value.number}"
    return f"file {value.path} {value.version}" if hasattr(value, "path") else f"run {value.id}"


class TestWords:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("run-7", "run run-7"),
            ("run-7@", "run run-7"),
            ("2", "snapshot run-7 2"),
            ("@2", "snapshot run-7 2"),
            ("run-7@2", "snapshot run-7 2"),
            ("data/result.csv", "file data/result.csv 2"),
            ("./data/result.csv", "file data/result.csv 2"),
            ("data/result.csv@1", "file data/result.csv 1"),
            ("./data/result.csv@1", "file data/result.csv 1"),
            ("gone.txt", "file gone.txt 1"),
            (str(Digest.of(b"1,2\n")), "digest"),
            (str(Digest.of(b"gone"))[:7], "digest"),
        ],
    )
    def test_each_form_means_one_thing(self, session, word, expected):
        assert meant(session, word) == expected

    @pytest.mark.parametrize(
        "word",
        ["", "run-8", "9", "@9", "run-7@9", "run-8@1", "data", "data/result.csv@9", "../x", "/x",
         "0000000", "@", "./", "1" * 30, "@" + "9" * 18, "²", "run-7@²", "\0", "a/b@1", "@@1"],
    )  # fmt: skip
    def test_other_words_mean_nothing(self, session, word):
        with pytest.raises(UnknownNameError):
            session.resolve(word)

    def test_an_unknown_one_names_the_closest_runs_and_paths(self, session):
        for word, near in (("run-8", "run-7"), ("data/resutl.csv", "data/result.csv")):
            with pytest.raises(UnknownNameError, match=f"closest is '{near}'"):
                session.resolve(word)

    def test_a_word_of_several_meanings_names_a_word_for_each(self, session):
        run = session.run("run-7")
        text = str(Digest.of(b"1,2\n"))[:7]
        for path in ("2", "run-7", "run-7@2", text):
            run.put(path, b"odd")
        session.run("2").put("a", b"1")
        session.run(text).put("a", b"1")
        session.run("data").put_many([("a", b"2")])
        several = {
            "2": {"@2", "2@", "./2"},
            "run-7": {"run-7@", "./run-7"},
            text: {str(Digest.of(b"1,2\n")), f"{text}@", f"./{text}"},
        }
        for word, longer in several.items():
            with pytest.raises(AmbiguousNameError) as raised:
                session.resolve(word, run="run-7")
            assert {each.partition(" ")[0] for each in raised.value.candidates} == longer
            meanings = {meant(session, each, "run-7") for each in longer}
            assert len(meanings) == len(longer)
        with pytest.raises(AmbiguousNameError, match=r"snapshot 2 of 'run-7' or \./run-7@2"):
            session.resolve("run-7@2", run="run-7")
        assert meant(session, "./run-7@2", "run-7") == "file run-7@2 1"

    def test_a_tag_means_what_it_names(self, session):
        run = session.run("run-7")
        run.tag("best", at=1)
        run.tag("sent", path="data/result.csv", version=1)
        for word, expected in {
            "best": "snapshot run-7 1",
            "@best": "snapshot run-7 1",
            "run-7@best": "snapshot run-7 1",
            "data/result.csv@best": "file data/result.csv 1",
            "sent": "file data/result.csv 1",
            "run-7@sent": "file data/result.csv 1",
            "./data/result.csv@sent": "file data/result.csv 1",
        }.items():
            assert meant(session, word) == expected
        for word in ("other", "@other", "run-7@other", "gone.txt@best", "gone.txt@sent"):
            with pytest.raises(UnknownNameError):
                session.resolve(word)
        run.put("best", b"a file")
        with pytest.raises(AmbiguousNameError, match=r"@best \(a tag\) or \./best \(a file\)"):
            session.resolve("best")
        assert meant(session, "./best") == "file best 1"
        assert run.snapshot("best") == run.snapshot(1)
        with pytest.raises(UnknownTagError):
            run.snapshot("sent")
        run.untag("best")
        assert meant(session, "best") == "file best 1"

    def test_a_run_that_is_not_given_is_the_only_one(self, session):
        session.run("other").put("a", b"1")
        for word in ("data/result.csv", "2", "@2"):
            with pytest.raises(UnknownNameError):
                session.resolve(word)
            assert meant(session, word, "run-7")
        assert meant(session, "run-7@2") == "snapshot run-7 2"
        with pytest.raises(UnknownRunError):
            session.resolve("2", run="nobody")

    def test_nothing_of_another_session_is_meant_or_named(self, store, session):
        store.session("other").run("run-9").put("secret.csv", b"secret")
        for word in ("run-9", "run-9@1", "secret.csv", str(Digest.of(b"secret"))[:9]):
            with pytest.raises(UnknownNameError) as raised:
                session.resolve(word)
            assert not {"run-9", "secret.csv"} & set(raised.value.closest)
        with pytest.raises(UnknownSessionError):
            store.session("nobody").resolve("run-7")


def test_the_storage_of_bytes_is_told_to_the_owner(store, session):
    stored = store.stored(Digest.of(b"1,2\n"))
    assert (stored.size, stored.chunks, stored.verified_at) == (4, 1, None)
    assert 0 < stored.stored_size < 100
    assert stored.created_at == session.run("run-7").history("data/result.csv")[0].created_at
    store.verify(depth="bytes")
    assert store.stored(Digest.of(b"1,2\n")).verified_at is not None
    assert store.stored(Digest.of(b"nobody's")) is None


def test_the_storage_of_a_large_blob_is_that_of_its_chunks(store, session):
    data = os.urandom(3 << 20)
    session.run("run-7").put("large", data + data)
    stored = store.stored(Digest.of(data + data))
    assert stored.size == 6 << 20
    assert stored.chunks > 1
    assert 3 << 20 <= stored.stored_size < 6 << 20
    assert len(stored.packs) == 1
    assert not hasattr(session, "stored")


def test_a_damaged_blob_says_so(store, session, objects):
    digest = Digest.of(b"1,2\n")
    (pack,) = store.stored(digest).packs
    objects.remove(f"packs/{str(pack)[:2]}/{pack}.pack")
    store.verify()
    with pytest.raises(DanglingFileError):
        session.read_bytes(digest)
    assert store.stored(digest).damaged_at is not None
    assert store.stored(digest).verified_at is None


class TestTheCommand:
    """`cas show`."""

    @pytest.fixture
    def shows(self, cas, store_root, monkeypatch):
        with ArtifactStore.open(store_root) as store:
            run = store.session("default").run("run-7")
            run.put("data/result.csv", b"1,2\n", agent="engineer", meta={"rows": 2})
            run.put_many([("data/result.csv", b"1,2,3\n"), ("plan.md", b"plan")], phase="planning")
            run.fork("branch", at=1)
        monkeypatch.setenv("CAS_STORE", str(store_root))
        monkeypatch.setenv("CAS_RUN", "run-7")

        def call(*arguments):
            code, out, err = cas("show", *arguments)
            assert (code, err) == (0, "")
            return out

        return call

    def facts(self, out):
        head = out.split("\n\n")[0]
        return dict(line.split("\t") for line in head.splitlines() if line.count("\t") == 1)

    def test_a_file_with_its_storage_makers_and_other_places(self, shows):
        facts = self.facts(shows("data/result.csv@1"))
        digest = str(Digest.of(b"1,2\n"))
        assert (facts["kind"], facts["version"], facts["digest"]) == ("file", "1", digest)
        assert (facts["agent"], facts["meta"]) == ("engineer", '{"rows": 2}')
        assert (facts["end_snapshot"], facts["verified_at"]) == ("2", "never")
        assert {"stored_size", "packs"} <= facts.keys()
        _, producers, places = shows("data/result.csv@1").split("\n\n")
        assert [line.split("\t")[0] for line in producers.splitlines()[1:]] == ["run-7"]
        assert [line.split("\t")[0] for line in places.splitlines()[1:]] == ["run-7", "branch"]

    def test_a_digest(self, shows):
        facts = self.facts(shows(str(Digest.of(b"plan"))[:7]))
        assert (facts["kind"], facts["digest"]) == ("digest", str(Digest.of(b"plan")))
        assert facts["size"] == "4"

    def test_a_snapshot_with_what_it_changed(self, shows):
        out = shows("2")
        assert self.facts(out)["phase"] == "planning"
        assert out.endswith("+ plan.md\n~ data/result.csv\n")

    def test_a_run(self, shows):
        facts = self.facts(shows("branch"))
        assert (facts["kind"], facts["forked_from"], facts["files"]) == ("run", "run-7", "1")
        assert facts["files_by_agent"] == "engineer 1"

    def test_json_of_each_kind(self, shows):
        kinds = {"plan.md": "file", "1": "snapshot", "run-7@": "run", "branch@1": "snapshot"}
        for word, kind in kinds.items():
            assert json.loads(shows(word, "--json"))["kind"] == kind
        told = json.loads(shows(str(Digest.of(b"1,2\n")), "--json"))
        assert [each["run"] for each in told["places"]] == ["run-7", "branch"]
        assert [each["run"] for each in told["producers"]] == ["run-7"]
        assert told["stored"]["size"] == 4

    def test_bytes_in_many_places_are_listed_up_to_a_limit(self, shows, store_root):
        with ArtifactStore.open(store_root) as store:
            store.session("default").run("many").put_many(
                [(f"f{n:02}", b"plan") for n in range(30)]
            )
        digest = str(Digest.of(b"plan"))
        out = shows(digest)
        assert out.endswith(f"and more: cas find --all-versions --digest {digest}\n")
        assert len(out.split("\n\n")[-1].splitlines()) == 22

    def test_it_asks_for_the_run_where_there_are_several(self, cas, shows, monkeypatch):
        monkeypatch.delenv("CAS_RUN")
        code, _, err = cas("show", "plan.md")
        assert (code, "name the run with --run" in err) == (2, True)
        code, _, err = cas("show", "nosuch", "--run", "run-7")
        assert (code, "'nosuch' is nothing in session" in err) == (4, True)

    def test_an_ambiguous_word_is_a_usage_error(self, cas, shows, store_root):
        with ArtifactStore.open(store_root) as store:
            store.session("default").run("run-7").put("branch", b"odd")
        code, _, err = cas("show", "branch")
        assert (code, "branch@ (a run) or ./branch (a file)" in err) == (2, True)
        assert cas("show", "./branch")[0] == cas("show", "branch@")[0] == 0
