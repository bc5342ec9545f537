"""A run as an engine records it, and names that an attacker would give to files."""

from __future__ import annotations

import shutil
from pathlib import Path

from cas.digest import Digest
from index import Reference, provenance

__all__ = ["HOSTILE", "HOSTILE_URI", "PNG", "WORKDIR", "fill"]

WORKDIR = Path(__file__).parents[2] / "examples" / "workdir"

HOSTILE = (
    "<script>alert(1)<|script>.txt",
    "\u202egpj.exe",
    "a\"b' onload=alert(1) .csv",
    "line\nbreak.txt",
    "\x1b[31mred",
    "not-utf-8-\udcff.txt",
    "-x $(touch pwned).txt",
    "#?&%2F.txt",
    "{{ 7 * 7 }}.md",
)

HOSTILE_URI = "javascript://x/%0aalert(1)//<b>&amp;"

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f0005000201e2215d2d0000000049454e44ae426082"
)


def fill(store, work):
    """Record a workflow as an engine does, a fork of it, names of an attacker, another session."""
    session = store.session("session-1")
    run = session.run("run-1")
    for folder, phase, agent, inputs in (
        ("planning", "planning", "planner", []),
        ("codebase", "control", "engineer", ["planning/plan.md"]),
        ("data", "control", "engineer", ["codebase/step_1.py"]),
        ("plots", "control", "plotter", ["data/samples.csv", "data/result.csv"]),
        ("reports", "control", "researcher", ["plots/fit.svg", "data/result.csv"]),
    ):
        shutil.copytree(WORKDIR / folder, work / folder)
        labels = {"phase": phase, "agent": agent, "node_id": folder, "step_id": f"id-{folder}"}
        run.track(work, inputs=inputs, **labels)
    table = work / "data" / "samples.csv"
    table.write_text("".join(f"{line},1\n" for line in table.read_text().splitlines()))
    (work / "planning" / "plan.md").write_text("# Another plan\n")
    (work / "reports" / "report.md").rename(work / "reports" / "final.md")
    (work / "plots" / "fit.svg").unlink()
    (work / "plots" / "dot.png").write_bytes(PNG)
    run.track(work, phase="control", agent="engineer", node_id="fix")
    run.put("plots/dot.png", PNG + b"more", agent="plotter", is_final_output=True, meta={"dpi": 90})
    run.put("copies/plan.md", b"# Another plan\n", agent="planner")
    run.record(["python", "-c", "print(1)"], work)
    run.tag("best", at=3)
    run.set_status("failed", reason="the fit did not converge")
    branch = run.fork("run-2", at=3)
    gone = session.run("gone").put("gone-<b>.txt", b"soon gone\n")
    with provenance(agent="<b>agent</b>", phase="\u202ephase"):
        outside = Reference(HOSTILE_URI, digest=Digest.of(b"elsewhere"))
        branch.use(run.file("data/result.csv"), gone, outside)
        branch.put_many([(f"names/{name}", b"hostile\n") for name in HOSTILE])
        branch.put(f"{'deep/' * 40}{'long' * 50}.txt", b"deep\n")
    branch.describe(parent="run-1", notes={"<b>note</b>": HOSTILE[0], "rate": 0.1})
    session.tag_run("best", "run-1")
    session.run("gone").delete()
    store.session("session-2").run("run-1").put("secret.txt", b"theirs\n")
    store.session("session-2").run("other").put("-x.txt", b"once\n")
    store.session("session-2").run("other").put("-x.txt", b"twice\n")
