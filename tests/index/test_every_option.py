"""Every option of every command does something: each case fails if the option is left out.

A case has a command line, an option, what the option makes appear (or disappear, after a ``!``) and
the exit code. What begins with ``record:``, ``snapshot:``, ``tag:`` or ``disk:`` is looked up in
what is recorded and in the files (and so is ``input:``), the rest in what is printed.
"""

from __future__ import annotations

import io
import json
import os
import random
import shlex
import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from sources import commit, unpack
from trees import packs_in, write

from cas.digest import Digest
from index import ArtifactStore, Reference
from index.api.run import Run
from index.cli.commands import cas as group
from index.cli.options import LABELS
from index.export import Pseudonyms

LARGE = random.Random(5).randbytes(1 << 17)
PLAN = b"# A plan\n"
ORPHAN = f"packs/ab/{'ab' * 32}.pack"


class Case(NamedTuple):
    line: str
    """The command line; the option stands in the place of ``{}``, or else at the end."""
    option: str
    expected: str
    code: int = 0
    prepare: object = None

    def __str__(self):
        return f"{self.line} {self.option}"


def damage(store):
    """Lose all bytes."""
    for pack in packs_in(store):
        pack.unlink()


def refer(store):
    with ArtifactStore.open(store) as opened:
        reference = Reference("file:///nowhere", digest=Digest.of(b""))
        opened.session("default").run("run-7").use(reference)


def delete_run(store):
    with ArtifactStore.open(store) as opened:
        opened.session("default").run("run-8").delete()


def add_orphan(store):
    path = store / ORPHAN
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"?")


def back_up(store):
    with ArtifactStore.open(store) as opened:
        opened.back_up()


def tag_run(store):
    with ArtifactStore.open(store) as opened:
        opened.session("default").tag_run("top", "run-8")


def link_runs(store):
    with ArtifactStore.open(store) as opened:
        opened.session("default").run("run-7").describe(parent="run-8")


def changed(change):
    """Return a function that changes the run run-7 of a store, without its tag."""

    def prepare(store):
        with ArtifactStore.open(store) as opened:
            run = opened.session("default").run("run-7")
            run.untag("best")
            change(run)

    return prepare


untagged = changed(lambda run: None)


def held_elsewhere(store):
    with ArtifactStore.open(store) as opened:
        opened.session("task-12").run("run-7").hold("case 7")


def released(run):
    run.hold("case 7")
    run.release_hold("closed")


SCANS = {
    "--session s2": "{new}: s2/run-7 new.txt@1",
    "--run run-9": "{new}: default/run-9 new.txt@1",
    "--scope data": "!{new}: default/run-7 new.txt",
    "--ignore '*.txt'": "!{new}: default/run-7 new.txt",
    "--hidden": "{new}: default/run-7 .hidden@1",
    "--no-default-ignores": "{new}: default/run-7 x.tmp@1",
    "--gitignore": "!{new}: default/run-7 ignored.txt",
    "--prefix p": "{new}: default/run-7 p/new.txt@1",
}
"""Options of a scan of `work`, and what is new with them."""

SWITCHED = {
    ("CAS_HIDDEN=1", "--no-hidden"): "!{new}: default/run-7 .hidden@1",
    ("CAS_DEFAULT_IGNORES=0", "--default-ignores"): "!{new}: default/run-7 x.tmp@1",
    ("CAS_GITIGNORE=1", "--no-gitignore"): "{new}: default/run-7 ignored.txt@1",
}
"""The same where the environment says otherwise."""

PROVENANCE = {
    "--phase ph": "phase=ph",
    "--agent ag": "agent=ag",
    "--node no": "node_id=no",
    "--step st": "step_id=st",
    "--event ev": "event_id=ev",
    "--code-hash co": "code_hash=co",
}


def of_scans():
    for line in ("track {} work", "watch {} work", "run --dir work {} true", "status {} work"):
        new = "status" if line.startswith("status") else "record"
        for option, expected in SCANS.items():
            yield Case(line, option, expected.format(new=new))
        for (environment, option), expected in SWITCHED.items():
            yield Case(f"{environment} {line}", option, expected.format(new=new))
        moved = line.replace("work", "two")
        yield Case(moved, "--moved", f"{new}: default/run-7 two.txt@1")
        if new == "record":
            yield Case(line, "--final new.txt", "record: default/run-7 new.txt@1 final=True")
        if line.startswith(("track", "run")):
            yield Case(line, "--input plan.md", "input: default/run-7 plan.md@1")
    for line in (
        *("track {} work", "watch {} work", "run --dir work {} true"),
        *("put loose.txt", "rm data/r.csv"),
    ):
        for option, label in PROVENANCE.items():
            number = 4 if line.startswith("run") else 3  # it records what is there before
            yield Case(line, option, f"snapshot: default/run-7 {number} {label}")
    for option, label in PROVENANCE.items():
        yield Case("use plan.md", option, f"input: default/run-7 plan.md@1 {label}")


def of_selections():
    for line in ("ls -R", "find"):
        for option in ("--phase control", "--agent engineer", "--node n2", "--step s2",
                       "--event e2", "--code-hash c2", "--type data", "--priority internal",
                       "--not-final", "--prefix data", "--limit 1"):  # fmt: skip
            hidden = "plots/p.png" if option == "--limit 1" else "plan.md"
            yield Case(line, option, f"!{hidden}")
        yield Case(line, "--final", "!data/r.csv")


def of_runs():
    """The options that say which run is meant, of all commands that read or change one."""
    for line, expected in {
        "ls -R": "more-{}.txt",
        "find": "more-{}.txt",
        "log data/r.csv": "agent-{}",
        "snapshots": "agent-{}",
        "show data/r.csv": "agent-{}",
        "cat data/r.csv": "table-{}",
        "diff 0": "more-{}.txt",
        "put loose.txt": "record: {} loose.txt@1",
        "use data/r.csv": "input: {} data/r.csv@1",
        "lineage data/r.csv": "agent-{}",
        "restore --to out": "disk: out/more-{}.txt",
        "rewind 1": "snapshot: {} 3",
        "tag submitted": "tag: {} submitted",
        "describe --note rate=1": "said: {} None {{'rate': 1}}",
        "fork branch": "disk: ",
        "rm data/r.csv": "snapshot: {} 3",
        "stats --run run-7": "",
    }.items():
        for option, run in (
            ("--session task-12", "task-12/run-7"),
            ("--run run-8", "default/run-8"),
        ):
            is_state = expected.startswith(("record", "snapshot", "tag", "input", "said"))
            where = run if is_state else run.split("/")[option.startswith("--run")]
            shown = expected.format(where)
            if line == "fork branch":
                shown = f"record: {run.split('/')[0]}/branch more-{where}.txt@1"
            if line == "find" and option.startswith("--run"):
                shown = "!plan.md"
            if line == "stats --run run-7":
                shown = "session\ttask-12" if option.startswith("--session") else "run\trun-8"
            yield Case(line, option, shown)


MADE_THERE = "cd empty; init --index sqlite:///i.db --blobs b"
AT = "--index sqlite:///.cas/index.db --blobs .cas"

CRATE = "--as rocrate -o c"
METADATA = "disk: c/ro-crate-metadata.json"

CASES = [
    *of_scans(),
    *of_selections(),
    *of_runs(),
    # init
    Case("cd empty; init", "--index sqlite:///i.db", "--index and --blobs go together", 2),
    Case("cd empty; init", "--blobs b", "--index and --blobs go together", 2),
    Case(MADE_THERE, "--cache c", 'disk: empty/cas.toml cache = "c"'),
    Case(f"{MADE_THERE} --cache c", "--cache-size 1MiB", "disk: empty/cas.toml cache_size"),
    # track, watch, run, status
    Case("track work", "--dry-run", "!record: default/run-7 new.txt"),
    Case("watch work", "--quiet-period 7s", "quiet 7.0"),
    Case("watch work", "--max-delay 9s", "delay 9.0"),
    Case("run {} true", "--dir work", "record: default/run-7 new.txt@1"),
    Case("run --dir work {} true", "--env HERE", "snapshot: default/run-7 4 environment={'HERE'"),
    Case("status work", "--exit-code", "[exit 1]", 1),
    # put
    Case("put loose.txt", "--as p/q.txt", "record: default/run-7 p/q.txt@1"),
    Case("put loose.txt", "--type plot", "record: default/run-7 loose.txt@1 final=False type=plot"),
    Case("put loose.txt", "--final", "record: default/run-7 loose.txt@1 final=True"),
    Case("put work/plan.md", "--not-final", "record: default/run-7 plan.md@1 final=False"),
    Case("put loose.txt", "--expected-version 5", "!record: default/run-7 loose.txt", 1),
    # listings
    Case("runs", "--session task-12", "!run-8"),
    Case("runs", "--limit 1", "!run-8"),
    Case("ls -R", "--glob '*.md'", "!data/r.csv"),
    Case("ls -R", "--at 1", "old.txt"),
    Case("ls", "-R", "data/r.csv"),
    Case("ls", "--recursive", "data/r.csv"),
    Case("ls -R --limit 1", "--order-by -size", "large.bin"),
    Case("ls -R", "--after data/r.csv", "!data/r.csv"),
    Case("find", "--all-sessions", "more-task-12.txt"),
    Case("find", "--since 2099-01-01", "!plan.md"),
    Case("find", "--until 2000-01-01", "!plan.md"),
    Case("find", "--larger 1KiB", "!plan.md"),
    Case("find", "--smaller 1KiB", "!large.bin"),
    Case("find", f"--digest {str(Digest.of(PLAN))[:8]}", "!large.bin"),
    Case("find", "--where 'size > 1KiB'", "!plan.md"),
    Case("find", "--all-versions", "old.txt"),
    Case("cat data/r.csv", "--at 1", "table-old"),
    Case("diff 1", "--text", "+table-run-7"),
    Case("diff 1", "--stat", "1\t1\ttext"),
    Case("diff 1", "--by agent", "agent engineer"),
    Case("who data/r.csv", "--session task-12", "agent-task-12"),
    Case("who data/r.csv", "--all-sessions", "agent-task-12"),
    Case("use plan.md", "--from run-8", "plan.md' is nothing", 4),
    Case("use data/r.csv", "--from run-8", "input: default/run-7 data/r.csv@1 from=run-8"),
    Case("use plan.md", "--keep-as copy.md", "record: default/run-7 copy.md@1"),
    Case("lineage added.txt --down", "--up", "data/r.csv@1"),
    Case("lineage data/r.csv@1", "--down", "added.txt@1"),
    Case("lineage data/r.csv@1", "--both", "goes into"),
    Case("lineage added.txt", "--depth 0", "!data/r.csv@1"),
    Case("lineage added.txt", "--limit 1", "there is more"),
    Case("lineage added.txt", "--format dot", "digraph"),
    Case("stale", "--session task-12", "!added.txt"),
    Case("stale", "--run run-8", "!added.txt"),
    Case("stats", "--session task-12", "run-7\t4"),
    Case("stats", "--run run-8", "run\trun-8"),
    Case("stats", "--by agent", "agent-task-12"),
    Case("stats", "--prometheus", "# TYPE"),
    # serve
    Case("serve", "--host 127.0.0.2", "on ('127.0.0.2', "),
    Case("serve", "--port 18457", "127.0.0.1:18457/login"),
    Case("serve", "--open", "opens http://127.0.0.1:"),
    Case("serve", "--session task-12", "session task-12: http"),
    Case("serve", "--token secret-of-the-owner", "token: secret-of-the-owner"),
    Case("serve", "--allow-host runs.example.org", "runs.example.org on"),
    # restore, tag, fork, rm
    Case("restore --overwrite", "--to out", "disk: out/plan.md"),
    Case("restore --to out", "--at 1", "disk: out/old.txt"),
    Case("restore", "--overwrite", "1 file written"),
    Case("restore --at 1 --overwrite", "--delete", "!disk: work/added.txt"),
    Case("restore --overwrite", "--delete-all", "!disk: work/new.txt"),
    Case("restore --overwrite --delete-all", "--ignore new.txt", "disk: work/new.txt"),
    Case("restore --to out", "--dry-run", "!disk: out/plan.md"),
    Case("tag submitted", "--at 1", "tag: default/run-7 submitted 1"),
    Case("tag best", "-d", "!tag: default/run-7 best"),
    Case("tag best", "--delete", "!tag: default/run-7 best"),
    Case("tag best", "--history", "best\tsnapshot 1"),
    Case("tag submitted", "--agent judge", "tag: default/run-7 submitted 2 None judge"),
    Case("tag top", "--whole-run", "names the run run-7"),
    Case("describe", "--parent sweep", "said: default/run-7 sweep None"),
    Case("describe", "--note rate=0.1", "said: default/run-7 None {'rate': 0.1}"),
    Case("describe", "--status failed", "said: default/run-7 None None failed None"),
    Case("describe --status failed", "--reason full", "said: default/run-7 None None failed full"),
    Case("rm --run run-8 --yes", "--force", "!record: default/run-8 two.txt", prepare=tag_run),
    Case("run --dir work {} true", "--parent sweep", "said: default/run-7 sweep"),
    Case("runs", "--parent run-8", "!task-12", prepare=link_runs),
    Case("runs", "--tree", "two\ndefault\trun-7", prepare=link_runs),
    Case("fork branch", "--at 1", "!record: default/branch added.txt@1"),
    Case("rm --run run-8", "--yes", "!record: default/run-8 two.txt"),
    Case("rm --session task-12 --yes", "--whole-session", "!record: task-12/run-7"),
    # prune, drop, hold, quota
    Case("prune --dry-run", "--keep-last 1", "delete\trun-7", 0, untagged),
    *(
        Case("prune --dry-run", f"--keep-{period} 1", "delete\trun-7", 0, untagged)
        for period in ("hourly", "daily", "weekly", "monthly", "yearly")
    ),
    Case("prune --dry-run", "--keep-within 1h", "within 1h"),
    Case("prune --dry-run --keep-last 1", "--keep-status failed", "keep\trun-7", 0,
         changed(lambda run: run.set_status("failed"))),
    Case("prune --dry-run --keep-last 1", "--only-status failed", "keep\trun-7", 0, untagged),
    Case("prune --dry-run --keep-last 1", "--group-by run-7", "keep\trun-7", 0, untagged),
    Case("prune --dry-run --keep-last 1", "--session task-12", "!run-8", 0, untagged),
    Case("prune --dry-run", "--drop-type data", "data/r.csv", 0, untagged),
    Case("prune --dry-run", "--drop-larger 5", "data/r.csv", 0, untagged),
    Case("prune --dry-run", "--drop-older 0", "old.txt", 0, untagged),
    Case("prune --keep-last 1 --yes", "--dry-run", "delete\trun-7", 0, untagged),
    Case("prune --keep-last 1", "--yes", "!record: default/run-7 plan.md", 0, untagged),
    Case("drop data/r.csv@1", "--reason x", "dropped the bytes", 0, untagged),
    Case("drop data/r.csv@1 --reason x", "--session task-12", "it is current", 1, untagged),
    Case("drop data/r.csv@1 --reason x", "--run run-8", "it is current", 1, untagged),
    Case("drop data/r.csv@1 --reason x --json", "--agent judge", '"agent": "judge"', 0, untagged),
    Case("drop data/r.csv@1 --reason x", "--json", '"digest": null', 0, untagged),
    Case("hold", "--session task-12", "case 7", 0, held_elsewhere),
    Case("hold x", "--run run-8", "run-8\t"),
    Case("hold x", "--whole-session", "(session)\t"),
    Case("hold x --run run-7", "--release", "case 7", 0, changed(lambda run: run.hold("case 7"))),
    Case("hold", "--history", "case 7", 0, changed(released)),
    Case("hold x --run run-7", "--agent judge", "judge"),
    Case("quota", "--session task-12", "session task-12 holds"),
    # export, sync, adopt
    Case("export", "--as tar", "disk: run-7.tar"),
    Case("export --as zip", "-o x.zip", "disk: x.zip"),
    Case("export --as zip", "--output x.zip", "disk: x.zip"),
    Case("export --as bagit", "--at 1", "disk: run-7.bag/data/old.txt"),
    Case("export --as bagit --at 2", "--session task-12", "disk: run-7.bag/data/more-task-12.txt"),
    Case("sync - copy --json", "--session task-12", '!"run-8"'),
    Case("sync - copy --json", "--run run-8", '!"run-7"'),
    Case("sync - copy", "--dry-run", "!disk: copy/cas.json"),
    Case("adopt", "--from sqlite:///app.db", "1 kept without bytes"),
    Case("adopt --from sqlite:///app.db", "--session s2", "record: s2/old"),
    Case("adopt --from sqlite:///app.db", "--root /", "record: default/old gone/plan.md@1"),
    Case("adopt --from sqlite:///app.db", "--moved /gone=work", "1 file adopted"),
    # import
    Case("import folders", "--from steps", "record: default/folders load/a@1"),
    Case("import steps", "--session s2", "record: s2/steps step_1/a@1"),
    Case("import steps", "--run new", "record: default/new step_1/a@1"),
    Case("import steps", "--step step_2", "!record: default/steps step_1/a@1"),
    Case("import steps", "--as-states", "record: default/steps a@1"),
    Case("import code", "--rev HEAD~1", "!record: default/code later@1"),
    Case("import dvc3", "--dvc-cache shared", "record: default/dvc3 data/raw/a.csv@2"),
    # the store
    Case("verify", "--depth bytes", "!the bytes of files were not read"),
    Case("verify", "--max-bytes 1KiB", "!the bytes of files were not read"),
    Case("verify", "--references", "not reached: file:///nowhere", 0, refer),
    Case("repair", "--verify packs", "!no damage is known", 3, damage),
    Case("repair --verify packs", "--from work", "!: 0 repaired", 3, damage),
    Case("repair --verify packs --from work", "--dry-run", ", 0 B stored", 3, damage),
    Case("gc --grace 0", "--dry-run", "to be swept", 0, delete_run),
    Case("gc", "--grace 0", "!, 0 blobs (0 B) swept", 0, delete_run),
    Case("gc --grace 0", "--no-compact", ", 0 rewritten", 0, delete_run),
    Case("gc --grace 0", "--max-bytes 1", ", 0 rewritten", 0, delete_run),
    Case("gc", "--remove-orphans", "orphan, removed", 0, add_orphan),
    Case("backup", "--keep 1", "1 copy kept", 0, back_up),
    Case("recover", "--dry-run", "would be recovered"),
    # export, as a provenance document
    Case(f"export run-7 {CRATE}", "--profile process", "!disk: c/recorded-workflow.json"),
    Case(f"export run-7 {CRATE}", "--title T1", f'{METADATA}    "name": "T1"'),
    Case(f"export run-7 {CRATE}", "--description D1", f'{METADATA}    "description": "D1"'),
    Case(f"export run-7 {CRATE}", "--licence L1", f'{METADATA}    "license": "L1"'),
    Case("export run-7 --as prov -o d", "--syntax provn", "disk: d endDocument"),
    Case("export run-7 --as prov -o d.provn", "--anonymise",
         "!disk: d.provn   agent(agent:planner,"),
    Case("export run-7 --as prov -o d.provn --anonymise", "--key-file loose.txt",
         f"disk: d.provn   agent(agent:{Pseudonyms(b'loose').of('agent', 'planner')},"),
    # what all commands share
    Case("{} runs", "--store other", "[exit 4]", 4),
    Case("runs", "--store other", "[exit 4]", 4),
    Case("{} --blobs .cas runs", "--index sqlite:///.cas/index.db", "run-7"),
    Case("{} --index sqlite:///.cas/index.db runs", "--blobs .cas", "run-7"),
    Case(f"{{}} {AT} config", "--cache c", "cache\tc\t--cache"),
    Case(f"{{}} {AT} --cache c config", "--cache-size 1GiB", "1073741824"),
    Case(f"CAS_CACHE=c {{}} {AT} config", "--no-cache", "cache\t\t--no-cache"),
]  # fmt: skip

ELSEWHERE = {
    ("-q/--quiet", "-v/--verbose", "--log-file"): "test_cli_options.py::TestTold",
    ("--version",): "test_cli.py",
}
"""Options of the command itself, which have tests of their own."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store with three runs of two snapshots each, in a directory that each case gets anew."""
    here = tmp_path_factory.mktemp("options") / "here"
    write(here / "work", {
        "plan.md": PLAN, "data/r.csv": b"table-old\n", "old.txt": b"old", "large.bin": LARGE,
        "plots/p.png": b"png", ".hidden": b"h", "x.tmp": b"x", ".gitignore": b"ignored.txt\n",
    })  # fmt: skip
    write(
        here, {"loose.txt": b"loose", "empty/file": b"", "cas.toml": b'[defaults]\nrun = "run-7"\n'}
    )
    with ArtifactStore.open(here / ".cas") as store:
        run = store.session("default").run("run-7")
        labels = {"node_id": "n1", "step_id": "s1", "event_id": "e1", "code_hash": "c1"}
        run.track(here / "work", phase="planning", agent="planner", final=["plan.md"], **labels)
        write(here / "work", {"data/r.csv": b"table-run-7\n", "added.txt": b"added"})
        (here / "work" / "old.txt").unlink()
        labels = {"node_id": "n2", "step_id": "s2", "event_id": "e2", "code_hash": "c2"}
        run.use("data/r.csv", **labels)
        run.track(here / "work", phase="control", agent="engineer", **labels)
        run.tag("best", at=1)
        for folder, session, name in (("two", "default", "run-8"), ("three", "task-12", "run-7")):
            word = name if session == "default" else session
            write(here / folder, {f"{folder}.txt": LARGE[::-1] if folder == "two" else b"3"})
            write(here / folder, {"data/r.csv": f"table-{word}\n".encode(), "shared": b"shared"})
            other = store.session(session).run(name)
            other.track(here / folder, agent=f"agent-{word}")
            write(here / folder, {f"more-{word}.txt": word.encode()})
            other.track(here / folder, agent=f"agent-{word}")
    write(here / "work", {"new.txt": b"new", "ignored.txt": b"i", "plots/p.png": b"edited"})
    with sqlite3.connect(here / "app.db") as database:
        database.execute("CREATE TABLE files (id TEXT, file_path TEXT, run_id TEXT, node_id TEXT)")
        database.execute("INSERT INTO files VALUES ('1', '/gone/plan.md', 'old', 'n')")
    database.close()
    return here.rename(here.with_name("template"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What `cas import` takes: hundreds of files, which the other cases go without."""
    here = tmp_path_factory.mktemp("sources")
    write(here, {"folders/load/a": b"1", "steps/step_1/a": b"1", "steps/step_2/a": b"2"})
    for name in ("first", "later"):
        commit(here / "code", name, {name: b"code"})
    project = unpack("dvc3", here)
    (project / ".dvc" / "cache").rename(here / "shared")
    (project / ".dvc" / "config.local").write_text("[cache]\ndir = ../../shared\n")
    return here


@pytest.fixture(scope="module")
def without():
    """What was seen without an option, by line and preparation: options of a command share it."""
    return {}


@pytest.fixture
def play(template, sources, cas, monkeypatch):
    """Run a command line in a new copy of the template; return what is seen of it."""
    here = template.with_name("here")

    def watch(self, _directory, *, quiet_period, max_delay, **_options):
        click.echo(f"quiet {quiet_period} delay {max_delay}")
        raise KeyboardInterrupt

    def serve(app, listener):
        hosts = app.user_middleware[0].kwargs["hosts"]
        click.echo(f"serves {' '.join(hosts)} on {listener.getsockname()}")

    monkeypatch.setattr(Run, "watch", watch)
    monkeypatch.setattr("index.cli.serve._serve", serve)
    monkeypatch.setattr("webbrowser.open", lambda link: click.echo(f"opens {link}"))
    monkeypatch.setenv("HERE", "here")

    def played(line, prepare=None):
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(template, here, symlinks=True)
        if line.startswith("import"):
            shutil.copytree(sources, here, symlinks=True, dirs_exist_ok=True)
        if prepare is not None:
            prepare(here / ".cas")
        with monkeypatch.context() as patched:
            patched.chdir(here)
            patched.setattr("sys.stdin", io.StringIO(""))
            if line.startswith("cd "):
                folder, line = line.removeprefix("cd ").split("; ")
                patched.chdir(here / folder)
            words = shlex.split(line)
            while "=" in words[0]:
                patched.setenv(*words.pop(0).split("=", 1))
            code, out, err = cas(*words)
            looked = None
            if words[0] == "status" and (code == 0 or "--exit-code" in words):
                looked = json.loads(cas(*words, *(["--json"] * ("--json" not in words)))[1])
        return code, f"[exit {code}]\n{out}{err}", _state(here, looked)

    yield played
    shutil.rmtree(here, ignore_errors=True)


def _state(here, looked):
    """Return what is recorded and on disk, a line each."""
    lines = []
    if looked is not None:
        run = f"{looked['session']}/{looked['run']}"
        lines += [f"status: {run} {each['path']}@1" for each in looked["added"]]
    with ArtifactStore.open(here / ".cas", create=False) as store:
        for file in store.find(all_versions=True):
            what = f"final={file.is_final_output} type={file.file_type}"
            lines.append(f"record: {file.session}/{file.run} {file.path}@{file.version} {what}")
        for summary in store.runs():
            session = store.session(summary.session)
            run = f"{summary.session}/{summary.run}"
            for each in session.run(summary.run).snapshots():
                labels = [*each.provenance.to_dict().items(), *(each.notes or {}).items()]
                lines.append(f"snapshot: {run} {each.number}")
                lines += [f"snapshot: {run} {each.number} {k}={v}" for k, v in labels]
            for each in session.run(summary.run).inputs():
                name = f"input: {run} {each.path}@{each.version}"
                labels = {"from": each.source_run, **each.to_dict()}
                lines += [name, *(f"{name} {k}={v}" for k, v in labels.items())]
            how = f"{summary.status} {summary.status_reason}"
            lines.append(f"said: {run} {summary.parent} {summary.notes} {how}")
            for tag in session.run(summary.run).tags():
                lines.append(f"tag: {run} {tag.name} {tag.snapshot} {tag.path} {tag.agent}")
    for folder, _, names in os.walk(here):
        place = os.path.relpath(folder, here)
        if place.split("/")[0] != ".cas":
            for name in names:
                text = Path(folder, name).read_bytes()[:20_000].decode(errors="replace")
                at = os.path.normpath(f"{place}/{name}")
                lines += [f"disk: {at} {line}" for line in text.splitlines() or ("",)]
    return "\n".join(lines)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_option_does_something(play, without, case):
    line = case.line if "{}" in case.line else f"{case.line} {{}}"
    shared = line.replace("{} ", "").replace(" {}", ""), case.prepare
    if shared not in without:
        without[shared] = play(*shared)
    before = without[shared]
    code, printed, state = play(line.replace("{}", case.option), case.prepare)
    assert code == case.code, printed
    word = case.expected.removeprefix("!")
    is_state = word.startswith(
        ("record:", "status:", "snapshot:", "input:", "tag:", "said:", "disk:")
    )
    is_there = (
        word in (before[2] if is_state else before[1]),
        word in (state if is_state else printed),
    )
    gone = case.expected.startswith("!")
    assert is_there == (gone, not gone), f"{before[1]}\n{printed}\n{before[2]}\n{state}"


LISTINGS = {
    "runs": "", "ls": "-R", "find": "", "log": "data/r.csv", "snapshots": "", "diff": "1",
    "who": "data/r.csv", "tag": "", "config": "", "use": "", "stale": "",
    "hold": "x --run run-7",
    "stats": " ".join(f"--by {name}" for name in ("session", *LABELS)),
}  # fmt: skip
"""Arguments of the commands with ``--jsonl`` and ``--full``."""

DOCUMENTS = {
    **LISTINGS, "init": "", "track": "work", "put": "loose.txt", "status": "work",
    "show": "data/r.csv", "lineage": "added.txt", "restore": "--to out", "rewind": "1",
    "fork": "branch", "describe": "", "rm": "data/r.csv", "sync": "- copy",
    "adopt": "--from sqlite:///app.db", "doctor": "", "verify": "", "repair": "", "gc": "",
    "export": "--as zip", "import": "steps",
    "backup": "", "recover": "--dry-run", "prune": "--keep-last 1 --yes", "quota": "",
    "db check": "", "db current": "", "db upgrade": "",
}  # fmt: skip
"""Arguments of the commands with ``--json``."""


@pytest.mark.parametrize("command", DOCUMENTS)
def test_json_is_a_document(play, command):
    line = f"{command} {DOCUMENTS[command]}"
    with pytest.raises(json.JSONDecodeError):
        json.loads(play(line)[1].partition("\n")[2])
    assert json.loads(play(f"{line} --json")[1].partition("\n")[2])


@pytest.mark.parametrize("command", LISTINGS)
def test_json_lines_are_documents(play, command):
    lines = play(f"{command} {LISTINGS[command]} --jsonl")[1].splitlines()[1:]
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.parametrize("command", LISTINGS)
def test_full_shows_more_on_a_terminal(play, command, monkeypatch):
    monkeypatch.setattr("index.cli.tables.is_for_people", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    line = f"{command} {LISTINGS[command]}"
    assert len(play(f"{line} --full")[1]) > len(play(line)[1])


def options_of(command, path=()):
    """Yield the command and the names of each visible option in the tree of commands."""
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            for names in (option.opts, option.secondary_opts):
                if names:
                    yield " ".join(path), frozenset(names)
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            yield from options_of(command.get_command(None, name), (*path, name))


def test_every_option_has_a_case():
    covered = set()
    for case in CASES:
        words = shlex.split(case.line.partition("; ")[2] or case.line)
        begins = case.line.partition("; ")[2] or case.line
        is_global = begins.removeprefix("CAS_CACHE=c ").startswith("{}")
        words = [word for word in words if word != "{}" and "=" not in word]
        covered.add(("" if is_global else words[0], shlex.split(case.option)[0]))
    covered |= {(command, "--json") for command in DOCUMENTS}
    covered |= {(command, name) for command in LISTINGS for name in ("--jsonl", "--full")}
    covered |= {("", name) for names in ELSEWHERE for each in names for name in each.split("/")}
    missing = [
        (command, sorted(names))
        for command, names in options_of(group)
        if not any((command, name) in covered for name in names)
    ]
    assert missing == []
