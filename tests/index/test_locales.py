"""File names in processes whose locale decodes them in different ways."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from trees import read, write

LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "UTF-8": {"PYTHONUTF8": "1"},
}

ACROSS = """
import json, os, sys
from index import ArtifactStore
root, work, out = sys.argv[1:]
with ArtifactStore.open(root) as store:
    run = store.session("s").run("r")
    snapshot = run.track(work)
    run.restore(out)
    again = run.restore(out)
    print(json.dumps({
        "encoding": sys.getfilesystemencoding(),
        "paths": sorted(version.path for version in run.files()),
        "changes": [len(snapshot.added), len(snapshot.removed), len(snapshot.changed)],
        "restored": [again.written, again.unchanged],
        "read": run.read_bytes("d\\u00e9/\\u00e9").decode(),
    }))
"""


def test_a_name_is_one_path_in_all_of_them(store_root, work, tmp_path):
    write(work, {"d\u00e9/\u00e9": b"1", "plain": b"2"})
    (work / "lien").symlink_to("d\u00e9")
    odd = os.path.join(os.fsencode(work), b"odd\xff")
    with open(odd, "wb"):
        pass
    told = {}
    for name, variables in LOCALES.items():
        out = tmp_path / name
        command = [sys.executable, "-c", ACROSS, store_root, work, out]
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, env=os.environ | variables
        )
        assert done.stderr == ""
        told[name] = json.loads(done.stdout)
        assert read(out) == read(work)
        assert os.readlink(out / "lien") == "d\u00e9"
    assert told["C"].pop("encoding") != told["UTF-8"].pop("encoding")
    assert told["C"].pop("changes") == [4, 0, 0]
    assert told["UTF-8"].pop("changes") == [0, 0, 0]
    assert told["C"] == told["UTF-8"]
    assert told["C"]["paths"] == ["d\u00e9/\u00e9", "lien", "odd\udcff", "plain"]
    assert told["C"]["restored"] == [0, 4]


def test_the_command_takes_and_prints_names_in_utf_8(store_root, work):
    write(work, {"\u00e9": b"1"})
    start = "from index.cli import main; main()"
    words = [sys.executable, "-c", start, "--store", str(store_root)]
    outputs = [
        subprocess.run(
            [*words, *arguments], capture_output=True, check=True, env=os.environ | LOCALES["C"]
        ).stdout
        for arguments in (["track", work, "--run", "r"], ["ls"], ["cat", "\u00e9"])
    ]
    assert "\u00e9".encode() in outputs[1]
    assert outputs[2] == b"1"
