"""A run with everything that an archive may stumble over, and what is known of any run."""

from __future__ import annotations

import os
import random

from trees import write

__all__ = ["known_of", "live"]

LARGE = random.Random(7).randbytes(3 << 20)


def live(run, work):
    """Record a run of five snapshots, in a work directory."""
    write(
        work,
        {
            "a.txt": b"one", "empty": b"", "sub dir/100%.csv": b"x", "sub dir/ä☃": b"u",
            "x\ny": b"newline", " space ": b"s", "run.sh": b"#!/bin/sh\n", "large": LARGE,
        },
    )  # fmt: skip
    (work / "run.sh").chmod(0o755)
    (work / "sub dir" / "link").symlink_to("../a.txt")
    (work / "out").symlink_to("../../etc")
    with open(os.fsencode(work) + b"/bad\xff", "wb") as opened:
        opened.write(b"no UTF-8")
    run.track(work, phase="planning", agent="planner", node_id="n 1", step_id="s", event_id="e")
    write(work, {"a.txt": b"two", "large": LARGE + b"more"})
    (work / "empty").unlink()
    run.track(work, agent="engineer", code_hash="c", notes={"rmse": 0.5})
    run.rewind(1)
    run.put("big", LARGE * 2, meta={"rows": 3}, is_final_output=True)
    run.annotate("a.txt", meta={"said": "later"})
    run.tag("best", at=2, agent="judge")
    run.tag("best", at=3)
    run.tag("file", path="big")
    run.remove("x\ny", agent="cleaner")
    run.set_status("finished", reason="it is done")


def known_of(run):
    """Return all that is known of a run, but for its name, ids of rows, and its work directory."""
    summary = run.summary().to_dict()
    snapshots = [(each, *each.added, *each.changed, *each.removed) for each in run.snapshots()]
    tags = [tag for each in run.tags() for tag in run.tag_history(each.name)]
    listed = [summary, *(each.to_dict() for group in snapshots for each in group)]
    listed += [each.to_dict() for each in tags]
    own = {"id", "session", "run", "added", "changed", "removed", "last_activity", "work_dir"}
    return [{key: value for key, value in each.items() if key not in own} for each in listed]
