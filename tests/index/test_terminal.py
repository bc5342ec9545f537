"""Recorded text cannot control a terminal: every command escapes it.

Names come from archives, from agents, and from an index that somebody else wrote; shells complete
them into arguments. The tests plant them with SQL where the library would refuse them, in every
text column, and also give them as arguments.
"""

from __future__ import annotations

import io
import json
import sqlite3
import unicodedata

import pytest
from trees import write

from index import ArtifactStore
from index.cli.commands import cas as group

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x08\x9b31m\x85\u202e\u2066\u200f\u2028\x7f\ue000end"
"""Title, clear, return, backspace, C1, next line, bidi controls, separator, delete, private use."""

SPOKEN = "\u202egnp.\u2066exe\u200f"
"""A label that the library accepts: it has no control character in the narrow sense."""

LABELS = ("phase", "agent", "node_id", "step_id", "event_id", "code_hash")
LABEL_COLUMNS = (
    "workflow_phase", "generating_agent", "node_id", "step_id", "event_id", "generating_code_hash",
)  # fmt: skip

HERE = ("--session", "s", "--run", "r")

CALLS = {
    "init": [()],
    "track": [("w", *HERE), (f"missing{EVIL}",), ("w", "--session", EVIL), ("w", "--run", EVIL),
              ("w", *HERE, "--scope", f"../{EVIL}"), ("w", *HERE, "--agent", EVIL),
              ("w", *HERE, "--ignore", EVIL), (f"dir{EVIL}",)],
    "status": [("w", *HERE), HERE, (f"dir{EVIL}",), (f"missing{EVIL}",), ("w", "--run", EVIL),
               ("--session", "s"), ("--session", EVIL), ("w", *HERE, "--scope", f"../{EVIL}")],
    "watch": [(f"missing{EVIL}",), ("w", "--session", EVIL), ("w", "--quiet-period", EVIL),
              ("w", *HERE, "--scope", f"../{EVIL}")],
    "serve": [("--session", EVIL), ("--host", f"127.{EVIL}"), ("--token", EVIL),
              ("--session", SPOKEN, "--port", EVIL)],
    "run": [("--dir", "w", *HERE, "printf", EVIL), (f"missing{EVIL}",), (f"w/{EVIL}",),
            ("--dir", "w", *HERE, "--agent", EVIL, "true"), (f"--{EVIL}", "true"),
            ("--dir", "w", *HERE, "sh", "-c", f"exit 3 # {EVIL}")],
    "put": [(f"w/{EVIL}", *HERE), (f"missing{EVIL}", *HERE), ("w/new", "--as", f"../{EVIL}", *HERE),
            ("w/new", "--as", EVIL, *HERE, "--type", SPOKEN), ("w/new", "--session", "s")],
    "runs": [(), ("--session", "s"), ("--session", EVIL)],
    "config": [()],
    "doctor": [(), ("--json",)],
    "completion": [("bash",), (EVIL,)],
    "ls": [HERE, (*HERE, "-R"), (*HERE, EVIL), (*HERE, "w", "-R"), (*HERE, "--agent", SPOKEN),
           (*HERE, "--type", EVIL), (*HERE, "--priority", EVIL),
           (*HERE, "--at", EVIL), (*HERE, EVIL), (*HERE, f"--{EVIL}"), ("--session", "s"),
           ("--session", SPOKEN), ("--session", "only"), ("--session", "none"),
           (*HERE, "--prefix", EVIL)],
    "find": [("--session", "s"), (EVIL, "--session", "s"), ("--all-sessions",),
             ("a", "--run", EVIL), (f"{EVIL}/*", "--session", "s"),
             ("--session", "s", "--agent", f"{SPOKEN}n"),
             ("--session", "s", "--all-versions", "--type", EVIL), ("--digest", EVIL),
             ("--since", EVIL), ("--larger", EVIL), ("--session", EVIL),
             ("--where", EVIL), ("--where", f"agent = '{EVIL}'", "--session", "s"),
             ("--session", SPOKEN, "--agent", SPOKEN)],
    "log": [(EVIL, *HERE), (f"missing{EVIL}", *HERE), (f"../{EVIL}", *HERE), ("a", *HERE)],
    "show": [("r", "--session", "s"), ("@1", *HERE), ("@2", *HERE), ("a", *HERE), ("a@1", *HERE),
             (EVIL, *HERE), (EVIL, "--session", "s"), (f"{EVIL}@1", "--session", "s"),
             (SPOKEN, "--session", "s"), (f"x{EVIL}", "--session", "s", "--run", SPOKEN)],
    "snapshots": [HERE, ("--session", "s", "--run", SPOKEN)],
    "cat": [(f"missing{EVIL}", *HERE), (f"{EVIL}@9", *HERE), ("lost", *HERE),
            ("a", f"missing{EVIL}", *HERE)],
    "restore": [("--to", "out", *HERE), ("--to", "out", *HERE, "--overwrite"),
                ("--to", f"out{EVIL}", EVIL, *HERE), ("--to", f"w/{EVIL}", *HERE), HERE,
                ("--to", "out", f"missing{EVIL}", *HERE), (f"missing{EVIL}", *HERE),
                ("--to", "clash", *HERE), ("--to", "lost", "lost", *HERE),
                ("--dry-run", "--overwrite", "--at", "1", *HERE),
                ("--to", "new", "--dry-run", *HERE),
                ("--to", "out", "--at", "0", "--delete", *HERE)],
    "diff": [("1", "2", *HERE), ("1", *HERE, "--by", "agent"), ("1", *HERE, "--by", EVIL),
             (f"{EVIL}@1", f"{EVIL}@2", *HERE), (SPOKEN, "r", "--session", "s"),
             ("0", "--text", *HERE), ("0", "--stat", *HERE), ("0", EVIL, *HERE)],
    "who": [("a", "--session", "s"), (EVIL, "--session", "s"), (f"missing{EVIL}",),
            (EVIL, "--session", EVIL), ("a", "--all-sessions"), (f"w/{EVIL}", "--session", "s")],
    "use": [("a", *HERE), (EVIL, *HERE), (f"missing{EVIL}", *HERE), (f"x://{EVIL}", *HERE),
            ("a", *HERE, "--agent", EVIL), ("a", *HERE, "--keep-as", f"../{EVIL}"), HERE],
    "lineage": [("a", *HERE), (EVIL, *HERE), (f"missing{EVIL}", "--session", "s"),
                ("a", *HERE, "--down", "--format", "dot"), (EVIL, *HERE, "--format", "mermaid"),
                ("a", "--session", EVIL)],
    "stale": [("--session", "s"), (EVIL, "--session", "s"), ("--run", EVIL)],
    "fork": [(SPOKEN + "2", *HERE), (EVIL, *HERE), (SPOKEN + "2", *HERE)],
    "rewind": [("1", "--session", "s", "--run", SPOKEN), ("1", "--session", "s", "--run", EVIL),
               (EVIL, *HERE)],
    "tag": [("best", *HERE), ("net", "a", *HERE), (EVIL, *HERE), ("best", EVIL, *HERE), HERE,
            ("best", "--at", EVIL, *HERE), ("--history", "best", *HERE), ("-d", EVIL, *HERE),
            ("-d", "best", *HERE), ("best", "--agent", SPOKEN, *HERE), HERE,
            ("--whole-run", *HERE), ("--whole-run", EVIL, *HERE),
            ("--whole-run", "top", "--agent", SPOKEN, "--session", "s", "--run", SPOKEN),
            ("--whole-run", "--history", EVIL, *HERE), ("--whole-run", "-d", EVIL, *HERE)],
    "describe": [HERE, ("--parent", EVIL, *HERE), ("--parent", SPOKEN + "3", *HERE),
                 ("--note", f"{SPOKEN}={SPOKEN}", *HERE), ("--note", EVIL, *HERE),
                 ("--status", EVIL, *HERE), ("--status", "failed", "--reason", EVIL, *HERE), HERE],
    "adopt": [("--from", f"sqlite:///{EVIL}"), ("--from", EVIL), ("--from", "sqlite:///old.db"),
              ("--from", "sqlite:///old.db", "--root", EVIL)],
    "export": [("r", "--session", "s", "--as", "tar", "-o", f"x{EVIL}"),
               ("r", "--session", "s", "--as", "zip", "-o", f"w/{EVIL}"),
               ("r", "--session", "s", "--as", "bagit", "-o", "bag", "--at", "1"),
               ("r", "--session", "s", "--as", "bundle", "-o", f"missing{EVIL}/x"),
               (SPOKEN, "--session", "s", "--as", "ocfl"), (EVIL, "--as", "zip"),
               ("r", "--as", EVIL), ("r", "--session", "s", "--as", "zip", "--at", EVIL)],
    "import": [(f"steps{EVIL}",), (f"steps{EVIL}", "--run", EVIL), ("w", "--rev", EVIL),
               ("w", "--from", EVIL), ("w", "--from", "steps", "--step", EVIL), (EVIL,),
               ("w", "--from", "git", "--rev", EVIL), ("w", "--from", "mlflow"),
               ("w", "--from", "dvc", "--dvc-cache", EVIL)],
    "sync": [("-", "copy"), ("-", f"copy{EVIL}", "--run", EVIL), (f"missing{EVIL}", "copy"),
             ("-", "named"), ("-", "copy", "--session", SPOKEN)],
    "hold": [("case", *HERE), (EVIL, *HERE, "--agent", SPOKEN), (EVIL, "--session", EVIL), (),
             ("--session", "s", "--history"), (EVIL, *HERE, "--release"), ("x", "--run", EVIL)],
    "drop": [("a@1", *HERE, "--reason", EVIL), (f"{EVIL}@1", *HERE, "--reason", EVIL),
             (EVIL, *HERE, "--reason", "x"), ("a@9", "--run", EVIL, "--reason", "x")],
    "prune": [("--session", "s", "--keep-last", "1", "--dry-run"), ("--keep-last", EVIL),
              ("--session", EVIL, "--keep-last", "1"),
              ("--keep-last", "1", "--group-by", f"({EVIL}"),
              ("--session", "s", "--drop-type", EVIL, "--yes"), ("--keep-within", EVIL)],
    "quota": [(), ("--session", EVIL), (EVIL,), ("1KiB", "--session", EVIL), ("none",)],
    "verify": [(), ("--depth", "bytes"), ("--depth", EVIL), ("--max-bytes", EVIL)],
    "repair": [(), ("--from", f"missing{EVIL}"), ("--from", "w")],
    "gc": [("--dry-run",), ("--grace", EVIL), ("--max-bytes", EVIL)],
    "backup": [(), ("--keep", EVIL)],
    "recover": [("--dry-run",), (EVIL,)],
    "stats": [(), HERE, ("--session", "s"), ("--session", EVIL)],
    "db": [("current",), ("check",), ("upgrade",), (EVIL,)],
    "rm": [("--session", "s", "--run", EVIL), ("--session", "s", "--run", SPOKEN),
           ("--session", "s", "--run", SPOKEN, "--yes"),
           ("--session", "s", "--whole-session", "--yes")],
}  # fmt: skip
"""Arguments of each command, in an order in which the planted names stay long enough."""


def spoken(text):
    """Return the characters that a terminal may act on instead of showing them, but tabs."""
    return {
        character
        for character in text
        if character not in "\n\t"
        and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl")
    }


@pytest.fixture
def planted(store_root, tmp_path, monkeypatch):
    """A store full of hostile names, in the working directory of the command."""
    write(tmp_path / "w", {"a": b"1", EVIL: b"2", "lost": b"lost"})
    for folder in (f"dir{EVIL}", "clash", "named"):
        write(tmp_path / folder, {EVIL: b"other", "a": b"other"})
    write(tmp_path / f"steps{EVIL}", {f"step_1{EVIL}/a{EVIL}": b"1", EVIL: b"1"})
    (tmp_path / "named" / "cas.toml").write_text(f'index = "sqlite:///x"\n{EVIL!r} = "\t"\n')
    told = dict.fromkeys(LABELS, SPOKEN)
    with ArtifactStore.open(store_root) as store:
        run = store.session("s").run("r")
        run.track(tmp_path / "w", **told)
        write(tmp_path / "w", {"a": b"3"})
        run.track(tmp_path / "w", **told)
        store.session("s").run(SPOKEN).put(f"x{EVIL}", b"5", file_type=SPOKEN, **told)
        store.session(SPOKEN).run(SPOKEN).put("a", b"6", **told)
        store.session("only").run("soon-hostile").put("a", b"7")
    _plant(store_root / "index.db")
    _plant_old_table(tmp_path / "old.db")
    (tmp_path / ".cas").symlink_to(store_root)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # nobody answers yes


def _plant(index):
    with sqlite3.connect(index) as database:
        for table in ("cas_files", "cas_snapshots"):
            values = ", ".join(f"{column} = ?" for column in LABEL_COLUMNS)
            database.execute(
                f"UPDATE {table} SET {values} WHERE id % 2",  # noqa: S608 - a constant's columns
                [EVIL] * len(LABEL_COLUMNS),
            )
        database.execute("UPDATE cas_files SET file_type = ? WHERE id % 2", [EVIL])
        database.execute("UPDATE cas_files SET meta = ?", [json.dumps({EVIL: EVIL})])
        database.execute("UPDATE cas_snapshots SET skipped = ?", [json.dumps([[EVIL, EVIL]])])
        database.execute("UPDATE cas_snapshots SET notes = ?", [json.dumps({"command": [EVIL]})])
        database.execute(
            "INSERT INTO cas_tags (run_id, position, name, path, version, agent, created_at)"
            " SELECT id, 1, ?, ?, 1, ?, created_at FROM cas_runs",
            [EVIL, EVIL, EVIL],
        )
        database.execute(
            "INSERT INTO cas_run_tags (session_id, name, position, run_id, is_removed, agent,"
            " created_at) SELECT session_id, ? || id, 1, id, 0, ?, created_at FROM cas_runs",
            [EVIL, EVIL],
        )
        database.execute("UPDATE cas_runs SET status_reason = ?", [EVIL])
        database.execute(
            "UPDATE cas_runs SET parent = ?, notes = ?",
            [EVIL, json.dumps({EVIL: EVIL, "command": [EVIL], "git": {"commit": EVIL}})],
        )
        database.execute("UPDATE cas_runs SET name = ? WHERE name = 'soon-hostile'", [EVIL])
        database.execute(
            "INSERT INTO cas_sessions (name, created_at) VALUES (?, '2020-01-01 00:00:00')", [EVIL]
        )
    database.close()


def _plant_old_table(file):
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE files (id TEXT, file_path TEXT, run_id TEXT, node_id TEXT)")
        database.execute("INSERT INTO files VALUES ('1', ?, ?, ?)", [f"/{EVIL}", "r", EVIL])
    database.close()


def test_every_command_is_called_here():
    assert set(CALLS) == set(group.list_commands(None))


@pytest.mark.parametrize("as_json", [False, True], ids=["for-people", "json"])
def test_no_command_lets_a_name_speak_to_the_terminal(planted, cas, as_json):
    shown = 0
    for command, calls in CALLS.items():
        takes_json = any("--json" in p.opts for p in group.get_command(None, command).params)
        if as_json and not takes_json:
            continue
        for arguments in calls:
            _, out, err = cas(command, *arguments, *(["--json"] if as_json else []))
            assert not spoken(out), (command, arguments, out)
            assert not spoken(err), (command, arguments, err)
            shown += (out + err).count("u202e")
    assert shown > 30


def test_global_options_do_not_either(planted, cas):
    for option in ("--store", "--index", "--blobs", "--cache", "--cache-size", f"--{EVIL}"):
        for arguments in ([option, EVIL, "ls"], [f"{option}={EVIL}", "stats"]):
            _, out, err = cas(*arguments)
            assert not spoken(out + err), (arguments, out, err)


def test_nor_does_an_index_of_a_made_up_schema(planted, cas, store_root):
    with sqlite3.connect(store_root / "index.db") as database:
        database.execute("UPDATE cas_alembic_version SET version_num = ?", [EVIL])
    database.close()
    for arguments in (["ls"], ["db", "current"], ["db", "check"], ["db", "upgrade"]):
        _, out, err = cas(*arguments)
        assert not spoken(out + err), (arguments, out, err)
        assert "\\x1b" in out + err
