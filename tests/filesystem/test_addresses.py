"""URLs of artifacts: every legal name can be written, and is read back."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.digest import Digest
from index.domain.names import check_id, check_path
from index.errors import InvalidNameError, UnsafePathError
from index.filesystem import CasFileSystem
from index.filesystem.addresses import Address

AWKWARD = "%?*[]@#:&=+ ~\\'\"<>|;,!{}()$^é漢\U0001f600\n\t"


def legal(check):
    def is_legal(name):
        try:
            return check(name) == name
        except (InvalidNameError, UnsafePathError):
            return False

    return is_legal


IDS = st.text(
    st.sampled_from(AWKWARD + string.ascii_letters + string.digits + ".-_"), min_size=1, max_size=9
).filter(legal(lambda name: check_id("run", name))) | st.sampled_from(["sha", "%40", "a@3", "v2"])
PATHS = st.text(
    st.sampled_from(AWKWARD + "ab/." + "\udc80\udcff") | st.characters(exclude_characters="\0"),
    min_size=1,
    max_size=30,
).filter(legal(check_path))
NUMBERS = st.none() | st.integers(0, 10**18 - 1)


@given(IDS, IDS, PATHS, NUMBERS, NUMBERS)
def test_every_legal_name_comes_back_from_its_url(session, run, path, snapshot, version):
    version = None if snapshot is not None else version
    address = Address(session, run, path, snapshot, version)
    assert Address.parse(str(address)) == address


@given(IDS, IDS, PATHS)
def test_a_url_has_no_character_that_means_something_to_fsspec(session, run, path):
    url = f"cas://{Address(session, run, path)}"
    assert not set("*?[") & set(url)
    assert "::" not in url
    name = CasFileSystem._strip_protocol(url)
    assert Address.parse(name) == Address(session, run, path)


@given(PATHS)
def test_what_has_no_meaning_may_be_written_plainly(path):
    plain = path.replace("%", "%25")
    assert Address.parse(f"s/r/{plain}").path == path


def test_a_url_ends_as_the_name_of_the_file():
    for address in (Address("s", "r", "a/b.parquet", 4), Address("s", "r", "a/b.parquet", None, 2)):
        assert str(address).endswith("/a/b.parquet")


def test_a_snapshot_and_a_version_stand_after_the_run():
    assert Address.parse("s/r@4/a") == Address("s", "r", "a", snapshot=4)
    assert Address.parse("s/r@v4/a") == Address("s", "r", "a", version=4)
    assert Address.parse("s/r@v.1/a") == Address("s", "r", "a", snapshot="v.1")
    assert str(Address.parse("s/r@best/a")) == "s/r@best/a"
    assert Address.parse("s/r%404/a") == Address("s", "r@4", "a")
    assert Address.parse("s@1/r/a@2") == Address("s@1", "r", "a@2")


def test_a_run_is_named_by_its_tag():
    assert Address.parse("s/@best/a") == Address("s", "@best", "a")
    assert Address.parse("s/%40best@v2/a") == Address("s", "@best", "a", version=2)
    assert str(Address.parse("s/@best@good/a")) == "s/@best@good/a"
    for text in ("s/@/a", "s/@1/a", "s/@v2/a", "s/@é/a", "s/@@best/a"):
        with pytest.raises(ValueError, match="has no tag after '@'; write @TAG for the run"):
            Address.parse(text)


def test_bytes_by_their_digest_are_told_from_a_session_of_that_name():
    digest = Digest.of(b"x")
    assert Address.parse(f"sha/{digest}") == Address(digest=digest)
    assert Address.parse(f"%73ha/{digest}") == Address("sha", str(digest))


@pytest.mark.parametrize(
    "text",
    [
        "s/r@/a",
        "s/r@é/a",
        "s/r@a b/a",
        "s/r@-1/a",
        "s/r@1@2/a",
        "s/r@%s/a" % 10**20,
    ],
)
def test_what_is_no_snapshot_is_refused_with_the_way_to_write_one(text):
    with pytest.raises(ValueError, match="write RUN@4 or RUN@TAG for a snapshot"):
        Address.parse(text)


def test_a_digest_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="digest"):
        Address.parse("sha/abc")
