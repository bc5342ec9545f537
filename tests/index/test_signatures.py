from __future__ import annotations

import struct
import time
from types import SimpleNamespace

import pytest
from trees import write

from index.domain.run_state import is_storable, signature_of


def status(size=2**62, mtime_ns=-1, ctime_ns=2**60, inode=2**64 - 1, device=2**63):
    return SimpleNamespace(
        st_size=size, st_mtime_ns=mtime_ns, st_ctime_ns=ctime_ns, st_ino=inode, st_dev=device
    )


def test_a_signature_keeps_all_64_bits_of_inode_and_device():
    packed = signature_of(status())
    assert is_storable(packed)
    assert struct.unpack("<qqqQQ", packed) == (2**62, -1, 2**60, 2**64 - 1, 2**63)


@pytest.mark.parametrize("name", ["size", "mtime_ns", "ctime_ns", "inode", "device"])
@pytest.mark.parametrize("time", [0, 1 << 63, 1 << 70, -(1 << 70)])
def test_signatures_are_equal_just_if_all_of_their_parts_are(name, time):
    parts = {"size": 1, "mtime_ns": time, "ctime_ns": 2, "inode": 3, "device": 4}
    signature = signature_of(status(**parts))
    assert signature == signature_of(status(**parts))
    assert signature != signature_of(status(**{**parts, name: parts[name] + 1}))
    assert is_storable(signature) == (time == 0)


def test_a_file_is_signed_once_after_it_is_read_or_if_it_is_unchanged(run, work, monkeypatch):
    write(work, {f"{folder}/f{n}": b"%d" % n for folder in "ab" for n in range(10)})
    present = time.time_ns
    monkeypatch.setattr("index.commit.track.time.time_ns", lambda: present() + 3600 * 10**9)
    signed = []
    for module in ("ingest", "scanner"):
        monkeypatch.setattr(
            f"index.scan.{module}.signature_of",
            lambda status: signed.append(status) or signature_of(status),
        )
    run.track(work)
    assert len(signed) == 20
    signed.clear()
    assert run.track(work).unchanged == 20
    assert len(signed) == 20
