"""Runs to export."""

from __future__ import annotations

import os
from pathlib import Path

from trees import write

from cas.digest import Digest
from index import Reference

HOSTILE = {
    "in put's (1),[x]=;.csv": b"1,2\n",
    "<script>alert(1)</script>": b"<script>",
    'q"uote\\back': b"",
    "data/dot.": b"dot",
    "data/täble ✓.csv": b"a,b\n",
    "new\nline": b"n",
    "http:/x#y?z=%20": b"url",
    "ro-crate-metadata.json": b"{}",
    "bad%FF.txt": b"literal",
    "bad\udcff.txt": b"not UTF-8",
}
"""Names that are hard to write in a document, with contents."""

OUTSIDE = Reference("s3://bucket/raw file.csv", Digest.of(b"raw"), 3)


def make_hostile_run(session, folder):
    """Record three steps: one of them was attempted twice, and read what another run made."""
    earlier, run = session.run("earlier"), session.run("run 1@<b>")
    earlier.put("raw/täble.csv", b"a,b\n1,2\n", agent="importer")
    write(folder, HOSTILE)
    os.symlink("data/dot.", Path(folder, "link"))
    os.symlink("../../etc/passwd", Path(folder, "out"))
    run.track(folder)
    reads = [earlier.file("raw/täble.csv"), OUTSIDE, "data/dot."]
    run.use(*reads, node_id="plan", agent="planner <A>")
    write(folder, {"data/result.csv": b"1"})
    run.track(folder, phase="planning", agent="planner <A>", node_id="plan")
    for event in ("first", "second"):
        ids = {"node_id": "step_1", "step_id": "fit.", "event_id": event}
        run.use("data/result.csv", agent="engineer", **ids)
        write(folder, {"data/result.csv": event.encode(), f"plots/{event}.svg": b"<svg/>"})
        run.track(folder, phase="control", agent="engineer", code_hash="c0de", **ids)
    return run
