"""The cache against a dict: whatever happens to its directory, it returns right bytes or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cached import kept, left_half_written, size_on_disk
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from machines import run_machine

from cas.cache.cache import PackCache
from cas.digest import Digest

PACKS = [Digest.of(b"%d" % number) for number in range(3)]
BYTES = {pack: Digest.of(pack) * 1_500 for pack in PACKS}
"""48,000 bytes of each pack."""
LIMIT = 100_000
STARTS = st.integers(0, 47_000)
SIZES = st.sampled_from([0, 1, 100, 5_000, 20_000, 48_000])
DAMAGE = st.sampled_from(["flipped", "truncated", "emptied", "longer", "deleted"])

WHICH = st.integers(0, 99)
"""One of the files that are there. Which these are may differ between two runs: of two files that
were used within a tick of the clock, either is evicted."""


class CacheMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp()) / "cache"
        self.kept = set()
        """Parts that were kept whole and not damaged later; some may have been evicted."""
        self.damaged = set()
        """Files of the right size with wrong bytes."""

    @initialize()
    def open(self):
        self.caches = [PackCache(self.root, limit=LIMIT), PackCache(self.root, limit=LIMIT)]

    @rule(number=st.integers(0, 1))
    def reopen(self, number):
        self.caches[number] = PackCache(self.root, limit=LIMIT)

    @rule(number=st.integers(0, 1), pack=st.sampled_from(PACKS), start=STARTS, size=SIZES)
    def keep(self, number, pack, start, size):
        data = BYTES[pack][start : start + size]
        with ExitStack() as stack:
            # Held open, because a new file could get the inode number of a removed one.
            held = {path: stack.enter_context(path.open("rb")) for path in kept(self.root)}
            there = {path: os.fstat(file.fileno()).st_ino for path, file in held.items()}
            self.caches[number].keep(pack, start, data)
            self.look_at_kept(pack, start, data, there)

    def look_at_kept(self, pack, start, data, there):
        bounds = (pack, start, start + len(data))
        if data:
            path = self.path(*bounds)
            assert path.read_bytes() == data
            assert path.stat().st_ino != there.get(path)
            self.kept.add(bounds)
            self.damaged.discard(bounds)

    @rule(number=st.integers(0, 1), pack=st.sampled_from(PACKS), start=STARTS, size=SIZES)
    def read(self, number, pack, start, size):
        wanted = BYTES[pack][start : start + size]
        cache = self.caches[number]
        extent = cache.extents(pack).find(start, len(wanted))
        if extent is None:
            # Another cache added it within a tick of the filesystem's clock; a new one sees it.
            anew = PackCache(self.root, limit=LIMIT).extents(pack).find(start, len(wanted))
            assert anew is not None or not self.is_covered(pack, start, start + len(wanted))
            return
        found = cache.read(extent, start, start + len(wanted))
        if found is not None and tuple(extent) not in self.damaged:
            assert found == wanted
        elif found != wanted:
            cache.forget(extent)
            assert not self.path(*extent).exists()
            self.kept.discard(tuple(extent))
            self.damaged.discard(tuple(extent))

    @rule(which=WHICH, damage=DAMAGE)
    def damage(self, which, damage):
        files = kept(self.root)
        if not files:
            return
        path = files[which % len(files)]
        bounds = self.bounds(path)
        data = path.read_bytes()
        if damage == "deleted":
            path.unlink()
        elif damage == "flipped":
            path.write_bytes(bytes(byte ^ 1 for byte in data))
            self.damaged.add(bounds)
        else:
            path.write_bytes(
                {"truncated": data[: len(data) // 2], "emptied": b"", "longer": data + b"x"}[damage]
            )
        self.kept.discard(bounds)

    @rule()
    def delete_all(self):
        shutil.rmtree(self.root)
        self.kept.clear()
        self.damaged.clear()
        self.root.mkdir()

    @rule(which=WHICH)
    def use_long_ago(self, which):
        if files := kept(self.root):
            os.utime(files[which % len(files)], (1, 1))

    @invariant()
    def the_limit_is_kept(self):
        if self.root.exists() and (self.root / "runcas-v1").exists():
            assert size_on_disk(self.root) <= LIMIT + 48_000 + 4_096
            assert left_half_written(self.root) == []

    def is_covered(self, pack, start, stop):
        return any(
            kept_pack == pack
            and low <= start
            and stop <= high
            and self.path(pack, low, high).exists()
            for kept_pack, low, high in self.kept
        )

    def path(self, pack, start, stop):
        name = str(pack)
        return self.root / "runcas-v1" / "packs" / name[:2] / name / f"{start}-{stop}"

    def bounds(self, path):
        start, _, stop = path.name.partition("-")
        return Digest.parse(path.parent.name), int(start), int(stop)

    def teardown(self):
        shutil.rmtree(self.root.parent)


def test_the_cache_does_what_the_model_does():
    run_machine(CacheMachine, steps=50)
