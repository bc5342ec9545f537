from __future__ import annotations

import pytest
from places import EACH_INDEX, places
from sqlalchemy.orm import Session

from index import ArtifactStore, FileRepository, recover
from index.domain.names import check_id, check_local, check_path, usable_label
from index.errors import (
    IndexUnavailableError,
    InvalidNameError,
    UnknownFileError,
    UnknownFileIdError,
    UnknownSnapshotError,
    UnsafePathError,
    VersionConflictError,
)

place = places(EACH_INDEX)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        ("x" * 300, "300 characters"),
        ("a/b", "'/'"),
        ("..", "relative path"),
        ("../x", "'/'"),
        ("a..b", "relative path"),
        (".", "relative path"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\udcffb", "undecodable"),
        (7.0, "no string, integer or UUID"),
        (True, "no string, integer or UUID"),
    ],
)
def test_an_id_that_cannot_be_one_gets_one_sentence(value, reason):
    with pytest.raises(InvalidNameError, match=reason) as caught:
        check_id("run", value)
    assert "can't be the run id" in str(caught.value)
    assert len(str(caught.value)) < 160


def test_a_number_with_too_many_digits_for_text_is_refused_like_any_long_id():
    with pytest.raises(InvalidNameError, match=r"'0x1a2b.*characters, at most 255 fit"):
        check_id("run", 0x1A2B << 20_000)
    usable = [usable_label("node", (0x1A2B << 20_000) + each) for each in (0, 1)]
    assert [len(label) for label in usable] == [255, 255]
    assert usable[0] != usable[1]


@pytest.mark.parametrize("value", ["r", "run-1", "x" * 255, "Läufe 3", "a.b", "%41", "'; DROP"])
def test_any_other_id_is_taken_as_it_is(value):
    assert check_id("run", value) == value


@pytest.mark.parametrize(
    ("path", "clean"),
    [("a", "a"), ("./a//b/", "a/b"), ("a b\n", "a b\n"), ("...", "..."), ("a\udcff", "a\udcff")],
)
def test_a_path_has_one_spelling(path, clean):
    assert check_path(path) == clean


def test_a_path_is_plain_text_whatever_it_was_given_as():
    class Shouted(str):
        __slots__ = ()

        def __format__(self, spec):
            return self.upper()

    assert type(check_path(Shouted("data"))) is str
    assert f"{check_path(Shouted('data'))}/a" == "data/a"


@pytest.mark.parametrize(
    "path", ["", ".", "./", "/a", "..", "a/../b", "a\0b", "a\ud800", "x/" * 2049]
)
def test_a_path_that_leaves_the_run_is_refused(path):
    with pytest.raises(UnsafePathError, match="is refused"):
        check_path(path)


NAMELESS = [("a\0b", "it contains a NUL character"), ("a\ud800", "it can't be a file name")]
"""What nothing on a disk can be called, and why."""


@pytest.mark.parametrize(("path", "reason"), NAMELESS)
@pytest.mark.parametrize(
    "use",
    [
        lambda run, path: run.track(path),
        lambda run, path: run.put("f", path),
        lambda run, path: run.put_many([("f", path)]),
        lambda run, path: run.restore(path),
    ],
    ids=["track", "put", "put_many", "restore"],
)
def test_a_path_that_nothing_can_have_is_refused_by_a_run(run, use, path, reason):
    with pytest.raises(UnsafePathError, match=f"is refused: {reason}"):
        use(run, path)


@pytest.mark.parametrize(("path", "reason"), NAMELESS)
def test_a_path_that_nothing_can_have_is_refused_by_a_store(store, tmp_path, path, reason):
    uses = [
        lambda: store.repair(path),
        lambda: store.adopt("sqlite://", moved={"/a": path}),
        lambda: FileRepository(Session(), "s", store=store, work_dir=path),
        lambda: ArtifactStore.open(path),
        lambda: ArtifactStore.open(index="sqlite://", blobs=path),
        lambda: ArtifactStore.open(index="sqlite://", blobs="s3://a/b", cache=path),
        lambda: recover(path),
    ]
    for use in uses:
        with pytest.raises(UnsafePathError, match=f"is refused: {reason}"):
            use()
    with pytest.raises(IndexUnavailableError, match=reason):
        ArtifactStore.open(index=f"sqlite:///{tmp_path}/{path}", blobs=tmp_path / "b")


@pytest.mark.parametrize("path", [b"a", 5, None])
def test_what_is_no_path_is_told_what_one_is(store, run, path):
    session = store.session(run.key.session)
    uses = [check_local, check_path, run.track, run.list_dir, session.producers]
    if path is not None:  # the run's own directory
        uses.append(run.restore)
    for use in uses:
        with pytest.raises(TypeError, match=r"a path is text or a pathlib path, not"):
            use(path)


def test_what_no_name_holds_finds_no_page_and_no_type(run):
    run.put("f", b"1")
    with pytest.raises(UnsafePathError):
        run.list_dir(after="\ud800")
    for given in ({"file_type": "\ud800"}, {"priority": "\ud800"}, {"file_type": "a\0b"}):
        with pytest.raises(InvalidNameError, match="undecodable"):
            run.files(**given)


def test_a_number_beyond_all_that_are_stored_is_that_of_nothing(store, run):
    huge = 10**5000
    run.put("f", b"1")
    for use, error in (
        (lambda: run.file("f", at=huge), UnknownSnapshotError),
        (lambda: run.file("f", version=huge), UnknownFileError),
        (lambda: run.put("f", b"2", expected_version=huge), VersionConflictError),
        (lambda: store.session(run.key.session).file(huge), UnknownFileIdError),
    ):
        with pytest.raises(error, match=str(2**63 - 1)):
            use()
    assert len(run.files(limit=huge)) == len(run.list_dir(limit=huge)) == 1
