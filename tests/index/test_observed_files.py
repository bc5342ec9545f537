"""What a scan found, packed and unpacked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.digest import Digest
from index.domain.names import MAX_ROW_ID
from index.domain.provenance import Provenance
from index.domain.run_state import KnownFile, Observed, ObservedFiles

KNOWN = KnownFile(
    None, 1, "a", 1, b"d" * 32, 0o644, 0, 1, 1, is_final_output=False, provenance=Provenance()
)

observed = st.builds(
    Observed,
    path=st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1),
    digest=st.binary(min_size=32, max_size=32).map(Digest),
    size=st.integers(0, MAX_ROW_ID),
    mode=st.integers(0, (1 << 32) - 1),
    mtime_ns=st.integers(~MAX_ROW_ID, MAX_ROW_ID),
    signature=st.none() | st.binary(min_size=40, max_size=40) | st.binary(min_size=1, max_size=200),
    trusted=st.booleans(),
    seen_by=st.just(0) | st.integers(0, 62).map(lambda names: 1 << names),
    base=st.none() | st.just(KNOWN),
)


@given(st.lists(observed, max_size=20, unique_by=lambda seen: seen.path))
def test_all_that_was_seen_of_a_file_comes_back_by_path(seen):
    files = ObservedFiles()
    for each in seen:
        files.append(each)
    files.sort()
    seen.sort(key=lambda each: each.path)
    assert list(files) == seen
    assert [type(each.digest) for each in files] == [Digest] * len(seen)
    assert [files[n] for n in range(-len(seen), len(seen))] == seen + seen
    assert list(files[1:3]) == seen[1:3]
    assert list(files.paths) == [each.path for each in seen]
    assert list(files.digests) == [each.digest for each in seen]
    assert [found[:4] for found in files.contents] == [
        (each.digest, each.size, each.mode, each.mtime_ns) for each in seen
    ]
    assert files.bases == {each.path: each.base for each in seen if each.base}


def test_there_is_nothing_after_the_last_file():
    with pytest.raises(IndexError):
        ObservedFiles()[0]
