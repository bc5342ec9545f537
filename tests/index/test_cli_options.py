"""Options that all commands have, settings from files and the environment, and what is told."""

from __future__ import annotations

import json
import logging
import re

import pytest
from trees import write

from cas.waiting import log_wait


@pytest.fixture(autouse=True)
def loggers():
    """Leave the loggers as they were."""
    names = ("cas", "index", "cas.waiting")
    before = [(n, logging.getLogger(n).handlers, logging.getLogger(n).level) for n in names]
    yield
    for name, handlers, level in before:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, True
        logger.setLevel(level)


@pytest.fixture
def tracked(cas, tmp_path):
    write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
    assert cas("track", "work", "--agent", "planner")[0] == 0
    return cas


class TestGlobalOptions:
    @pytest.mark.parametrize("place", ["before", "after"])
    def test_they_may_stand_before_or_after_the_command(self, tracked, tmp_path, place):
        (tmp_path / ".cas").rename(tmp_path / "store")
        option, command = ["--store", "store"], ["ls", "-R"]
        arguments = [*option, *command] if place == "before" else [*command, *option]
        assert tracked(*arguments)[0] == 0
        assert tracked(*command)[0] == 4

    @pytest.mark.parametrize(
        "command",
        [
            ("stale", "--session", "nobody"), ("stale", "--run", "nobody"), ("stale", "none.md"),
            ("stale", "data/none.csv", "--run", "work"), ("hold", "--session", "nobody"),
        ],
    )  # fmt: skip
    def test_a_name_with_a_typo_is_not_found_and_no_empty_answer(self, tracked, command):
        code, out, err = tracked(*command)
        assert (code, out, err.count("error: ")) == (4, "", 1)
        assert tracked("stale", "plan.md")[0] == 0

    def test_init_keeps_its_own(self, cas, tmp_path):
        assert cas("init", "--index", "sqlite:///i.db", "--blobs", "b")[0] == 0
        assert cas("db", "current", "--store", "nowhere")[0] == 4

    def test_the_last_one_counts(self, tracked, tmp_path):
        assert tracked("--store", "nowhere", "ls", "--store", ".cas")[0] == 0


class TestTold:
    def test_quiet_tells_no_waits(self, tracked, monkeypatch):
        def waiting(*_arguments, **_options):
            log_wait("s3://bucket", "the connection failed", waited=3.0, pause=2.0)

        monkeypatch.setattr("index.cli.stats.show", waiting)
        assert "waiting for s3://bucket: the connection failed" in tracked("runs")[2]
        assert tracked("-q", "runs")[2] == ""
        assert tracked("runs", "--quiet")[2] == ""

    def test_verbose_prints_what_the_library_logs(self, tracked, monkeypatch):
        def logging_(*_arguments, **_options):
            logger = logging.getLogger("index.some.part")
            logger.warning("a warning")
            logger.info("an event \x1b[2J")
            logger.debug("a detail")

        monkeypatch.setattr("index.cli.stats.show", logging_)
        warning, event, detail = (
            "index.some.part: a warning\n",
            "index.some.part: an event \\x1b[2J\n",
            "index.some.part: a detail\n",
        )
        assert tracked("runs")[2] == warning
        assert tracked("-v", "runs")[2] == warning + event
        assert tracked("runs", "-vv")[2] == warning + event + detail
        assert tracked("runs", "-q")[2] == ""

    def test_a_log_file_gets_a_line_of_json_for_each(self, tracked, monkeypatch, tmp_path):
        def waiting(*_arguments, **_options):
            log_wait("s3://bucket", "the connection failed", waited=0.0, pause=0.5)
            error = ValueError("inner")
            logging.getLogger("index.part").error("it failed", exc_info=error)

        monkeypatch.setattr("index.cli.stats.show", waiting)
        for arguments in (("--log-file", "log", "runs"), ("runs", "--log-file", "log", "-q")):
            assert tracked(*arguments)[0] == 0
        monkeypatch.setenv("CAS_LOG_FILE", "log")
        assert tracked("runs")[0] == 0
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert len(lines) == 6
        assert lines[0]["logger"] == "cas.waiting"
        assert (lines[0]["level"], lines[0]["subject"], lines[0]["pause"]) == (
            "info", "s3://bucket", 0.5,
        )  # fmt: skip
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+00:00", lines[0]["time"])
        assert lines[1]["message"] == "it failed"
        assert "ValueError: inner" in lines[1]["error"]

    def test_a_log_file_that_cannot_be_written_is_named(self, tracked):
        code, _, err = tracked("--log-file", "no/such/log", "runs")
        assert (code, "the log file no/such/log can't be written" in err) == (2, True)


class TestSettings:
    def test_defaults_come_from_options_then_the_environment_then_the_file(
        self, cas, tmp_path, monkeypatch
    ):
        lines = ['session = "task"', 'run = "r"', 'phase = "control"', 'agent = "noted"']
        (tmp_path / "cas.toml").write_text("[defaults]\n" + "\n".join(lines))
        write(tmp_path / "work", {"a": b"1"})
        assert cas("track", "work")[0] == 0
        (version,) = json.loads(cas("ls", "-R", "--json")[1])
        found = [version[name] for name in ("session", "run", "phase", "agent")]
        assert found == ["task", "r", "control", "noted"]
        monkeypatch.setenv("CAS_AGENT", "environment")
        write(tmp_path / "work", {"b": b"2"})
        assert cas("track", "work")[0] == 0
        write(tmp_path / "work", {"c": b"3"})
        assert cas("track", "work", "--agent", "option")[0] == 0
        listed = json.loads(cas("ls", "-R", "--json")[1])
        assert [each["agent"] for each in listed] == ["noted", "environment", "option"]
        sources = {row.split("\t")[0]: row.split("\t")[2] for row in cas("config")[1].splitlines()}
        file = str(tmp_path / "cas.toml")
        assert sources["agent"] == "CAS_AGENT"
        assert {sources[name] for name in ("session", "run", "phase")} == {file}
        assert sources["hidden"] == "built in"
        assert sources["store"] == "nearest .cas"

    def test_they_select_nothing(self, cas, tmp_path, monkeypatch):
        write(tmp_path / "work", {"a": b"1"})
        assert cas("track", "work", "--agent", "one")[0] == 0
        monkeypatch.setenv("CAS_AGENT", "another")
        assert "a" in cas("ls", "-R")[1]

    def test_the_environment_sets_what_scans_leave_out(self, cas, tmp_path, monkeypatch):
        write(tmp_path / "work", {"a": b"1", ".hidden": b"2", "x.log": b"3"})
        monkeypatch.setenv("CAS_HIDDEN", "1")
        monkeypatch.setenv("CAS_IGNORE", "*.log")
        assert cas("track", "work")[0] == 0
        listed = [line.split("\t")[-1] for line in cas("ls", "-R")[1].splitlines()]
        assert listed == [".hidden", "a"]
        values = {row.split("\t")[0]: row.split("\t")[1:] for row in cas("config")[1].splitlines()}
        assert values["ignore"] == ["*.log", "CAS_IGNORE"]
        assert values["hidden"] == ["1", "CAS_HIDDEN"]

    def test_places_have_their_source(self, cas, tmp_path, monkeypatch):
        secret = "postgresql+psycopg://user:hidden-word@host/db"  # noqa: S105
        rows = cas("--index", secret, "--blobs", "s3://bucket/prefix", "config")[1].splitlines()
        assert "hidden-word" not in "".join(rows)
        assert "blobs\ts3://bucket/prefix\t--blobs" in rows
        monkeypatch.setenv("CAS_STORE", "elsewhere")
        assert "store\telsewhere\tCAS_STORE" in cas("config")[1]
        assert "store\tthird\t--store" in cas("config", "--store", "third")[1]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('[defaults]\nsesion = "x"', "no setting 'sesion'; it has session, run, phase, agent"),
            ("[defaults]\nrun = 7", "run in [defaults] is text in quotes"),
            ('defaults = "x"', "write [defaults] on a line of its own"),
        ],
    )
    def test_a_mistake_in_the_file_is_named(self, cas, tmp_path, text, reason):
        (tmp_path / "cas.toml").write_text(text)
        for command in (("ls",), ("config",)):
            code, _, err = cas(*command)
            assert (code, reason in err) == (2, True), err
        assert cas("ls", "--help")[0] == 0


def test_a_mistyped_command_names_the_closest(cas):
    assert "did you mean track?" in cas("trakc")[2]
    assert "cas --help lists all" in cas("xyzzy")[2]


def test_without_a_command_there_is_an_overview(cas):
    code, out, err = cas()
    assert (code, err) == (0, "")
    assert "cas COMMAND --help" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_version_tells_of_format_and_schema(cas):
    assert re.fullmatch(r"cas \d+\.\d+\.\d+\S*, format 1, schema 0001\n", cas("--version")[1])


def test_a_listing_has_jsonl(tracked):
    lines = tracked("ls", "-R", "--jsonl")[1].splitlines()
    assert [json.loads(line) for line in lines] == json.loads(tracked("ls", "-R", "--json")[1])
    assert len(lines) == 2


@pytest.mark.parametrize("text", ["", "# later\n"])
def test_a_cas_toml_without_settings_names_no_store(tracked, tmp_path, text):
    (tmp_path / "cas.toml").write_text(text)
    assert tracked("ls")[0] == 0


@pytest.mark.parametrize(
    ("text", "close"),
    [('[default]\nrun = "r"', "defaults"), ("[trak]", "track"), ('run = "x"', "")],
)
def test_an_unknown_setting_of_the_file_is_named(tracked, tmp_path, text, close):
    (tmp_path / "cas.toml").write_text(text)
    code, _, err = tracked("ls")
    assert (code, f"it may have {close}" in err) == (2, True), err


@pytest.mark.parametrize(("typed", "meant"), [("commit", "track"), ("checkout", "restore")])
def test_the_words_of_other_tools_lead_to_ours(cas, typed, meant):
    assert f"did you mean {meant}?" in cas(typed)[2]
