"""docs/logging.md names every logger, its levels and the attributes of its records."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from places import credentials_of, on
from trees import write

from index import ArtifactStore

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "logging.md").read_text()
ROWS = {
    row[0]: row
    for row in re.findall(r"^\| `([\w.]+)` \| ([A-Z, ]+) \| (.*?) \| (.*?)\|$", PAGE, re.MULTILINE)
}
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def loggers_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
            yield node.args[0]


def test_the_page_has_each_logger_and_no_other():
    found = set()
    for package in ("cas", "index"):
        for path in (ROOT / package).rglob("*.py"):
            if "cli" not in path.parts:
                found |= {ast.unparse(name).strip("'") for name in loggers_of(path)}
    assert {name.replace("WAITS", "cas.waiting") for name in found} == ROWS.keys()


def attributes(record):
    return vars(record).keys() - STANDARD


def check(records):
    """Check records against the page."""
    for record in records:
        _, levels, _, told = ROWS[record.name]
        assert record.levelname in levels.split(", ")
        groups = [set(re.findall(r"`(\w+)`", part)) for part in told.split(";")]
        assert attributes(record) in groups, (record.name, attributes(record))


def test_the_records_of_a_store_are_those_of_the_page(place, work, stores, tmp_path, caplog):
    write(work, {"a": b"1" * 1000, "b": b"2"})
    with caplog.at_level(logging.DEBUG), ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        run.track(work)
        run.track(work)
        run.put("c", b"3")
        store.back_up()
        store.verify()
        store.repair()
        store.repair(dry_run=True)
        store.plan_gc(grace=timedelta(0)).execute()
        with ArtifactStore.open(tmp_path / "copy") as copy:
            store.sync_to(copy)
    ours = [
        record for record in caplog.records if record.name.partition(".")[0] in ("cas", "index")
    ]
    check(ours)
    told = [record for record in ours if record.name != "cas.packs"]
    assert [(record.name, record.getMessage().split(":")[0].split()[0]) for record in told] == [
        ("index.commit", "run"),  # nothing of the scan that found nothing new
        ("index.commit", "run"),
        ("index.maintenance", "the"),
        ("index.maintenance", "verified"),
        ("index.maintenance", "repaired"),
        ("index.maintenance", "collected"),
        ("index.transfer", "run"),
    ]
    assert (told[0].session, told[0].run, told[0].snapshot, told[0].added) == ("s", "r", 1, 2)
    assert {record.pack for record in ours if record.name == "cas.packs"}


@on(blobs="s3", because="only it has credentials")
def test_no_record_has_credentials(place, caplog):
    secrets = [value for name, value in credentials_of(place).items() if "KEY" in name]
    with caplog.at_level(logging.DEBUG, "index"), ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("a", b"1")
    assert len(secrets) == 2
    for record in caplog.records:
        assert not any(secret in str(vars(record)) for secret in secrets)


def test_the_example_of_the_page_logs_a_line(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert done.stderr.startswith("index.commit: run run-1 of session default: snapshot 1, 1 added")


@pytest.mark.parametrize(("options", "shown"), [((), False), (("-v",), True), (("-q",), False)])
def test_the_command_shows_what_happens_if_it_is_asked(cas, tmp_path, options, shown):
    write(tmp_path / "work", {"a": b"1"})
    _, _, err = cas(*options, "track", "work")
    assert ("index.commit: run work" in err) == shown
