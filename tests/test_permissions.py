"""Nothing that a store keeps on a local disk is open to more people than the umask says."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from trees import write

ROOT = Path(__file__).parents[1]

CODE = """
    import os, stat, sys
    from pathlib import Path
    from index import ArtifactStore

    umask, root = int(sys.argv[1], 8), Path(sys.argv[2])
    os.umask(umask)
    seen = {}

    def look():
        for folder, folders, files in os.walk(root / "made"):
            for path in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
                seen[os.path.relpath(path, root)] = os.lstat(path).st_mode

    def progress(_):
        look()  # while there is something in tmp/

    def use(store):
        run = store.session("s").run("r")
        run.track(root / "work", progress=progress)
        look()  # with the files that SQLite has while it is open
        run.put("more", os.urandom(100_000))
        for version in run.files():
            run.read_bytes(version.path)
        look()

    (root / "made").mkdir(mode=0o777)
    with ArtifactStore.open(root / "made" / "store") as store:
        use(store)
    remote = {"index": f"sqlite:///{root}/made/index.db", "blobs": "memory://permissions"}
    with ArtifactStore.open(**remote, cache=root / "made" / "cache") as store:
        use(store)
        with ArtifactStore.open(root / "made" / "copy") as copy:
            store.sync_to(copy)
    look()
    for path, mode in sorted(seen.items()):
        print(oct(stat.S_IMODE(mode)), "d" if stat.S_ISDIR(mode) else "f", path)
"""


@pytest.mark.parametrize("umask", ["077", "022", "002"])
def test_files_and_directories_of_a_store_are_as_the_umask_says(tmp_path, umask):
    write(tmp_path / "work", {f"d{n}/f": os.urandom(300_000) for n in range(12)})
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), umask, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.stderr == ""
    found = [line.split(" ", 2) for line in done.stdout.splitlines()]
    for mode, kind, path in found:
        bits = int(mode, 8)
        assert bits & int(umask, 8) == 0, (mode, path)
        assert kind == "d" or not bits & 0o7111, (mode, path)
        assert not bits & (stat.S_ISUID | stat.S_ISGID), (mode, path)
        assert bits & 0o400, (mode, path)
        if path.startswith("made/store/") and kind == "f":
            assert bits == 0o666 & ~int(umask, 8), (mode, path)  # a group may share it
    paths = {path for _, _, path in found}
    assert {"made/store/index.db", "made/store/index.db-wal", "made/store/cas.json"} <= paths
    assert {"made/store/tmp", "made/store/packs", "made/cache", "made/copy/index.db"} <= paths
    assert any(path.endswith(".pack") for path in paths)
    (cache,) = (mode for mode, _, path in found if path == "made/cache")
    assert cache == "0o700", "what is cached may be anybody's"
