"""A git history becomes the history of a run."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest
from places import on_one
from trees import contents, write

from index import ArtifactStore, Run
from index.errors import ImportMismatchError, ImportSourceError, UnknownSessionError
from index.imports import read_git
from index.imports.git_objects import GitRepository

alone = on_one(because="what git says is read before a store is written to")

AUTHOR = {
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Committer",
    "GIT_COMMITTER_EMAIL": "c@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Repository:
    """A git repository that a test builds."""

    def __init__(self, path, *options):
        self.path = path
        subprocess.run(["git", "init", "-q", "-b", "main", *options, path], check=True)

    def __call__(self, *arguments, data=None, **environment):
        done = subprocess.run(
            ["git", "-C", self.path, *arguments],
            env={**os.environ, **AUTHOR, "HOME": str(self.path.parent), **environment},
            input=data,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def commit(self, message, time="2024-01-02T03:04:05+01:00", **environment):
        self("add", "-A")
        date = {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
        self("commit", "-q", "--allow-empty", "-m", message, **date, **environment)
        return self("rev-parse", "HEAD")

    def commit_tree(self, entries):
        """Commit a tree as no git writes one; return the commit's id."""
        oids = [(mode, name, self._hash(data)) for mode, name, data in entries]
        tree = b"".join(b"%s %s\0%s" % (m, n, bytes.fromhex(oid)) for m, n, oid in oids)
        oid = self("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=tree)
        made = self("commit-tree", "-m", "made", oid)
        self("update-ref", "refs/heads/main", made)
        return made

    def _hash(self, data):
        return data if isinstance(data, str) else self("hash-object", "-w", "--stdin", data=data)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "project")


@pytest.fixture
def session(store):
    return store.session("session-1")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A repository of five commits, which each test gets a copy of; the ids of the commits."""
    made = Repository(tmp_path_factory.mktemp("template") / "project")
    write(made.path, {"plan.md": b"plan\n", "data/a.csv": b"1\n", "run.sh": b"#!/bin/sh\n"})
    (made.path / "run.sh").chmod(0o755)
    (made.path / "latest").symlink_to("data/a.csv")
    ids = [made.commit("Begin\n\nWith a reason.")]
    write(made.path, {"data/a.csv": b"two\n", "data/b.csv": b"b\n"})
    ids.append(made.commit("More data", GIT_AUTHOR_NAME="Grace Hopper"))
    (made.path / "plan.md").unlink()
    ids.append(made.commit("No plan"))
    ids.append(made.commit("Nothing"))
    write(made.path, {".hidden/x.tmp": b"kept\n"})
    ids.append(made.commit("Hidden", "2024-05-06T07:08:09-02:30"))
    return made.path, ids


@pytest.fixture
def history(repository, template):
    path, ids = template
    shutil.rmtree(repository.path)
    shutil.copytree(path, repository.path, symlinks=True)
    return ids


def test_each_commit_is_a_snapshot(session, repository, history):
    report = read_git(session, repository.path)
    assert (report.run, report.format, report.snapshots) == ("project", "git", 5)
    assert (report.versions, report.skipped) == (7, ())
    run = session.run("project")
    assert contents(run) == {
        "data/a.csv": b"two\n",
        "data/b.csv": b"b\n",
        "latest": b"data/a.csv",
        "run.sh": b"#!/bin/sh\n",
        ".hidden/x.tmp": b"kept\n",
    }
    assert contents(run, at=1)["data/a.csv"] == b"1\n"
    changes = [
        [[version.path for version in part] for part in (each.added, each.changed, each.removed)]
        for each in run.snapshots()
    ]
    assert changes == [
        [["data/a.csv", "latest", "plan.md", "run.sh"], [], []],
        [["data/b.csv"], ["data/a.csv"], []],
        [[], [], ["plan.md"]],
        [[], [], []],
        [[".hidden/x.tmp"], [], []],
    ]
    assert report.bytes == sum(v.size for each in run.snapshots() for v in each.added) + 4


def test_a_commit_tells_who_made_it_and_when(session, repository, history):
    read_git(session, repository.path)
    run = session.run("project")
    first, second, *_, last = run.snapshots()
    assert [each.provenance.event_id for each in run.snapshots()] == history
    assert [first.provenance.agent, second.provenance.agent] == ["Ada Lovelace", "Grace Hopper"]
    assert first.notes == {
        "imported": {"from": "git", "revision": history[0]},
        "commit": history[0],
        "time": "2024-01-02T03:04:05+01:00",
        "author": "Ada Lovelace <ada@example.org>",
        "subject": "Begin",
        "body": "With a reason.",
    }
    assert last.notes["time"] == "2024-05-06T07:08:09-02:30"
    assert run["data/a.csv"].agent == "Grace Hopper"
    assert run["data/a.csv"].mtime_ns == 1704161045 * 10**9
    assert stat.S_IMODE(run["run.sh"].mode) == 0o755
    assert run["latest"].is_link


def test_a_second_import_goes_on_where_the_first_ended(session, repository, history):
    read_git(session, repository.path, rev=history[2])
    again = read_git(session, repository.path)
    assert (again.snapshots, again.versions) == (2, 1)
    nothing = read_git(session, repository.path)
    assert (nothing.snapshots, nothing.versions, nothing.bytes) == (0, 0, 0)
    write(repository.path, {"new": b"new"})
    repository.commit("New")
    assert read_git(session, repository.path).versions == 1
    run = session.run("project")
    assert [each.provenance.event_id for each in run.snapshots()][:5] == history
    assert len(run.snapshots()) == 6


@pytest.mark.parametrize("tracked", range(1, 6))
def test_after_an_interruption_it_goes_on(session, repository, history, monkeypatch, tracked):
    calls = []

    def track(self, *arguments, **options):
        calls.append(options)
        if len(calls) == tracked:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(KeyboardInterrupt):
        read_git(session, repository.path)
    monkeypatch.undo()
    assert read_git(session, repository.path).snapshots == 6 - tracked
    run = session.run("project")
    assert [each.provenance.event_id for each in run.snapshots()] == history
    assert len(contents(run)) == 5


@alone
def test_the_run_goes_on_in_the_work_directory(session, repository, history):
    read_git(session, repository.path)
    run = session.run("project")
    assert run.summary().work_dir == str(repository.path)
    status = run.status(repository.path)
    assert (status.added, status.changed, status.removed) == ((), (), ())
    write(repository.path, {"data/a.csv": b"by hand"})
    assert [each.path for each in run.track(repository.path).changed] == ["data/a.csv"]


@alone
def test_the_directory_of_an_interrupted_import_is_not_remembered(
    session, repository, history, monkeypatch
):
    def track(self, work_dir, **options):
        if "notes" not in options:
            raise KeyboardInterrupt
        return original(self, work_dir, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(KeyboardInterrupt):
        read_git(session, repository.path)
    monkeypatch.undo()
    assert read_git(session, repository.path).snapshots == 0
    assert session.run("project").summary().work_dir == str(repository.path)


@alone
def test_what_was_recorded_in_between_stays(session, repository, history):
    read_git(session, repository.path, rev=history[1])
    run = session.run("project")
    run.put("notes.md", b"mine")
    assert read_git(session, repository.path).snapshots == 3
    assert run.read_bytes("notes.md") == b"mine"


@alone
def test_only_first_parents_count(session, repository, history):
    repository("checkout", "-q", "-b", "side", history[0])
    write(repository.path, {"side": b"1"})
    repository.commit("Side")
    repository("checkout", "-q", "main")
    repository("merge", "-q", "--no-ff", "-m", "Merge", "side")
    assert read_git(session, repository.path).snapshots == 6
    assert [v.path for v in session.run("project").snapshots()[-1].added] == ["side"]
    assert read_git(session, repository.path, rev="side", run="side").snapshots == 2


@alone
def test_a_file_may_become_a_directory_and_a_link_a_file(session, repository):
    write(repository.path, {"a": b"file", "d/x": b"x", "d/y": b"y"})
    (repository.path / "l").symlink_to("a")
    repository.commit("one")
    for name in ("a", "l", "d/x", "d/y"):
        (repository.path / name).unlink()
    (repository.path / "d").rmdir()
    write(repository.path, {"a/b": b"below", "d": b"file now", "l": b"no link"})
    repository.commit("two")
    read_git(session, repository.path)
    run = session.run("project")
    assert contents(run) == {"a/b": b"below", "d": b"file now", "l": b"no link"}
    assert not run["l"].is_link
    assert sorted(contents(run, at=1)) == ["a", "d/x", "d/y", "l"]


@alone
def test_names_are_bytes(session, repository):
    names = [b"caf\xe9", b"a b", b"new\nline", "ünï".encode(), b'"quoted"']
    for name in names:
        (repository.path / os.fsdecode(name)).write_bytes(name)
    repository.commit("names", GIT_AUTHOR_NAME="Zoë\tX")
    assert read_git(session, repository.path).versions == 5
    run = session.run("project")
    assert {os.fsencode(path): data for path, data in contents(run).items()} == {
        name: name for name in names
    }
    assert {version.agent for version in run.files()} == {"Zoë X"}


def test_what_is_no_text_can_be_noted(session, repository):
    raw = [(b"100644", b"fine", b"1"), (b"120000", b"bad\xff", b"")]
    made = repository.commit_tree(raw)
    text = repository("cat-file", "commit", made).encode()
    text = text.replace(b"Ada Lovelace", b"Ad\xe9 \x01 L").replace(b"made", b"m\xe9de \x1b[2J")
    oid = repository("hash-object", "-t", "commit", "-w", "--literally", "--stdin", data=text)
    repository("update-ref", "refs/heads/main", oid)
    report = read_git(session, repository.path)
    assert [each.path for each in report.skipped] == [os.fsdecode(b"bad\xff")]
    (snapshot,) = session.run("project").snapshots()
    assert snapshot.provenance.agent == "Ad\N{REPLACEMENT CHARACTER} L"
    assert snapshot.notes["subject"] == "m\N{REPLACEMENT CHARACTER}de \x1b[2J"
    assert snapshot.notes["imported"]["skipped"][0][0] == r"bad\udcff"
    write(repository.path, {"more": b"2"})
    repository("read-tree", "HEAD")
    repository("add", "more")
    repository("commit", "-q", "-m", "more")
    assert read_git(session, repository.path).snapshots == 1


@alone
def test_only_what_a_commit_changes_is_read(session, repository, history, monkeypatch):
    read = []

    def iter_blob(self, oid):
        read.append(oid)
        return original(self, oid)

    original = GitRepository.iter_blob
    monkeypatch.setattr(GitRepository, "iter_blob", iter_blob)
    read_git(session, repository.path)
    assert len(read) == 7
    write(repository.path, {"new": b"new"})
    repository.commit("New")
    read_git(session, repository.path)
    assert len(read) == 8


@alone
def test_ignore_files_of_the_history_leave_nothing_out(session, repository):
    write(repository.path, {".casignore": b"*\n", ".gitignore": b"", "a.log": b"1", "d/b": b"2"})
    repository.commit("all")
    assert read_git(session, repository.path).versions == 4


@alone
@pytest.mark.parametrize("form", ["bare", "sha256", "packed", "worktree"])
def test_forms_of_repositories(session, repository, history, tmp_path, form):
    source = tmp_path / "other.git"
    if form == "bare":
        repository("clone", "-q", "--bare", ".", str(source))
    elif form == "worktree":
        repository("worktree", "add", "-q", "--detach", str(source))
    elif form == "packed":
        source = repository.path
        repository("gc", "-q", "--aggressive", "--prune=now")
    else:
        source.mkdir()
        other = Repository(tmp_path / "sha", "--object-format=sha256")
        write(other.path, {"a": b"1"})
        other.commit("one")
        source = other.path
    report = read_git(session, source, run="r")
    assert report.snapshots == (1 if form == "sha256" else 5)


@alone
def test_submodules_and_pointers_of_lfs_are_reported(session, repository):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 9\n" % 1
    repository.commit_tree(
        [(b"100644", b"model.bin", pointer), (b"160000", b"sub", "12" * 20)],
    )
    report = read_git(session, repository.path)
    assert {each.path: each.reason for each in report.skipped} == {
        "model.bin": "it is a pointer of Git LFS; the pointer is recorded, and not its content",
        "sub": "it is a submodule; import it by itself",
    }
    run = session.run("project")
    assert contents(run) == {"model.bin": pointer}
    kept = dict(run.snapshots()[0].notes["imported"]["skipped"])
    assert kept.keys() == {"model.bin", "sub"}


@alone
def test_no_path_leads_out(session, repository, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    repository.commit_tree(
        [
            (b"100644", b"..", b"up"),
            (b"100644", b".", b"here"),
            (b"100644", b"../outside/planted", b"planted"),
            (b"100644", b"/abs", b"abs"),
            (b"100644", b"good", b"good"),
            (b"120000", b"link", os.fsencode(outside)),
            (b"120000", b"none", b""),
            (b"100644", b"n" * 300, b"long"),
        ]
    )
    report = read_git(session, repository.path)
    assert {each.path: each.reason for each in report.skipped} == {
        "..": "its path is none in a directory",
        ".": "its path is none in a directory",
        "../outside/planted": "its path is none in a directory",
        "/abs": "its path is absolute",
        "none": "it is a link to a name that nothing can have",
        "n" * 300: "this machine can't have it: File name too long",
    }
    run = session.run("project")
    assert contents(run) == {"good": b"good", "link": os.fsencode(outside)}
    assert os.listdir(outside) == ["secret"]
    write(repository.path, {"good": b"better"})
    assert read_git(session, repository.path).snapshots == 0


@alone
def test_nothing_is_written_through_a_link_of_the_same_commit(session, repository, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    inner = repository("hash-object", "-w", "--stdin", data=b"planted")
    tree = b"100644 planted\0" + bytes.fromhex(inner)
    oid = repository("hash-object", "-t", "tree", "-w", "--stdin", data=tree)
    repository.commit_tree([(b"120000", b"d", os.fsencode(outside)), (b"40000", b"d", oid)])
    with pytest.raises(ImportMismatchError, match="'d' in snapshot 1"):
        read_git(session, repository.path)
    assert os.listdir(outside) == []


@alone
def test_what_git_can_not_read_is_reported(session, repository, history):
    write(repository.path, {"lost": b"lost", "found": b"found"})
    repository.commit("both")
    write(repository.path, {"later": b"later"})
    repository.commit("later")
    oid = repository("rev-parse", "HEAD:lost")
    (repository.path / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    report = read_git(session, repository.path)
    (skipped,) = report.skipped
    assert skipped == ("lost", f"git can't read the object {oid}; see `git fsck`")
    run = session.run("project")
    assert run.read_bytes("later") == b"later"
    assert "lost" not in run
    write(repository.path, {"last": b"last"})
    repository("add", "last")
    tree = repository("write-tree", "--missing-ok")
    repository("update-ref", "HEAD", repository("commit-tree", "-m", "l", "-p", "HEAD", tree))
    assert read_git(session, repository.path).skipped == ()


@alone
def test_a_damaged_object_is_reported(session, repository):
    write(repository.path, {"a": b"a" * 100})
    oid = repository.commit("one") and repository("rev-parse", "HEAD:a")
    file = repository.path / ".git" / "objects" / oid[:2] / oid[2:]
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:10])
    assert [each.path for each in read_git(session, repository.path).skipped] == ["a"]


@alone
def test_a_damaged_commit_or_tree_ends_the_import(session, repository, history):
    tree = repository("rev-parse", f"{history[3]}^{{tree}}")
    (repository.path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(ImportSourceError, match="git can't read the object"):
        read_git(session, repository.path)
    assert len(session.run("project").snapshots()) == 2


@alone
def test_a_commit_of_billions_of_paths_is_refused(session, repository, monkeypatch):
    monkeypatch.setattr("index.imports.git_objects._MAX_PATHS", 1000)
    oid = repository("hash-object", "-w", "--stdin", data=b"x")
    entries = [(b"100644", b"f%d" % n, oid) for n in range(10)]
    for _ in range(9):
        tree = b"".join(b"%s %s\0%s" % (m, n, bytes.fromhex(oid)) for m, n, oid in entries)
        oid = repository("hash-object", "-t", "tree", "-w", "--stdin", data=tree)
        entries = [(b"40000", b"d%d" % n, oid) for n in range(10)]
    repository.commit_tree(entries)
    with pytest.raises(ImportSourceError, match="changes more than 1000 paths"):
        read_git(session, repository.path)


@alone
def test_a_run_with_another_history_is_refused(session, repository, history):
    session.run("mine").put("a", b"1")
    with pytest.raises(ImportSourceError, match="has a history of its own"):
        read_git(session, repository.path, run="mine")
    read_git(session, repository.path)
    repository("commit", "-q", "--amend", "-m", "Another")
    with pytest.raises(ImportSourceError, match="which this history does not have"):
        read_git(session, repository.path)


@alone
def test_what_is_no_repository_is_refused(session, repository, history, tmp_path):
    with pytest.raises(ImportSourceError, match="it is no git repository"):
        read_git(session, tmp_path)
    with pytest.raises(ImportSourceError, match="it has no commit 'gone'"):
        read_git(session, repository.path, rev="gone")
    with pytest.raises(ImportSourceError, match="it has no commit '--all'"):
        read_git(session, repository.path, rev="--all")
    repository("config", "extensions.partialClone", "origin")
    repository("config", "core.repositoryFormatVersion", "1")
    with pytest.raises(ImportSourceError, match="it is a partial clone"):
        read_git(session, repository.path)
    with pytest.raises(UnknownSessionError):
        session.runs()


@alone
def test_git_runs_nothing_of_the_repository(session, repository, history, tmp_path, monkeypatch):
    write(repository.path, {".gitattributes": b"* filter=evil diff=evil\n"})
    repository.commit("attributes")
    mark = tmp_path / "ran"
    for name in ("filter.evil.smudge", "diff.evil.textconv", "core.fsmonitor", "core.pager"):
        repository("config", name, f"touch {mark}")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert read_git(session, repository.path).snapshots == 6
    assert not mark.exists()


@alone
def test_others_that_write_at_the_same_time_end_it(session, repository, history, monkeypatch):
    def track(self, *arguments, **options):
        if options["notes"]["subject"] == "No plan":
            self.put("theirs", b"1")
        return original(self, *arguments, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(ImportSourceError, match="import again to go on"):
        read_git(session, repository.path)
    monkeypatch.undo()
    assert read_git(session, repository.path).snapshots == 2


@alone
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda listed: listed.pop("run.sh"), "'run.sh' in snapshot 5: the source does not"),
        (lambda listed: listed.update(new=listed["run.sh"]), "'new' in snapshot 5: it is missing"),
        (
            lambda listed: listed.update({"run.sh": listed["data/a.csv"]}),
            "'run.sh' in snapshot 5: it has other bytes",
        ),
    ],
    ids=["more", "fewer", "others"],
)
def test_what_differs_from_the_listing_is_an_error(
    session, repository, history, monkeypatch, change, said
):
    def list_files(self, commit):
        listed = original(self, commit)
        change(listed)
        return listed

    original = GitRepository.list_files
    monkeypatch.setattr(GitRepository, "list_files", list_files)
    with pytest.raises(ImportMismatchError, match=said):
        read_git(session, repository.path)


@alone
def test_bytes_are_read_back_and_compared(session, repository, history, monkeypatch):
    def iter_blob(self, oid):
        for piece in original(self, oid):
            yield piece.replace(b"b\n", b"B\n")

    original = GitRepository.iter_blob
    monkeypatch.setattr(GitRepository, "iter_blob", iter_blob)
    with pytest.raises(ImportMismatchError, match=r"'data/b.csv' in snapshot 2: it has other"):
        read_git(session, repository.path)


def test_an_import_is_in_one_session(store, repository, history):
    read_git(store.session("a"), repository.path)
    read_git(store.session("b"), repository.path)
    assert [len(store.session(name).run("project").snapshots()) for name in "ab"] == [5, 5]


@alone
def test_it_comes_back_when_the_index_is_lost(place, repository, history):
    from index import recover

    with ArtifactStore.open(**place) as store:
        read_git(store.session("s"), repository.path)
        before = [
            (each.notes, each.provenance) for each in store.session("s").run("project").snapshots()
        ]
    os.unlink(os.path.join(place["root"], "index.db"))
    recover(place["root"])
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("project")
        assert [(each.notes, each.provenance) for each in run.snapshots()] == before
        assert read_git(store.session("s"), repository.path).snapshots == 0
