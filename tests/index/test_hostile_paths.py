"""Whatever an index says, a restore writes only files and links, below its destination.

Paths, modes, times and link targets are forged. Directories of the destination are swapped for
links at every system call.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cas import BlobStore
from cas.backends.memory import MemoryBackend
from cas.catalog import MemoryCatalog
from cas.errors import CasError
from cas.store import open_settings
from index.db.column_types import decode_path, encode_path
from index.db.queries.restorable import RestorableFile
from index.domain.names import MAX_PATH_BYTES, check_path
from index.errors import ArtifactIndexError, RestoreFailedError, UnsafePathError
from index.reading import destination, new_files, staging, walker
from index.reading import restore as restore_module
from index.reading.restore import restore

PARTS = ["..", ".", "", "a", "d", "link", "\0", "\n", "\x1b[2J", "~", "x" * 256, "\udcff", "\udc2f",
         "\ud800", "…", "\\x2e\\x2e", "%2e%2e", "-rf", "CON", ".cas-0"]  # fmt: skip

paths = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=6).map("/".join),
    st.text(max_size=20),
    st.lists(st.sampled_from(PARTS), max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from([1, 40, 3000]).map(lambda times: "y/" * times + "z"),
)


@given(paths)
@example("x" * (MAX_PATH_BYTES + 1))
def test_a_path_that_is_taken_leads_below_any_root_and_has_one_spelling(text):
    try:
        clean = check_path(text)
    except UnsafePathError:
        return
    root = b"/somewhere/below"
    assert os.path.normpath(os.path.join(root, os.fsencode(clean))).startswith(root + b"/")
    assert os.path.normpath(clean) == clean
    assert not {"", ".", ".."} & set(clean.split("/"))
    assert "\0" not in clean
    assert len(os.fsencode(clean)) <= MAX_PATH_BYTES
    assert check_path(clean) == clean
    assert decode_path(encode_path(clean)) == clean


@given(st.lists(st.sampled_from(["\\x2e", "\\x2f", "\\x00", "\\\\", "..", "/", "a", "\\xff"])))
def test_no_text_in_the_index_is_read_as_a_path_that_leads_out(parts):
    with contextlib.suppress(UnsafePathError):
        clean = check_path(decode_path("".join(parts)))
        assert ".." not in os.fsencode(clean).split(b"/")
        assert not os.fsencode(clean).startswith(b"/")


class Blobs:
    """A blob store in memory, and the locations of its blobs."""

    def __init__(self):
        backend, self.catalog = MemoryBackend(), MemoryCatalog()
        self.store = BlobStore(backend, self.catalog, open_settings(backend, create=True))

    def put(self, *contents):
        with self.store.batch() as batch:
            digests = [batch.add(data) for data in contents]
            self.catalog.record(batch.finish())
        return digests

    def restore(self, versions, target, *, overwrite):
        places = self.catalog.placements
        return restore(versions, places, self.store, str(target), overwrite=overwrite)


CONTENTS = [b"", b"content", b"/etc/passwd", b"../../outside", b"..", b"link", b"a\0b", b"t" * 5000]

possible = st.sampled_from(["a", "b", "d/a", "d/b/c", "link/x", "d", "link", "link/d/a", "a/b"])

versions = st.builds(
    lambda path, content, mode, mtime_ns, size: (path, content, size, mode, mtime_ns),
    st.one_of(possible, possible, paths),
    st.sampled_from(CONTENTS),
    st.one_of(
        st.sampled_from([stat.S_IFREG | 0o7777, stat.S_IFLNK | 0o777, stat.S_IFREG | 0o600]),
        st.sampled_from([stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR]),
        st.integers(-(2**31), 2**31 - 1),
    ),
    st.one_of(st.just(10**18), st.sampled_from([-(2**63), 2**63 - 1, 0, -1])),
    st.sampled_from([0, 5, 2**62]),
)


def everything(folder):
    """Return what is below a directory, by path: type, permissions and content or target."""
    found = {}
    for where, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(where, name)
            status = os.lstat(path)
            content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
            if stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            found[os.path.relpath(path, os.fsencode(folder))] = (status.st_mode, content)
    return found


FILE = (7, stat.S_IFREG | 0o600, 10**18)


@given(st.lists(versions, min_size=1, max_size=5), st.booleans())
@example([("link/x", b"content", *FILE)], False)  # noqa: FBT003 - whether to overwrite
@example([("link", b"content", *FILE), ("link/a", b"content", *FILE)], True)  # noqa: FBT003
@example([("l", b"../../outside", 0, stat.S_IFLNK, 0), ("l/x", b"content", *FILE)], True)  # noqa: FBT003
@example([("no-mode", b"", 0, -1, 0)], False)  # noqa: FBT003
@example([("dev", b"", 0, stat.S_IFCHR | 0o7777, 0)], False)  # noqa: FBT003
def test_made_up_versions_write_files_and_links_below_the_destination_only(made_up, overwrite):
    blobs = Blobs()
    digests = dict(zip(CONTENTS, blobs.put(*CONTENTS), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        outside, target = Path(folder, "outside"), Path(folder, "in", "target")
        for place in (outside, target / "d"):
            place.mkdir(parents=True)
            (place / "a").write_bytes(b"as it was")
        (target / "link").symlink_to(outside)
        before = everything(folder)
        rows = [RestorableFile(path, digests[data], *rest) for path, data, *rest in made_up]
        with contextlib.suppress(ArtifactIndexError, CasError):
            blobs.restore(rows, target, overwrite=overwrite)
        after = everything(folder)
        below = os.fsencode(os.path.join("in", "target")) + b"/"
        assert {path: seen for path, seen in after.items() if not path.startswith(below)} == {
            path: seen for path, seen in before.items() if not path.startswith(below)
        }
        for path, (mode, content) in after.items():
            if path in before:
                continue
            assert stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR), path
            assert not stat.S_IMODE(mode) & 0o7000, path
            assert stat.S_ISDIR(mode) or content in CONTENTS, path
            assert b".cas-" not in path or any(".cas-" in row.path for row in rows), path


CALLS = ["open", "mkdir", "link", "rename", "symlink", "unlink", "stat", "utime", "fchmod", "write"]


class Swapper:
    """Replaces `os`, and swaps a directory for a link to the outside at the n-th call."""

    def __init__(self, number, directory, outside):
        self._left = number
        self._directory = directory
        self._outside = outside
        self.has_swapped = False

    def __getattr__(self, name):
        call = getattr(os, name)
        if name not in CALLS:
            return call

        def counted(*arguments, **options):
            self._left -= 1
            if self._left < 0 and not self.has_swapped and os.path.isdir(self._directory):
                self.has_swapped = True
                os.rename(self._directory, f"{self._directory}-moved")
                os.symlink(self._outside, self._directory)
            return call(*arguments, **options)

        return counted


@pytest.mark.parametrize("swapped", ["d", "d/e", "."])
def test_a_directory_swapped_for_a_link_at_any_call_leads_nowhere(tmp_path, monkeypatch, swapped):
    blobs = Blobs()
    contents = [b"one", b"two", b"three"]
    mode = stat.S_IFREG | 0o644
    rows = [
        RestorableFile(path, digest, len(data), mode, 10**18)
        for path, data, digest in zip(
            ["d/e/f", "d/g", "d/e/h"], contents, blobs.put(*contents), strict=True
        )
    ]
    swaps = 0
    for number in range(1000):
        outside, target = tmp_path / f"outside-{number}", tmp_path / f"target-{number}"
        for place in (outside, outside / "e", target / "d" / "e"):
            place.mkdir(parents=True)
            (place / "f").write_bytes(b"as it was")
        before = everything(outside)
        swapper = Swapper(number, str(target / swapped).rstrip("/."), str(outside))
        with monkeypatch.context() as patched:
            for module in (restore_module, destination, new_files, staging, walker):
                patched.setattr(module, "os", swapper)
            with contextlib.suppress(ArtifactIndexError):
                blobs.restore(rows, target, overwrite=True)
        swaps += swapper.has_swapped
        if swapped == "." and number == 0:
            continue  # the caller chooses the destination; it may be a link until it is open
        assert everything(outside) == before, number
        if not swapper.has_swapped:
            break
    assert swaps > 15


@pytest.mark.parametrize("mtime_ns", [-(2**63), 2**63 - 1])
def test_a_time_that_no_file_can_have_is_a_failed_restore(tmp_path, mtime_ns):
    blobs = Blobs()
    (digest,) = blobs.put(b"content")
    version = RestorableFile("a", digest, 7, stat.S_IFREG | 0o644, mtime_ns)
    try:
        blobs.restore([version], tmp_path / "out", overwrite=False)
    except RestoreFailedError:
        assert everything(tmp_path / "out") == {}
    else:
        assert (tmp_path / "out" / "a").read_bytes() == b"content"
