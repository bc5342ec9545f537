"""The search over runs: what each argument finds, what it costs, and whom it tells."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from events import statements
from places import EACH_INDEX, on_one, places

from cas.digest import Digest
from cas.errors import InvalidDigestError
from index import ArtifactStore, Provenance
from index.db.queries import search
from index.errors import InvalidNameError, UnknownSessionError

place = places(EACH_INDEX)

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)


class Hours:
    """Is at the full hours of a day, one further at each run."""

    hour = 0

    def __call__(self):
        return NOON + timedelta(hours=self.hour)


@pytest.fixture
def clock():
    return Hours()


@pytest.fixture
def session(place, clock):
    """Two runs, an hour apart, and another session with a run of the same name."""
    with ArtifactStore.open(**place, clock=clock) as store:
        other = store.session("other").run("run-1")
        other.put("data/theirs.csv", b"secret", agent="stranger")
        one = store.session("s").run("run-1")
        one.put("data/result.csv", b"1,2\n", agent="engineer", phase="control", node_id="n1")
        one.put("plots/result.png", b"x" * 3000, agent="plotter", step_id="s1")
        one.put("results/notes.md", b"notes", agent="engineer", event_id="e1")
        clock.hour = 1
        one.put("data/result.csv", b"1,2,3\n", agent="reviewer", code_hash="c1")
        one.put("gone.csv", b"gone")
        one.remove("gone.csv")
        two = store.session("s").run("run-2")
        two.put("data/result.csv", b"1,2\n", agent="engineer", is_final_output=True)
        two.put("data/raw/a%b_c.csv", b"raw", file_type="raw")
        two.put("b\udcffd\\name.txt", b"odd")
        yield store.session("s")


def found(owner, *arguments, **options):
    return [(v.run, v.path, v.version) for v in owner.find(*arguments, **options)]


EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=14))

FIRST, SECOND = ("run-1", "data/result.csv", 2), ("run-2", "data/result.csv", 1)
PLOT, NOTES = ("run-1", "plots/result.png", 1), ("run-1", "results/notes.md", 1)
RAW, ODD = ("run-2", "data/raw/a%b_c.csv", 1), ("run-2", "b\udcffd\\name.txt", 1)
PAST, GONE = ("run-1", "data/result.csv", 1), ("run-1", "gone.csv", 1)

FINDS = [
    ((), {}, [FIRST, PLOT, NOTES, ODD, RAW, SECOND]),
    (("",), {}, [FIRST, PLOT, NOTES, ODD, RAW, SECOND]),
    (("result",), {}, [FIRST, PLOT, SECOND]),
    (("Result",), {}, []),
    (("results/",), {}, [NOTES]),
    (("./results/n",), {}, [NOTES]),
    (("*.csv",), {}, [FIRST, RAW, SECOND]),
    (("result.???",), {}, [FIRST, PLOT, SECOND]),
    (("[np]*.md",), {}, [NOTES]),
    (("data/**",), {}, [FIRST, RAW, SECOND]),
    (("data/*",), {}, [FIRST, SECOND]),
    (("**/raw/*.csv",), {}, [RAW]),
    (("%",), {}, [RAW]),
    (("a_b",), {}, []),
    (("d\\name",), {}, [ODD]),
    (("b\udcff",), {}, [ODD]),
    (("x5c",), {}, []),
    (("\\\\",), {}, []),
    ((), {"prefix": "data/r"}, [FIRST, RAW, SECOND]),
    ((), {"agent": "engineer"}, [NOTES, SECOND]),
    ((), {"agent": "engineer", "all_versions": True}, [PAST, NOTES, SECOND]),
    ((), {"agent": "stranger"}, []),
    ((), {"phase": "control", "all_versions": True}, [PAST]),
    ((), {"node_id": "n1"}, []),
    ((), {"step_id": "s1"}, [PLOT]),
    ((), {"event_id": "e1"}, [NOTES]),
    ((), {"code_hash": "c1"}, [FIRST]),
    ((), {"file_type": "raw"}, [RAW]),
    ((), {"priority": "primary", "file_type": "raw"}, []),
    ((), {"is_final_output": True}, [SECOND]),
    ((), {"since": NOON + timedelta(hours=1)}, [FIRST, ODD, RAW, SECOND]),
    ((), {"until": NOON + timedelta(hours=1)}, [PLOT, NOTES]),
    ((), {"since": NOON, "until": NOON}, []),
    ((), {"since": datetime.max.replace(tzinfo=WEST)}, []),
    ((), {"until": datetime.min.replace(tzinfo=EAST)}, []),
    ((), {"where": "created > 0001-01-01T00:00+14:00"}, [FIRST, PLOT, NOTES, ODD, RAW, SECOND]),
    ((), {"where": "created > 9999-12-31T23:59-14:00"}, []),
    ((), {"larger": 5}, [FIRST, PLOT]),
    ((), {"larger": 6, "smaller": 3000}, []),
    ((), {"smaller": 4}, [ODD, RAW]),
    ((), {"digest": Digest.of(b"1,2\n")}, [SECOND]),
    ((), {"digest": str(Digest.of(b"1,2\n"))[:7], "all_versions": True}, [PAST, SECOND]),
    ((), {"digest": Digest.of(b"secret")}, []),
    ((), {"run": "run-2"}, [ODD, RAW, SECOND]),
    ((), {"run": "*-1"}, [FIRST, PLOT, NOTES]),
    ((), {"run": "run"}, []),
    (("*.csv",), {"all_versions": True, "run": "run-1"}, [PAST, FIRST, GONE]),
    (("result",), {"limit": 2}, [FIRST, PLOT]),
    (("result",), {"limit": 0}, []),
]


def test_each_argument_finds_what_it_says(session):
    for arguments, options, expected in FINDS:
        assert found(session, *arguments, **options) == expected, (arguments, options)


def test_pages_of_any_size_find_the_same(session, monkeypatch):
    for page in (1, 2, 3):
        monkeypatch.setattr("index.reading.search._PAGE", page)
        for arguments, options, expected in FINDS:
            assert found(session, *arguments, **options) == expected, (page, arguments, options)


def test_a_store_finds_in_all_sessions_and_a_session_in_itself(session, place):
    with ArtifactStore.open(**place) as store:
        paths = [(v.session, v.path) for v in store.find("*.csv")]
        assert paths[0] == ("other", "data/theirs.csv")
        assert len(paths) == 4
        assert found(store, agent="stranger") == [("run-1", "data/theirs.csv", 1)]
        assert {v.session for v in store.session("s").find(all_versions=True)} == {"s"}


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        ({"since": datetime(2026, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001
        ({"digest": "abc"}, InvalidDigestError, "not a digest"),
        ({"digest": "zzzzzzz"}, InvalidDigestError, "not a digest"),
        ({"agent": "\0"}, InvalidNameError, "agent"),
        ({"limit": -1}, ValueError, "limit"),
        ({"pattern": 7}, TypeError, "pattern is text"),
        ({"pattern": "/data/*"}, ValueError, "relative"),
        ({"file_type": 7}, TypeError, "file_type"),
    ],
)
def test_a_wrong_argument_raises_at_once(session, wrong, kind, sentence):
    with pytest.raises(kind, match=sentence):
        session.find(**wrong)


def test_an_unknown_session_is_an_error_when_the_first_file_is_asked_for(store):
    found = store.session("nobody").find()
    with pytest.raises(UnknownSessionError):
        next(found)
    store.session("somebody").run("r").put("a", b"1")
    store.session("somebody").run("r").delete()
    assert list(store.session("somebody").find()) == []


def test_many_small_runs_are_read_together(store):
    for number in range(30):
        store.session("s").run(f"r{number}").put(f"f{number}", b"%d" % number)
    with statements(store) as seen:
        assert len(list(store.session("s").find("f"))) == 30
    assert len([text for text in seen if "SELECT" in text]) == 2


def test_runs_without_such_labels_are_not_read(store):
    store.session("s").run("with").put("a", b"1", agent="engineer")
    store.session("s").run("without").put("a", b"2", agent="plotter")
    with statements(store) as seen:
        assert not list(store.session("s").find(agent="nobody"))
    assert not [text for text in seen if "cas_files" in text]
    pages = []
    original = search.search_page

    def page(connection, searched, *conditions, **options):
        pages.append([each.run for each in searched])
        return original(connection, searched, *conditions, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "search_page", page)
        assert len(list(store.session("s").find(agent="engineer"))) == 1
        assert pages == [["with"]]
        pages.clear()
        digest = Digest.of(b"2")
        assert [v.run for v in store.session("s").find(digest=digest)] == ["without"]
        assert pages == [["without"]]


def test_a_large_run_is_read_page_by_page_as_it_is_asked_for(store, monkeypatch):
    monkeypatch.setattr("index.reading.search._PAGE", 10)
    store.session("s").run("r").put_many([(f"f{n:03}", b"%d" % n) for n in range(55)])
    with statements(store) as seen:
        found = store.session("s").find()
        assert [next(found).path for _ in range(3)] == ["f000", "f001", "f002"]
        assert len([text for text in seen if "LIMIT" in text and "cas_files" in text]) == 1
        assert [v.path for v in found] == [f"f{n:03}" for n in range(3, 55)]


@on_one(because="it reads SQLite's own plan")
@pytest.mark.parametrize("past", [False, True])
def test_no_page_is_a_pass_over_what_came_before(store, past):
    """The order of a page is that of an index, from the place where the page before ended."""
    store.session("s").run("r").put_many([(f"f{n:03}", b"%d" % n) for n in range(55)])
    labels = {"provenance": Provenance()}
    with store.context.database.reading() as connection:
        (run,) = search.list_searched(connection, "s", labels=labels, past=True, digest=None)
        plan = _plan(store, connection, run, past=past)
    assert "USE TEMP B-TREE" not in plan, plan
    assert "path>?" in plan or "(path,version)>" in plan, plan


def _plan(store, connection, run, *, past):
    last = store.session("s").run("r").file("f010")
    with statements(store) as seen:
        search.search_page(connection, [run], past=past, after=last, limit=10)
    (text,) = [each for each in seen if "cas_files" in each]
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", tuple([1] * text.count("?")))
    return "\n".join(row[-1] for row in rows)


class TestTheCommand:
    """`cas find`."""

    @pytest.fixture
    def cas(self, cas, store_root, monkeypatch):
        with ArtifactStore.open(store_root) as store:
            run = store.session("default").run("run-1")
            run.put("data/result.csv", b"1,2\n", agent="engineer", file_type="data")
            run.put("data/result.csv", b"1,2,3\n", agent="reviewer")
            store.session("default").run("run-2").put("plots/a.png", b"x" * 5000, node_id="n1")
            store.session("other").run("run-1").put("result.txt", b"theirs")
        monkeypatch.setenv("CAS_STORE", str(store_root))
        return cas

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ((), ["run-1 data/result.csv", "run-2 plots/a.png"]),
            (("result",), ["run-1 data/result.csv"]),
            (("data/**",), ["run-1 data/result.csv"]),
            (("--all-versions", "*.csv"), ["run-1 data/result.csv"] * 2),
            (("--agent", "reviewer"), ["run-1 data/result.csv"]),
            (("--node", "n1"), ["run-2 plots/a.png"]),
            (("--type", "plot"), ["run-2 plots/a.png"]),
            (("--run", "*-2"), ["run-2 plots/a.png"]),
            (("--larger", "4KiB"), ["run-2 plots/a.png"]),
            (("--smaller", "4KiB"), ["run-1 data/result.csv"]),
            (("--digest", str(Digest.of(b"1,2,3\n"))[:12]), ["run-1 data/result.csv"]),
            (("--since", "1h"), ["run-1 data/result.csv", "run-2 plots/a.png"]),
            (("--until", "1h"), []),
            (("--until", "2020-01-01"), []),
            (("--since", "2020-01-01T10:00+02:00"), ["run-1 data/result.csv", "run-2 plots/a.png"]),
            (("--limit", "1"), ["run-1 data/result.csv"]),
            (("--session", "other"), ["run-1 result.txt"]),
            (("--prefix", "plots/"), ["run-2 plots/a.png"]),
            (("--where", "size > 4 KiB and type = 'plot'"), ["run-2 plots/a.png"]),
            (("--where", "agent is null", "*.csv"), []),
        ],
    )
    def test_each_option_selects(self, cas, options, expected):
        code, out, _ = cas("find", *options)
        assert code == 0
        lines = (line.split("\t") for line in out.splitlines())
        assert [f"{line[0]} {line[-1]}" for line in lines] == expected

    def test_all_sessions_are_told_with_their_names(self, cas):
        _, out, _ = cas("find", "result", "--all-sessions")
        assert [line.split("\t")[0] for line in out.splitlines()] == ["default", "other"]

    def test_it_prints_json(self, cas):
        (version,) = json.loads(cas("find", "--agent", "reviewer", "--json")[1])
        assert (version["run"], version["path"], version["version"]) == (
            "run-1",
            "data/result.csv",
            2,
        )

    def test_a_label_that_no_file_has_names_the_closest(self, cas):
        code, out, err = cas("find", "--agent", "enginer", "--type", "plto")
        assert (code, out) == (0, "")
        assert "no file has the agent 'enginer'; the closest is 'engineer'" in err
        assert "no file has the type 'plto'; the closest is 'plot'" in err
        assert cas("-q", "find", "--agent", "enginer")[2] == ""
        assert cas("find", "--agent", "engineer")[2] == ""  # past versions have it

    def test_a_time_and_a_size_that_can_not_be_read_are_usage_errors(self, cas):
        for option in ("--since", "--until", "--larger", "--smaller"):
            code, _, err = cas("find", option, "soon")
            assert code == 2
            assert "write it as" in err

    def test_an_expression_that_can_not_be_read_is_a_usage_error(self, cas):
        code, out, err = cas("find", "--where", "agnt = 'reviewer'")
        assert (code, out) == (2, "")
        assert "at character 1, 'agnt' is no column; the closest is 'agent'" in err

    def test_times_without_zone_are_local(self, cas, monkeypatch):
        monkeypatch.setenv("TZ", "UTC-14")
        time.tzset()
        try:
            ahead = datetime.now(UTC) + timedelta(hours=13)  # it has passed at UTC+14
            assert "result" in cas("find", "--since", f"{ahead:%Y-%m-%dT%H:%M}")[1]
            assert cas("find", "--since", f"{ahead:%Y-%m-%dT%H:%M}+00:00")[1] == ""
        finally:
            monkeypatch.undo()
            time.tzset()


@on_one(because="it is about the session alone")
def test_another_sessions_digest_is_as_one_that_nobody_has(store):
    store.session("mine").run("r").put("a", b"mine")
    store.session("theirs").run("r").put("a", b"theirs")
    for data in (b"theirs", b"nobody's"):
        assert list(store.session("mine").find(digest=Digest.of(data), all_versions=True)) == []
