"""Run a workflow of ten steps as an engine does, from the first plan to deleting its session.

    python examples/ten_steps.py [DIRECTORY]

It prints what happens and checks it. An AssertionError means that the library has a fault.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from cas.digest import Digest
from index import ArtifactStore, DAGTracker, FilesUpdated, provenance
from index.errors import UnknownSessionError

AGENTS = ("engineer", "researcher", "plotter")
TOP_DIRECTORIES = ("planning", "codebase", "data", "plots", "chats", "cost", "reports")


def write(root: Path, path: str, content: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)


def print_update(update: FilesUpdated) -> None:
    print(
        f"  event: node {update.node_id}, snapshot {update.snapshot}:"
        f" +{len(update.added)} ~{len(update.changed)} -{len(update.removed)}"
    )


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def write_step(work: Path, step: int, agent: str) -> None:
    write(work, f"chats/step_{step}.json", f'{{"step": {step}, "agent": "{agent}"}}\n')
    write(work, f"cost/step_{step}.json", f'{{"usd": 0.{step:02}}}\n')
    write(work, "codebase/model.py", f"VERSION = {step // 3}\n")  # rewritten every third step
    write(work, "data/table.csv", "".join(f"{n},{n * n}\n" for n in range(step * 100)))
    if agent == "plotter":
        write(work, f"plots/figure_{step}.svg", f"<svg><!-- {step} --></svg>\n")


async def run_steps(tracker: DAGTracker, work: Path) -> None:
    write(work, "planning/plan.md", "# Ten steps\n")
    await tracker.track_files_in_work_dir_async(work, "planning", None, "planner", "planning")
    for step in range(1, 11):
        agent, node = AGENTS[step % 3], f"step_{step}"
        print(f"step {step}, {agent}")
        write_step(work, step, agent)
        if step == 5:
            (work / "plots" / "figure_2.svg").unlink()
            print("  plots/figure_2.svg deleted")
        if step == 6:
            (work / "chats" / "step_1.json").rename(work / "chats" / "first.json")
            print("  chats/step_1.json renamed to chats/first.json")
        if step == 8:
            write(work, "reports/late.md", "written after step 7 was done\n")
            print("  reports/late.md written late, by step 7")
        # First from the status update, which does not know the agent; then from a worker that does.
        await tracker.track_files_in_work_dir_async(work, node)
        await asyncio.to_thread(
            tracker.track_files_in_work_dir, work, node, f"id-{step}", agent, "control"
        )


def track_twice_at_once(tracker: DAGTracker, work: Path) -> None:
    for number in range(40):
        write(work, f"data/part_{number}.csv", f"{number}\n")
    threads = [
        threading.Thread(target=tracker.track_files_in_work_dir, args=(work, "final"))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts = tracker.run.files(prefix="data/part_")
    assert len(parts) == 40
    assert {version.version for version in parts} == {1}
    print("two threads tracked at once: 40 new files, one version each")


def main(base: Path) -> None:
    work = base / "work"
    work.mkdir(parents=True)
    with ArtifactStore.open(base / "store") as store:
        session = store.session("task-1")
        tracker = DAGTracker(
            store,
            "task-1",
            "run-1",
            scope=TOP_DIRECTORIES,
            files_updated=print_update,
            raise_errors=True,
        )
        with provenance(agent="user"):
            tracker.run.put("upload.txt", b"uploaded by the user, outside the scope\n")
        asyncio.run(run_steps(tracker, work))
        track_twice_at_once(tracker, work)
        run = tracker.run
        print(f"files by type: {run.stats().files_by_type}")
        print(f"files by agent: {run.stats().files_by_agent}")
        assert {**files_of(work), "upload.txt": run.read_bytes("upload.txt")} == {
            version.path: run.read_bytes(version.path) for version in run.files()
        }

        last_of_step_3 = max(
            snapshot.number
            for snapshot in run.snapshots()
            if snapshot.provenance.node_id == "step_3"
        )
        branch = run.fork("run-1-branch", at=last_of_step_3)
        with provenance(node_id="step_4", agent="engineer", phase="control"):
            branch.put("codebase/model.py", b"VERSION = 'another way'\n")
        diff = run.diff(branch)
        print(
            f"branch from step 3 (snapshot {last_of_step_3}), compared with the run:"
            f" +{len(diff.added)} -{len(diff.removed)} ~{len(diff.changed)} ={len(diff.identical)}"
        )
        for agent, part in run.diff(last_of_step_3).by("agent").items():
            print(f"  changed since then by {agent}: +{len(part.added)} ~{len(part.changed)}")

        second = store.session("task-2").run("run-1")
        second.put("planning/plan.md", b"another task's plan\n", agent="other")
        second.put("data/shared.md", b"# Ten steps\n", agent="other")
        plan = Digest.of(b"# Ten steps\n")
        print("who made the plan:", [(v.run, v.agent, v.node_id) for v in session.producers(plan)])
        assert {version.session for version in session.producers(plan)} == {"task-1"}

        kept = files_of(work)
        shutil.rmtree(work)
        print("the work directory is lost")
        result = run.restore(work)
        assert files_of(work) == {**kept, "upload.txt": run.read_bytes("upload.txt")}
        print(f"restored {result.written} files, {result.bytes_written} bytes, identical")
        outcome = tracker.track_files_in_work_dir(work, "final")
        assert outcome.update is None
        print("a scan after the restore finds nothing new")
        run.restore(base / "at_step_3", at=last_of_step_3)
        print(f"restored the state after step 3: {len(files_of(base / 'at_step_3'))} files")

        receipt = session.delete()
        print(
            f"session task-1 deleted: runs {', '.join(receipt.runs)}; {receipt.versions} versions;"
            f" {len(receipt.released)} contents, {receipt.released_bytes} bytes released"
        )
        try:
            session.runs()
        except UnknownSessionError as error:
            print(f"  {error}")
        assert second.read_bytes("planning/plan.md") == b"another task's plan\n"
        assert second.read_bytes("data/shared.md") == b"# Ten steps\n"
        print("session task-2 is whole")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
