"""Large files are written in blocks past the page cache, and are right where that is refused."""

import errno
import os

import pytest

from cas.backends.direct_writes import BlockWriter
from cas.backends.posix import PosixCalls

BLOCK = 2 << 20


class Calls(PosixCalls):
    """Records the calls, and can refuse or shorten writes."""

    def __init__(self, *, no_flag=False, no_direct_write=False, cut=None):
        self.writes = []
        self.direct = False
        self._no_flag = no_flag
        self._no_direct_write = no_direct_write
        self._cut = cut

    def set_direct(self, fd, *, direct):
        if self._no_flag and direct:
            raise OSError(errno.EINVAL, "no direct writes here")
        self.direct = direct

    def write(self, fd, data):
        if self.direct and (self._no_direct_write or len(data) % 4096):
            raise OSError(errno.EINVAL, "not like this")
        if self._cut and len(data) > self._cut:
            data = data[: self._cut]
        self.writes.append((self.direct, len(data)))
        return os.write(fd, data)


def written(tmp_path, calls, pieces):
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        writer = BlockWriter(fd, calls)
        for piece in pieces:
            writer.write(piece)
        writer.finish()
    finally:
        os.close(fd)
    return (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 12_345])
@pytest.mark.parametrize(
    "refusal",
    [
        {},
        {"no_flag": True},
        {"no_direct_write": True},
        {"cut": 1 << 20},
        {"cut": 1_000_001},
    ],
)
def test_whatever_is_refused_or_cut_short_the_bytes_are_right(tmp_path, size, refusal):
    data = os.urandom(size)
    pieces = [data[start : start + 700_000] for start in range(0, size, 700_000)]
    assert written(tmp_path, Calls(**refusal), pieces) == data


def test_one_piece_may_be_larger_than_a_block(tmp_path):
    data = os.urandom(3 * BLOCK + 5)
    assert written(tmp_path, Calls(), [data]) == data


def test_whole_blocks_are_written_direct_and_the_rest_is_not(tmp_path):
    calls = Calls()
    written(tmp_path, calls, [bytes(2 * BLOCK + 7)])
    assert calls.writes == [(True, BLOCK), (True, BLOCK), (False, 7)]


def test_a_small_file_is_written_once_through_the_cache(tmp_path):
    calls = Calls()
    written(tmp_path, calls, [b"one", b"two"])
    assert calls.writes == [(False, 6)]


def test_the_real_calls_turn_it_on_and_off_without_losing_a_byte(tmp_path):
    data = os.urandom(2 * BLOCK + 999)
    assert written(tmp_path, PosixCalls(), [data]) == data


def test_other_errors_of_a_write_reach_the_caller(tmp_path):
    class Full(Calls):
        def write(self, fd, data):
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        written(tmp_path, Full(), [bytes(BLOCK)])
