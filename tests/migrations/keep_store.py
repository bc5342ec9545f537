"""Write the store that `test_old_formats.py` opens, with the code of this checkout.

    PYTHONPATH=.:tests/support python tests/migrations/keep_store.py

It goes to `tests/migrations/data/<revision of the schema>`, with `expected.json`: the files of each
run. Run it for a release that changes the schema or the format, and commit the result. Never
replace the store of an earlier release.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from old_formats import KEPT, files_of
from trees import write

from index import ArtifactStore
from index.db.schema import HEAD

LOG = b"step,amplitude\n" * 160_000
"""A large file of chunks that compress well."""


def fill(root, work):
    """Write the store; return the files of each run."""
    write(work, {"planning/plan.md": b"a plan\n", "data/log.txt": LOG, "empty": b""})
    write(work, {os.fsdecode(b"caf\xe9.txt"): b"coffee\n"})
    Path(work, "link").symlink_to("planning/plan.md")
    with ArtifactStore.open(root) as store:
        run = store.session("session-1").run("run-1")
        run.track(work, phase="planning", agent="planner", node_id="planning")
        store.back_up()
        Path(work, "empty").unlink()
        write(
            work, {"planning/plan.md": b"a plan, and control", "data/log.txt": LOG + b"the end\n"}
        )
        run.track(
            work, phase="control", agent="engineer", node_id="step_1", step_id="s1", event_id="e1"
        )
        run.put("reports/final.json", b'{"sum": 3}\n', agent="writer", meta={"reviewed": True})
        fork = run.fork("run-2", at=1)
        fork.put("planning/plan.md", b"another plan\n", agent="planner-2")
        run.rewind(1)
        store.session("session-2").run("run-1").put("secret.txt", b"a secret\n", agent="spy")
        gone = store.session("session-2").run("gone")
        gone.put("gone", b"of no use any more")
        gone.delete()
        return files_of(store)


def main():
    """Write the store and its expected content."""
    kept = KEPT / HEAD
    if kept.exists():
        sys.exit(f"{kept} is there already")
    with tempfile.TemporaryDirectory() as work:
        kept_files = fill(kept / "store", work)
    (kept / "store" / "tmp").rmdir()  # git has no empty directories
    expected = {"/".join(key): rows for key, rows in kept_files.items()}
    (kept / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
