"""The command, as it runs in a shell."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import click
import pytest
from places import credentials_of, everywhere, objects_of, on_one, packs_of
from sqlalchemy import make_url
from trees import read, write

from cas.digest import Digest
from index.cli import main
from index.cli.commands import cas as group
from index.cli.terminal import printable
from index.db import schema
from index.domain.units import human_size

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()


@pytest.fixture
def tracked(cas, place, tmp_path, monkeypatch):
    """The command in a directory that has or names the store, after one track."""
    for name, value in credentials_of(place).items():
        monkeypatch.setenv(name, value)
    if "root" in place:
        (tmp_path / ".cas").symlink_to(place["root"])
    else:
        lines = (f"{name} = {json.dumps(str(place[name]))}\n" for name in ("index", "blobs"))
        (tmp_path / "cas.toml").write_text("".join(lines))
    write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
    assert cas("track", "work", "--phase", "control", "--agent", "engineer")[0] == 0
    return cas


def test_tracking_and_listing_without_any_option(cas, tmp_path):
    write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
    code, out, _ = cas("track", "work")
    assert code == 0
    assert out.startswith("work: snapshot 1, 2 added, 0 changed, 0 removed")
    assert (tmp_path / ".cas" / "cas.json").is_file()
    _, out, _ = cas("ls", "-R")
    assert [line.split()[-1] for line in out.splitlines()] == ["data/r.csv", "plan.md"]
    assert str(Digest.of(b"a plan"))[:12] in out
    assert cas("track", "work")[1].startswith("work: nothing new, 0 added")


@pytest.mark.parametrize(
    "arguments", [("track", "typo"), ("put", "typo", "--run", "r"), ("track", "work", "--run", "")]
)
def test_a_mistyped_call_makes_no_store(cas, tmp_path, arguments):
    (tmp_path / "work").mkdir()
    assert cas(*arguments)[0] in (1, 2)
    assert not (tmp_path / ".cas").exists()


def test_who_takes_the_digits_that_listings_show(tracked):
    shown = next(word for word in tracked("ls", "-R")[1].split() if len(word) == 64)[:12]
    assert (
        tracked("who", shown)[:2] == tracked("who", "plan.md")[:2]
        or "data/r.csv" in (tracked("who", shown)[1])
    )
    assert tracked("who", shown[:7])[0] == 0


@on_one(because="errors have the same words on all")
@pytest.mark.parametrize("what", ["nothing/here", "0" * 64, "0000000", "0" * 12])
@pytest.mark.parametrize("more", [(), ("--json",), ("--all-sessions",), ("--session", "nobody")])
def test_who_answers_alike_for_whatever_is_not_there(tracked, what, more):
    code, out, err = tracked("who", what, *more)
    assert (code, out) == (4, "")
    assert "was ever recorded" in err


def test_a_fork_of_a_run_that_has_no_snapshots(tracked):
    assert tracked("fork", "empty", "--run", "work", "--at", "0")[0] == 0
    code, out, _ = tracked("fork", "again", "--run", "empty")
    assert (code, out) == (0, "run again begins at snapshot 0 of empty with 0 files\n")
    assert "it has none yet" in tracked("fork", "third", "--run", "empty", "--at", "3")[2]


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_a_deletion_that_nobody_agrees_to_deletes_nothing(tracked, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    code, _, err = tracked("rm", "--run", "work")
    assert code == 1
    assert "nothing was deleted" in err
    assert tracked("ls", "--run", "work")[0] == 0
    assert tracked("rm", "--run", "nobody")[0] == 4


def imported_by(*arguments):
    """Return the modules that a command has imported at its end, in a process of its own."""
    code = (
        "import sys\nfrom index.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_imports_nothing_that_opens_a_store():
    imported = imported_by("--help")
    assert "index.cli.read" in imported
    assert not imported & {
        *("sqlalchemy", "zstandard", "cas.store", "index.api.store", "index.scan.scanner"),
        *("index.domain.snapshots", "index.maintenance.gc.plan"),
    }


@pytest.mark.usefixtures("tracked")
def test_a_listing_imports_nothing_that_writes_to_a_run():
    imported = imported_by("ls")
    assert {"sqlalchemy", "index.api.run"} <= imported
    assert not imported & {
        *("index.commit.track", "index.commit.named", "index.scan.scanner", "sqlalchemy.orm"),
    }


@pytest.mark.usefixtures("tracked")
def test_a_status_imports_nothing_that_watches_or_compresses():
    imported = imported_by("status")
    assert "index.scan.scanner" in imported
    unwanted = {"watchfiles", "index.scan.events", "index.commit.describe"}
    if "httpx" not in imported:  # which clients of S3 use where it is installed, and it uses rich
        unwanted.add("rich")
    assert not imported & unwanted


def test_help_does_without_the_database_library():
    code = (
        "import sys\nfrom index.cli import main\n"
        "try: main(['track', '--help'])\n"
        "except SystemExit: pass\n"
        "print('sqlalchemy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stderr, done.stdout[:6]) == ("False\n", "Usage:")


class TestANotedStore:
    """`cas init --index --blobs` writes cas.toml, which commands in subdirectories find."""

    def test_it_is_found_from_below_and_its_paths_are_relative_to_it(
        self, cas, tmp_path, monkeypatch
    ):
        write(tmp_path / "work", {"a": b"1"})
        code, out, _ = cas("init", "--index", "sqlite:///runs.db", "--blobs", "blobs")
        assert (code, "cas.toml" in out) == (0, True)
        text = (tmp_path / "cas.toml").read_text()
        assert text == 'index = "sqlite:///runs.db"\nblobs = "blobs"\n'
        monkeypatch.chdir(tmp_path / "work")
        assert cas("track", ".", "--run", "r")[0] == 0
        assert cas("cat", "a")[1] == "1"
        assert cas("db", "current")[0] == 0
        assert (tmp_path / "runs.db").is_file()
        assert (tmp_path / "blobs" / "cas.json").is_file()
        assert [path.name for path in (tmp_path / "work").iterdir()] == ["a"]

    def test_it_may_be_noted_twice_but_not_with_another_store(self, cas, tmp_path):
        for _ in range(2):
            assert cas("init", "--index", "sqlite:///runs.db", "--blobs", "blobs")[0] == 0
        code, _, err = cas("init", "--index", "sqlite:///other.db", "--blobs", "other")
        assert (code, "names another store" in err) == (2, True)

    def test_a_password_is_not_noted(self, cas, tmp_path, postgres):
        url = make_url(postgres.create()).set(password="hidden-word")  # noqa: S106
        told = url.render_as_string(hide_password=False)
        code, _, err = cas("init", "--index", told, "--blobs", "blobs")
        assert (code, "PGPASSWORD" in err) == (2, True)
        assert "hidden-word" not in err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", ["not toml", 'index = "sqlite:///x.db"', "\0"])
    def test_a_note_that_cannot_be_read_says_what_it_needs(self, cas, tmp_path, text):
        (tmp_path / "cas.toml").write_text(text)
        code, _, err = cas("ls")
        assert (code, "needs two lines" in err) == (2, True)

    def test_it_may_say_how_long_to_wait(self, cas, tmp_path):
        config = tmp_path / "cas.toml"
        lines = 'index = "sqlite:///runs.db"\nblobs = "blobs"\n'
        config.write_text(f'{lines}lock_wait = "1s"\ndatabase_wait = "2m"\nstorage_wait = "0"\n')
        assert cas("init")[0] == 0
        with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            write(tmp_path / "work", {"a": b"1"})
            code, _, err = cas("track", "work")
        assert (code, "locked by another writer for 1 s" in err) == (5, True)
        config.write_text(f'{lines}lock_wait = "soon"\n')
        code, _, err = cas("ls")
        assert (code, "'soon' is no span of time" in err) == (2, True)

    def test_it_may_have_options_of_the_storage_but_no_credentials(self, cas, tmp_path, s3):
        config = tmp_path / "cas.toml"
        lines = f'index = "sqlite:///runs.db"\nblobs = "{s3.url}"\n[storage_options]\n'
        config.write_text(
            f'{lines}endpoint_url = "{s3.options()["endpoint_url"]}"\n'
            'config_kwargs = { request_checksum_calculation = "when_required" }\n'
        )
        with pytest.MonkeyPatch.context() as patch:
            for name, value in credentials_of({"storage_options": s3.options()}).items():
                if name != "AWS_ENDPOINT_URL":
                    patch.setenv(name, value)
            write(tmp_path / "work", {"a": b"1"})
            assert cas("track", "work")[0] == 0
            assert cas("cat", "a")[1] == "1"
        config.write_text(f'{lines}secret = "hidden-word"\n')
        code, _, err = cas("ls")
        assert (code, "service's own tools look" in err, "hidden-word" in err) == (2, True, False)

    def test_options_and_environment_go_before_it(self, cas, tmp_path, monkeypatch):
        assert cas("init", "--index", "sqlite:///runs.db", "--blobs", "blobs")[0] == 0
        monkeypatch.setenv("CAS_STORE", str(tmp_path / "own"))
        assert "own" in cas("init")[1]


@everywhere
def test_the_nearest_store_upward_is_used(tracked, tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert tracked("ls")[0] == 0
    assert not (tmp_path / "deep" / "er" / ".cas").exists()


def test_track_json_is_one_object_with_the_promised_keys(cas, tmp_path):
    write(tmp_path / "work", {"a": b"1", "b": b"2"})
    cas("track", "work")
    write(tmp_path / "work", {"a": b"22", "c": b"3"})
    (tmp_path / "work" / "b").unlink()
    os.mkfifo(tmp_path / "work" / "fifo")
    code, out, _ = cas("track", "work", "--json", "--run", "work", "--node", "n")
    found = json.loads(out)
    assert code == 0
    assert {
        "session",
        "run",
        "snapshot",
        "added",
        "changed",
        "removed",
        "unchanged",
        "skipped",
        "bytes_read",
        "bytes_stored",
        "elapsed_s",
    } <= found.keys()
    assert (found["session"], found["run"], found["snapshot"]) == ("default", "work", 2)
    assert [v["path"] for v in found["changed"]] == ["a"]
    assert found["added"][0]["digest"] == str(Digest.of(b"3"))
    assert found["added"][0]["size"] == 1
    assert [v["path"] for v in found["removed"]] == ["b"]
    assert found["skipped"] == [{"path": "fifo", "reason": "it is a FIFO"}]
    assert found["bytes_read"] == 3
    assert found["node_id"] == "n"


def test_skipped_files_are_told_on_stderr(cas, tmp_path):
    (tmp_path / "work").mkdir()
    os.mkfifo(tmp_path / "work" / "fifo")
    code, _, err = cas("track", "work")
    assert (code, err) == (0, "skipped fifo: it is a FIFO\n")


def test_listings_filter_and_go_back(tracked, tmp_path):
    write(tmp_path / "work", {"plots/p.png": b"png"})
    tracked("track", "work", "--agent", "plotter")
    assert tracked("ls", "--agent", "plotter")[1].split()[-1] == "plots/p.png"
    assert len(tracked("ls", "--type", "data")[1].splitlines()) == 1
    assert len(tracked("ls", "-R", "--at", "1")[1].splitlines()) == 2
    assert tracked("ls", "--prefix", "plo", "--json")[1].count('"path"') == 1
    assert tracked("ls", "--final")[1] == ""


def test_log_shows_every_version(tracked, tmp_path):
    write(tmp_path / "work", {"plan.md": b"another plan"})
    tracked("track", "work", "--agent", "planner", "--phase", "planning")
    out = tracked("log", "plan.md")[1].splitlines()
    assert len(out) == 2
    assert out[0].startswith("1\t1..2\t")
    assert str(Digest.of(b"a plan")) in out[0]
    assert "planning" in out[1]
    assert len(json.loads(tracked("log", "plan.md", "--json")[1])) == 2


def test_snapshots_tell_counts(tracked, tmp_path):
    write(tmp_path / "work", {"plan.md": b"another plan"})
    tracked("track", "work")
    out = tracked("snapshots")[1].splitlines()
    assert ["+2 ~0 -0" in out[0], "+0 ~1 -0" in out[1]] == [True, True]
    assert json.loads(tracked("snapshots", "--json")[1])[1]["changed"][0]["version"] == 2


def test_cat_writes_exact_bytes_of_any_version(tracked, tmp_path, capfdbinary):
    write(tmp_path / "work", {"plan.md": bytes(range(256)), "odd@2": b"odd"})
    tracked("track", "work")
    with pytest.raises(SystemExit):
        main(["cat", "plan.md"])
    assert capfdbinary.readouterr().out == bytes(range(256))
    assert tracked("cat", "plan.md@1")[1] == "a plan"
    assert tracked("cat", "plan.md", "--at", "1")[1] == "a plan"
    assert tracked("cat", "odd@2")[1] == "odd"
    assert tracked("cat", "plan.md@7")[0] == 4


def test_put_records_a_file_or_standard_input(tracked, tmp_path, monkeypatch):
    (tmp_path / "report.md").write_bytes(b"report")
    assert tracked("put", "report.md", "--final")[0] == 0
    assert tracked("ls", "--final")[1].split()[-2:] == ["report.md", "(final)"]
    monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": io.BytesIO(b"report")})())
    code, out, _ = tracked("put", "-", "--as", "in/put.md", "--json", "--agent", "me")
    assert code == 0
    assert json.loads(out)["agent"] == "me"
    assert tracked("put", "-")[0] == 2


@everywhere
def test_restore_brings_everything_back(tracked, tmp_path):
    code, out, _ = tracked("restore", "--to", "out")
    assert (code, out) == (0, "2 files written (10 B), 0 there already\n")
    assert read(tmp_path / "out") == read(tmp_path / "work")
    write(tmp_path / "out", {"plan.md": b"mine"})
    code, _, err = tracked("restore", "--to", "out", "plan.md")
    assert (code, err.count("\n")) == (1, 1)
    assert "--overwrite" in err
    assert tracked("restore", "--to", "out", "plan.md", "--overwrite", "--json")[0] == 0


@everywhere
def test_stats_of_store_and_run(tracked):
    out = tracked("stats")[1]
    assert "runs\t1\n" in out
    assert re.fullmatch(r"default\twork\t\t1\t2\t10\t\S+\t\t\t\t\S+/work\n", tracked("runs")[1])
    assert json.loads(tracked("stats", "--json")[1])["runs"] == 1
    assert json.loads(tracked("stats", "--run", "work", "--json")[1])["files"] == 2


def test_init_is_idempotent(cas, tmp_path):
    first = json.loads(cas("--store", tmp_path / "s", "init", "--json")[1])
    assert json.loads(cas("--store", tmp_path / "s", "init", "--json")[1]) == first
    assert "is ready at" in cas("--store", tmp_path / "s", "init")[1]


def test_places_come_from_options_or_the_environment(cas, tmp_path, monkeypatch):
    write(tmp_path / "work", {"a": b"1"})
    monkeypatch.setenv("CAS_INDEX", f"sqlite:///{tmp_path}/i.db")
    monkeypatch.setenv("CAS_BLOBS", str(tmp_path / "blobs"))
    assert cas("track", "work")[0] == 0
    assert len(packs_of(objects_of({"blobs": tmp_path / "blobs"}))) == 1
    assert cas("--store", "x", "ls")[0] == 2
    monkeypatch.delenv("CAS_BLOBS")
    assert cas("ls")[0] == 2
    assert cas("db", "check")[0] == 0
    monkeypatch.delenv("CAS_INDEX")
    monkeypatch.setenv("CAS_STORE", str(tmp_path / "other"))
    assert cas("track", "work")[0] == 0
    assert (tmp_path / "other" / "index.db").exists()


def test_which_run_is_asked_for_when_there_are_several(tracked, tmp_path):
    tracked("track", "work", "--run", "second")
    code, _, err = tracked("ls")
    assert code == 2
    assert "name the run with --run; the newest are: work, second" in err
    assert tracked("ls", "--run", "second")[0] == 0


@on_one(because="errors have the same words on all")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["track", "missing"], 1, "no such directory"),
        (["track", "work/plan.md"], 1, "`cas put` records a single file"),
        (["track", "work", "--run", "a/b"], 2, "contains a '/'"),
        (["track", "work", "--session", ""], 2, "it is empty"),
        (["track", "work", "--run", "x" * 300], 2, "300 characters"),
        (["track", "work", "--run", ".."], 2, "relative path"),
        (["track", "work", "--scope", "../x"], 2, "'..'"),
        (["ls", "--run", "nope"], 4, "no run 'nope'"),
        (["ls", "--session", "nope"], 4, "no session 'nope'"),
        (["ls", "--at", "9"], 4, "its snapshots are 1 to 1"),
        (["log", "nope"], 4, "no 'nope'"),
        (["cat", "../etc/passwd"], 2, "'..'"),
        (["--store", "nowhere", "ls"], 4, "cas init"),
        (["--store", "work/plan.md", "init"], 2, "--store takes a directory, not the file"),
        (["--index", "nosuch://x", "--blobs", "b", "ls"], 5, "can't be used"),
        (["unknown"], 2, "there is no command 'unknown'"),
        (["track", "work", "--ignore", "!"], 2, "error: "),
        (["cat", "plan.md@99999999999999999999999"], 4, "has no"),
        (["--index", "sqlite:///x.db", "--blobs", "nothing://b/c", "ls"], 2, "'nothing'"),
        (["track", "/"], 2, "name the run with --run"),
        (["ls", "--what"], 2, "No such option"),
        (["--store", "nowhere", "db", "check"], 4, "cas init"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(tracked, arguments, code, says):
    got, out, err = tracked(*arguments)
    assert got == code
    assert says in err
    assert out == ""
    assert "Traceback" not in err


def test_damage_is_exit_code_3(tracked, objects):
    (pack,) = packs_of(objects)
    data = objects.read(pack)
    objects.write(pack, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    codes = {tracked("cat", "plan.md")[0], tracked("cat", "data/r.csv")[0]}
    assert 3 in codes
    objects.remove(pack)
    code, _, err = tracked("cat", "plan.md")
    assert code == 3
    assert "'plan.md'" in err


def test_an_old_schema_is_exit_code_6_with_the_command_that_mends_it(tracked, place, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(schema, "HEAD", "0002")
        code, _, err = tracked("ls")
    assert code == 6
    command = err.split("`")[1]
    assert command.startswith(
        f"cas --index {make_url(place.get('index', 'sqlite://')).drivername}://"
    )
    assert tracked(*command.split()[1:])[0] == 0
    assert tracked("db", "current")[1] == f"{schema.HEAD} (this release works with {schema.HEAD})\n"
    assert json.loads(tracked("db", "current", "--json")[1])["head"] == schema.HEAD


def test_output_that_cannot_be_written_is_one_sentence(tracked):
    code = "from index.cli import main; main()"
    with open("/dev/full", "wb") as full:
        outcome = subprocess.run(
            [sys.executable, "-c", code, "ls"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert outcome.returncode == 1
    assert outcome.stderr.count("\n") == 1
    assert "No space left" in outcome.stderr


def test_names_cannot_move_the_cursor(cas, tmp_path):
    write(tmp_path / "work", {"evil\x1b[2J\n.txt": b"1"})
    Path(os.fsdecode(bytes(tmp_path) + b"/work/\xff")).write_bytes(b"2")
    cas("track", "work", "--agent", "tab")
    code, out, _ = cas("ls")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out
    assert r"evil\x1b[2J\n.txt" in out
    assert r"\udcff" in out
    assert {v["path"] for v in json.loads(cas("ls", "-R", "--json")[1])} == {
        "evil\x1b[2J\n.txt",
        "\udcff",
    }


def test_no_progress_bar_in_a_pipe(tracked):
    _, out, err = tracked("restore", "--to", "out")
    assert err == ""
    assert "\r" not in out


def test_a_terminal_gets_a_progress_bar(tmp_path, store_root):
    write(tmp_path / "work", {f"{n}": b"%d" % n for n in range(600)})
    ours, theirs = os.openpty()
    code = "from index.cli import main; main()"
    arguments = [sys.executable, "-c", code, "--store", store_root, "track", tmp_path / "work"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # reading from a closed terminal raises EIO
            while piece := os.read(ours, 4096):
                shown += piece
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"tracking" in shown
    assert b"files" in shown
    assert out.startswith(b"work: snapshot 1, 600 added")


def test_a_reader_that_has_enough_gets_no_traceback(tmp_path, store_root):
    write(tmp_path / "work", {"1": b"x" * 9_999_999})
    cas = f"{sys.executable} -c 'from index.cli import main; main()' --store {store_root}"
    track = f"{cas} track {tmp_path / 'work'}"
    script = f"{track} && {cas} cat 1 | head -c 10"
    outcome = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert outcome.stderr == ""
    assert outcome.stdout.endswith("\nxxxxxxxxxx")


def commands(command, path=()):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


def test_there_are_the_commands_of_the_page():
    told = {path[0] for path, _ in commands(group) if path}
    assert told == set(re.findall(r"^\| `cas (\w+)", PAGE, re.MULTILINE))


@pytest.mark.parametrize(("path", "command"), list(commands(group)), ids=lambda x: str(x)[:30])
def test_every_command_has_help_and_an_example(path, command):
    assert command.help
    if not hasattr(command, "commands") and path[0] != "db":
        assert f"cas {path[0]}" in command.help or "cas --store" in command.help
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.hidden:
            assert parameter.name in ("quiet", "verbose", "log_file", "store")


def test_every_command_is_on_the_page():
    for path, command in commands(group):
        if path and not hasattr(command, "commands"):
            assert f"`cas {' '.join(path)}" in PAGE


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 50, "5.0 PiB")],
)
def test_sizes_are_shown_in_binary_units(size, shown):
    assert human_size(size) == shown


def test_printable_leaves_ordinary_text_alone():
    assert printable("größe 1.csv") == "größe 1.csv"
    assert printable("a\u202eb\x07") == r"a\u202eb\x07"


def test_paths_are_removed_from_a_run_and_keep_their_history(tracked):
    path = json.loads(tracked("ls", "-R", "--run", "work", "--json")[1])[0]["path"]
    code, out, _ = tracked("rm", "--run", "work", path, "--agent", "cleaner", "--json")
    removed = json.loads(out)
    assert (code, removed["run"], removed["snapshot"]) == (0, "work", 2)
    assert [each["path"] for each in removed["removed"]] == [path]
    assert path not in tracked("ls", "-R", "--run", "work")[1]
    assert tracked("cat", f"{path}@1", "--run", "work")[0] == 0
    assert "cleaner" in tracked("snapshots", "--run", "work")[1]
    assert tracked("rewind", "1", "--run", "work")[0] == 0
    code, out, _ = tracked("rm", path)  # the session's only run
    assert (code, out.startswith("removed 1 file from work in snapshot 4")) == (0, True)
    code, _, err = tracked("rm", path)
    assert (code, "has no" in err) == (4, True)


@pytest.mark.parametrize("mixed", [("--yes",), ("--whole-session",)])
def test_a_removal_of_paths_takes_no_option_of_a_deletion(tracked, mixed):
    """So that a script's list of paths that turns out empty does not delete the run."""
    code, _, err = tracked("rm", "--run", "work", *mixed, "any")
    assert (code, "go with deletions" in err) == (2, True)
    assert tracked("rm", "--run", "work", "--agent", "a", "--yes")[0] == 2
    assert tracked("rm")[0] == 2
    assert tracked("ls", "--run", "work")[0] == 0


def test_a_put_tells_what_it_did_not_take_and_what_was_in_its_way(cas, tmp_path):
    (tmp_path / "f").write_text("1")
    assert cas("put", "f", "--run", "r", "--agent", "maker", "--final", "--type", "odd")[0] == 0
    code, _, err = cas("put", "f", "--run", "r", "--agent", "late")
    assert (code, "agent late (maker is recorded)" in err) == (0, True)
    assert json.loads(cas("put", "f", "--run", "r", "--agent", "l", "--json")[1])["refused"] == {
        "phase": None, "agent": "l", "node_id": None, "step_id": None, "event_id": None,
        "code_hash": None,
    }  # fmt: skip
    (tmp_path / "f").write_text("2")
    code, _, err = cas("put", "f", "--run", "r", "--expected-version", "0")
    assert (code, "version 1 of it is current" in err) == (1, True)
    out = cas("put", "f", "--run", "r", "--expected-version", "1", "--json")[1]
    assert (json.loads(out)["is_final_output"], json.loads(out)["file_type"]) == (True, "odd")
    assert "refused" not in json.loads(out)
    out = cas("put", "f", "--run", "r", "--not-final", "--type", "", "--json")[1]
    assert (json.loads(out)["is_final_output"], json.loads(out)["file_type"]) == (False, "other")


def test_a_scan_marks_final_outputs(cas, tmp_path):
    (tmp_path / "w").mkdir()
    for name in ("a.pdf", "b.txt"):
        (tmp_path / "w" / name).write_text(name)
    cas("track", "w")
    assert cas("track", "w", "--final", "*.pdf")[0] == 0
    out = json.loads(cas("ls", "--final", "--json")[1])
    assert [each["path"] for each in out] == ["a.pdf"]
