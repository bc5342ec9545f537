"""The search by expressions: what each finds, on both databases, and whom it tells."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import EACH_INDEX, places
from plans import plans

from index import ArtifactStore, NewFile, provenance
from index.db.queries import search
from index.db.queries.expressions import condition_of
from index.domain.expressions import read_expression
from index.errors import InvalidExpressionError, UnknownSessionError

place = places(EACH_INDEX)

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)


class Clock:
    """Is at noon, until somebody moves it."""

    now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def session(place, clock):
    """Two runs, a day apart, and another session with all that would match."""
    with ArtifactStore.open(**place, clock=clock) as store:
        other = store.session("other").run("run-1")
        other.put("secret.csv", b"x" * 5000, agent="engineer", meta={"rmse": 0.01, "ok": True})
        other.tag("best")
        other.set_status("finished")
        one = store.session("s").run("run-1")
        with provenance(phase="control", agent="engineer", node_id="n1", step_id="s1"):
            one.put("data/fit.csv", b"1", meta={"rmse": 0.3, "by": "ridge"}, code_hash="c1")
            one.tag("first")
            one.put("data/fit.csv", b"12", meta={"rmse": 0.05, "layers": [{"n": 8}, {"n": 16}]})
        one.put("plots/fit.png", b"x" * 3000, agent="plotter", event_id="e1", meta={"ok": True})
        one.tag("best", path="data/fit.csv", version=2)
        one.tag("gone", path="plots/fit.png")
        one.untag("gone")
        one.set_status("finished")
        clock.now += timedelta(days=1)
        two = store.session("s").run("run-2")
        two.put("data/raw.csv", b"1,2,3", is_final_output=True, meta={"rmse": "none", "a b": 1})
        two.put("notes.md", b"notes")
        two.set_status("failed")
        yield store.session("s")


FIT, PLOT = ("run-1", "data/fit.csv", 2), ("run-1", "plots/fit.png", 1)
RAW, NOTES = ("run-2", "data/raw.csv", 1), ("run-2", "notes.md", 1)
PAST = ("run-1", "data/fit.csv", 1)


@pytest.fixture
def mine(store):
    """The session of the run."""
    return store.session("session-1")


SEARCHES = [
    ("meta.rmse < 0.1", [FIT]),
    ("not meta.rmse < 0.1", []),  # other files have no such number
    ("meta.rmse = 'none'", [RAW]),
    ("meta.rmse is null", [PLOT, NOTES]),
    ("meta.rmse is not null", [FIT, RAW]),
    ("meta is null", [NOTES]),
    ("meta.layers[1].n = 16", [FIT]),
    ("meta.layers[2].n is null and meta.layers[0] is not null", [FIT]),
    ("meta.layers > 1 or meta.layers = 'x' or meta.layers", []),
    ("meta.rmse.deeper = 1", []),
    ('meta."a b" in (1, 2)', [RAW]),
    ("meta.ok", [PLOT]),
    ("meta.ok = false or meta.ok != true", []),
    ("meta.rmse ~ 'no*'", [RAW]),
    ("meta.rmse >= 'n' and meta.rmse < 'o'", [RAW]),
    ("size > 2 KB", [PLOT]),
    ("size >= 3000 and size <= 3000", [PLOT]),
    ("size in (2, 5)", [FIT, RAW, NOTES]),
    ("not (size in (2, 5) or final)", [PLOT]),
    ("path = 'data/raw.csv'", [RAW]),
    ("path ~ 'data/*.csv'", [FIT, RAW]),
    ("path ~ '**/fit.*'", [FIT, PLOT]),
    ("path ~ '**/notes.md' or path ~ '**/**/raw.*'", [RAW, NOTES]),
    ("path ~ 'ata/r'", [RAW]),
    ("path > 'notes.md'", [PLOT]),
    ("name = 'fit.csv'", [FIT]),
    ("name in ('raw.csv', 'notes.md', 'w.csv')", [RAW, NOTES]),
    ("name != 'fit.csv'", [PLOT, RAW, NOTES]),
    ("name = 'data/raw.csv' or name = '' or name = '/raw.csv'", []),
    ("name ~ 'fit'", [FIT, PLOT]),
    ("name ~ '*.[cp][sn][vg]'", [FIT, PLOT, RAW]),
    ("name !~ 't.'", [RAW, NOTES]),
    ("name < 'g'", [FIT, PLOT]),
    ("type = 'plot' or priority = 'internal'", [PLOT]),
    ("final", [RAW]),
    ("not final and final = false", [FIT, PLOT, NOTES]),
    ("version = 2", [FIT]),
    ("agent = 'engineer'", [FIT]),
    ("agent != 'engineer'", [PLOT]),
    ("agent not in ('engineer', 'nobody')", [PLOT]),
    ("agent is null", [RAW, NOTES]),
    ("agent ~ 'ENG' or agent ~ 'eng??eer'", [FIT]),
    ("phase = 'control' AND node = 'n1' AND step ~ 's' AND event IS NULL", [FIT]),
    ("event = 'e1'", [PLOT]),
    ("code is not null", []),
    ("run ~ '*-2' or run = 'run-1' and size = 2", [FIT, RAW, NOTES]),
    ("(run ~ '*-2' or run = 'run-1') and size = 2", [FIT]),
    ("status = 'finished'", [FIT, PLOT]),
    ("status in ('failed', 'running') and not name = 'notes.md'", [RAW]),
    ("created >= 2026-06-01", [RAW, NOTES]),
    ("created < 12h", [FIT, PLOT]),
    ("created = '2026-05-31T12:00:00+00:00'", [FIT, PLOT]),
    ("tag = 'best'", [FIT]),
    ("tag ~ '*st'", [FIT]),
    ("tag is null", [PLOT, RAW, NOTES]),
    ("not tag = 'best'", [PLOT, RAW, NOTES]),
    ("tag is not null or final", [FIT, RAW]),
    ("version = 99999999999999999999 or version in (2147483648, -2147483649)", []),
    ("version > -99999999999999999999 and version < 3000000000", [FIT, PLOT, RAW, NOTES]),
    ("tag = 'gone' or tag = 'first'", []),
]


def found(owner, *arguments, **options):
    return [(v.run, v.path, v.version) for v in owner.search(*arguments, **options)]


def test_each_expression_finds_what_it_says(session):
    for expression, expected in SEARCHES:
        assert found(session, expression) == expected, expression


def test_past_versions_are_found_where_they_are_asked_for(session):
    assert found(session, "meta.rmse > 0", all_versions=True) == [PAST, FIT]
    assert found(session, "code = 'c1'", all_versions=True) == [PAST]
    assert found(session, "tag = 'first'", all_versions=True) == [PAST]
    assert found(session, "tag is not null", all_versions=True) == [PAST, FIT]


def test_a_tag_of_the_run_itself_counts_until_it_moves(session):
    one, other = (run.run for run in session.runs(limit=2))
    session.tag_run("submitted", one)
    assert {v.run for v in session.find(where="tag = 'submitted'")} == {one}
    session.tag_run("submitted", other)
    assert {v.run for v in session.find(where="tag = 'submitted'")} == {other}
    session.untag_run("submitted")
    assert [*session.find(where="tag = 'submitted'")] == []


def test_an_expression_narrows_the_other_arguments_of_a_search(session):
    options = {"where": "meta is not null", "agent": "engineer"}
    assert [v.path for v in session.find("*.csv", **options)] == ["data/fit.csv"]
    assert found(session, "size > 1", limit=2) == [FIT, PLOT]
    assert found(session, "size > 1", limit=0) == []


@pytest.mark.parametrize("path", ["ra\udce9w/fit", "fit.\udcff\\", "\udc80"])
def test_a_path_that_is_not_utf_8_is_found_by_its_characters(mine, run, path):
    run.put_many([(each, b"x") for each in (path, "other", "xe9")])
    name, odd = path.rpartition("/")[2], next(one for one in path if one > "\ud7ff")
    for expression in (
        f"path = {quoted(path)}",
        f"path in ({quoted(path)}, 'none')",
        f"name = {quoted(name)}",
        f"path ~ '**/*{odd}*' or path ~ '*{odd}*/**'",
        f"path ~ {quoted(odd)}",
        f"path ~ '*[{odd}-😀]*' or path ~ '*[\udc80-{odd}]*/*'",
    ):
        assert [version.path for version in mine.search(expression)] == [path], expression


def test_pages_of_any_size_find_the_same(session, monkeypatch):
    for page in (1, 2):
        monkeypatch.setattr("index.reading.search._PAGE", page)
        for expression, expected in SEARCHES:
            assert found(session, expression) == expected, (page, expression)


class TestWhatIsUnknown:
    """A comparison is unknown without a value of that kind, and `not` leaves it so."""

    def test_nothing_equals_or_differs_from_a_missing_value(self, run, mine):
        run.put("a", b"1")
        for column in ("agent", "status", "meta.a", "meta.a[0]", "meta"):
            for one in (f"{column} ~ 'x'", f"{column} >= 'running'", f"{column} = 'running'"):
                assert not found(mine, one)
                assert not found(mine, f"not {one}")
                assert found(mine, f"not {one} or {column} is null")

    def test_a_number_is_no_text_and_no_truth_value(self, run, mine):
        kinds = {"n": 1, "t": "1", "b": True, "l": [1], "o": {"1": 1}, "z": None}
        run.put("a", b"1", meta=kinds)
        of_kind = {"1": "n", "1.0": "n", "'1'": "t", "true": "b"}
        for value, only in of_kind.items():
            for key in kinds:
                expected = [("run-1", "a", 1)] if key == only else []
                assert found(mine, f"meta.{key} = {value}") == expected
                assert not found(mine, f"meta.{key} != {value}")
        assert [key for key in kinds if found(mine, f"meta.{key} is null")] == ["z"]

    def test_a_position_is_no_key(self, run, mine):
        run.put("a", b"1", meta={"list": [5], "object": {"0": 5}, "number": 5})
        run.put("b", b"1", meta=5)
        assert found(mine, 'meta.list[0] = 5 and meta.object."0" = 5')
        assert not found(mine, 'meta.object[0] = 5 or meta.list."0" = 5 or meta.number[0] = 5')
        assert not found(mine, "meta[0] = 5 or meta[0] is not null")

    def test_notes_that_postgresql_can_not_read_hinder_no_search(self, run, mine):
        run.put("plain", b"1", meta={"rmse": 1, "note": "\\u0000 \\ud800 \U0001f600 \\\\u0000"})
        for number, note in enumerate(("\0", "\ud800", "a\udcff", "\ude00\ud83d")):
            run.put(f"odd-{number}", b"1", meta={"rmse": 1, "note": note})
            run.put(f"odd-{number}-key", b"1", meta={"rmse": 1, note: 1})
        assert [v.path for v in mine.search("meta.rmse = 1")] == ["plain"]
        assert not found(mine, "meta.rmse != 1")
        assert len(found(mine, "meta.rmse is null")) == 8

    def test_numbers_of_any_size_are_compared(self, run, mine):
        run.put("a", b"1", meta={"n": [10**400, -(10**400), 2**53 + 1, 5e-324, sys.float_info.max]})
        assert not found(mine, "meta.n[0] > 0 or meta.n[1] < 0")
        assert found(mine, f"meta.n[2] = {2**53} and meta.n[3] > 0 and meta.n[4] > 1e308")


class TestOtherSessions:
    """What another session holds is as what nobody has, in results and in errors."""

    def test_hold_nothing_that_an_expression_finds(self, store):
        theirs = store.session("theirs").run("their-run")
        theirs.put("secret", b"1", agent="them", meta={"secret": 1})
        theirs.tag("theirs")
        theirs.set_status("failed")
        store.session("mine").run("r").put("a", b"")
        for expression in (
            "meta.secret = 1",
            "meta is not null",
            "tag = 'theirs'",
            "tag is not null",
            "status = 'failed'",
            "run = 'their-run'",
            "agent ~ '*'",
            "size > 0 and path ~ '**' and not final",
            "size > 0 and created > 2000-01-01",
        ):
            assert not found(store.session("mine"), expression, all_versions=True), expression
            assert found(store, expression) == [("their-run", "secret", 1)]

    def test_are_not_named_by_errors(self, store):
        store.session("theirs").run("r").put("a", b"1", agent="engineer", meta={"secret": 1})
        store.session("mine").run("r").put("a", b"1")
        for wrong in ("secret = 1", "agent = engineer", "meta.secre"):
            told = []
            for session in ("mine", "nobody"):
                try:
                    told.append(found(store.session(session), wrong))
                except InvalidExpressionError as error:
                    told.append(str(error))
                except UnknownSessionError:
                    told.append([])
            assert told[0] == told[1]


class TestWhatIsRead:
    """A search by notes or tags reads no versions of runs without them, on either database."""

    RUNS = 12

    @pytest.fixture
    def large(self, store):
        """Runs of 500 versions; two versions of one have notes, another run has a tag."""
        for number in range(self.RUNS):
            files = [NewFile(f"f{n:03}", b"%d" % n) for n in range(500)]
            store.session("s").run(f"r{number:02}").put_many(files)
        run = store.session("s").run("r07")
        for path in ("f001", "f002"):
            run.annotate(path, meta={"rmse": 0.1})
        store.session("s").run("r11").tag("best", path="f300")
        return store

    def test_only_runs_that_may_hold_it(self, large, monkeypatch):
        read, original = [], search.search_page

        def page(connection, runs, *conditions, **options):
            read.extend(each.run for each in runs)
            return original(connection, runs, *conditions, **options)

        monkeypatch.setattr(search, "search_page", page)
        for expression, searched, expected in (
            ("meta.rmse < 1", ["r07"], 2),
            ("not (meta.rmse > 1 or final)", ["r07"], 2),
            ("tag = 'best'", ["r11"], 1),
            ("tag = 'best' or meta.rmse < 1", ["r07", "r11"], 3),
            ("tag = 'none' and size > 0", [], 0),
            ("agent = 'nobody' or status = 'failed'", [], 0),
            ("run = 'r03' and name ~ '99'", ["r03"], 5),
            ("run ~ 'r0?' and (meta.a = 1 or run = 'r05') and not tag is null", [], 0),
        ):
            read.clear()
            assert len(found(large.session("s"), expression)) == expected, expression
            assert list(dict.fromkeys(read)) == searched, expression

    def test_notes_are_found_by_their_index_and_tags_without_a_look_at_files(self, large):
        with large.context.database.writing() as connection:
            connection.exec_driver_sql("ANALYZE")
        for past in (False, True):
            plans = plans_of(large, "meta.rmse < 1", past=past)
            assert len(plans) == 2
            assert all("ix_cas_files_meta" in plan for plan in plans), plans
            runs, versions = plans_of(large, "tag = 'best'", past=past)
            assert "cas_files" not in runs, runs
            assert "cas_tags" in versions, versions

    def test_without_statistics_sqlite_takes_the_index_of_notes(self, large):
        if large.context.database.is_server:
            return
        assert all(
            "ix_cas_files_meta" in each for each in plans_of(large, "meta.a = 1", past=False)
        )


def plans_of(store, expression, *, past):
    """Return the plans of the statements of a search, as the database says them."""
    return plans(
        store,
        lambda: found(store.session("s"), expression, all_versions=past),
        # This adds SQLite's functions.
        prepare=lambda connection: condition_of(connection, read_expression(expression, NOON)),
    )


# An oracle of its own: each strategy draws the text of an expression, and a function that says
# True, False or None (unknown) of a version.

TEXTS = (
    "",
    "a",
    "eng",
    "Eng",
    "a%b_c",
    "\\",
    "\\x5c",
    "it's",
    '"',
    "Ü",
    "😀",
    "a*",
    "[a]",
    "\n",
    "a b",
)
NAMES = (
    "a",
    "fit.csv",
    "Fit.csv",
    "a%b_c",
    "d\\x",
    "x5c",
    "xff",
    "b\udcff",
    "[a]",
    "Ü.png",
    "a\nb",
    "-",
)
PATTERNS = (
    *("*", "?", "??", "a", "fit", "*.csv", "[a-f]*", "[!a-f]*", "[!a]?*", "[]a]*", "[[]a]", "[a-]"),
    *(
        "*[\\]*",
        "*[!\\]",
        "b?",
        "b[!a]",
        "x??",
        "\\",
        "xff",
        "x5c",
        "%",
        "_",
        "[z-a]",
        "[!z-a]*",
        "*\n*",
    ),
    *("[^a]*", "[a-😀]*", "*[.]*", "(", "a|b", "$", "^a", "[", "a]", "{1}", "+", "[+--]*", "***"),
)
ODD_PATTERNS = (
    "\udcff",
    "b\udcff",
    "?\udcff*",
    "b[\udcff]",
    "b[!\udcff]",
    "*[a-\udcff]",
    "*[!\udc80-😀]",
)
"""With bytes that are not UTF-8."""
PATH_PATTERNS = (
    *PATTERNS,
    "**",
    "**/*.csv",
    "a/**",
    "*/*",
    "a/**/fit.csv",
    "**/**/a",
    "a/",
    "/a",
    "*/b?",
    *ODD_PATTERNS,
)
NUMBERS = (0, -0.0, 1, 1.0, 2, 0.1, -3, 1e-300, 2**53, 2**53 + 1, 2**63, 1e308, 10**400)
KEYS = ("a", "b", "é", 'k"q', "0", "and", "x.y", "\\")
META = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.sampled_from((*TEXTS, "\0", "\ud800")),
    lambda some: (
        st.lists(some, max_size=2)
        | st.dictionaries(st.sampled_from((*KEYS, "\0")), some, max_size=3)
    ),
    max_leaves=6,
)
VERSIONS = st.fixed_dictionaries(
    {
        "path": st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join),
        "size": st.integers(0, 3),
        "label": st.none() | st.sampled_from([text for text in TEXTS if text and "\n" not in text]),
        "final": st.booleans(),
        "meta": META,
        "minutes": st.integers(0, 3),
    }
)


def quoted(text):
    mark = "'" if len(text) % 2 else '"'
    return mark + text.replace(mark, mark * 2) + mark


def literal(value):
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if isinstance(value, str) else repr(value)


ORDERS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def negated(one):
    return None if one is None else not one


def every(some):
    return False if False in some else None if None in some else True


def either(some):
    return True if True in some else None if None in some else False


@st.composite
def compared(
    draw, column, values, value_of, *, nulls=("is null", "is not null"), key=lambda one: one
):
    """Draw a comparison of a column by order, in a list, or with null.

    `key` returns what is compared of a value in the expression.
    """
    how = draw(st.sampled_from((*ORDERS, "in", "not in", *nulls)))
    if how.startswith("is"):
        wanted = how == "is null"
        return f"{column} {how}", lambda version: (value_of(version) is None) == wanted
    if how.endswith("in"):
        some = draw(st.lists(values, min_size=1, max_size=3))
        text = f"{column} {how} ({', '.join(map(literal, some))})"

        def says(version):
            value = value_of(version)
            return None if value is None else (value in map(key, some)) == (how == "in")

        return text, says
    one = draw(values)

    def says_of_one(version):
        value = value_of(version)
        return None if value is None else ORDERS[how](value, key(one))

    return f"{column} {how} {literal(one)}", says_of_one


@st.composite
def matched(draw, column, patterns, value_of, matches):
    pattern, sign = draw(st.sampled_from(patterns)), draw(st.sampled_from(("~", "!~")))

    def says(version):
        value = value_of(version)
        return None if value is None else matches(value, pattern) == (sign == "~")

    return f"{column} {sign} {quoted(pattern)}", says


def has_wildcard(pattern):
    return (
        "*" in pattern
        or "?" in pattern
        or ("[" in pattern and "]" in pattern[pattern.index("[") + 2 :])
    )


def matches_text(value, pattern):
    return fnmatchcase(value, pattern) if has_wildcard(pattern) else pattern in value


def matches_path(value, pattern):
    def rest(names, parts):
        if not parts or not names:
            return not parts and not names
        if parts[0] == "**":
            return len(parts) == 1 or rest(names, parts[1:]) or rest(names[1:], parts)
        return fnmatchcase(names[0], parts[0]) and rest(names[1:], parts[1:])

    return rest(value.split("/"), pattern.split("/")) if has_wildcard(pattern) else pattern in value


def is_refused(value):
    if isinstance(value, str):
        return any(one == "\0" or "\ud800" <= one <= "\udfff" for one in value)
    if isinstance(value, dict):
        return any(map(is_refused, [*value, *value.values()]))
    return isinstance(value, list) and any(map(is_refused, value))


def meta_at(keys, kinds):
    """Return what reads a version's value at some keys, if it is of these kinds."""

    def read(version):
        value = None if is_refused(version.meta) else version.meta
        for key in keys:
            if not isinstance(value, dict if isinstance(key, str) else list):
                return None
            at_key = dict(enumerate(value)) if isinstance(value, list) else value
            value = at_key.get(key)
        is_of_kind = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if not is_of_kind:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and str not in kinds:
            return float(value) if abs(value) <= sys.float_info.max else None
        return value

    return read


@st.composite
def of_meta(draw):
    keys = draw(st.lists(st.sampled_from((*KEYS, 0, 1)), max_size=3))
    column = "meta" + "".join(
        f"[{key}]"
        if isinstance(key, int)
        else f".{key}"
        if key.isidentifier() and key.isascii()
        else f".{quoted(key)}"
        for key in keys
    )
    kind = draw(st.sampled_from(("number", "text", "pattern", "flag", "null")))
    if kind == "null":
        anything = meta_at(keys, (str, int, float, bool, list, dict))
        wanted = draw(st.booleans())
        return (
            f"{column} is {'' if wanted else 'not '}null",
            lambda v: (anything(v) is None) == wanted,
        )
    if kind == "flag":
        of = meta_at(keys, (bool,))
        signs = {"": True, " = true": True, " != true": False, " = false": False}
        sign = draw(st.sampled_from(tuple(signs)))
        return f"{column}{sign}", lambda v: None if of(v) is None else of(v) == signs[sign]
    if kind == "pattern":
        return draw(matched(column, PATTERNS, meta_at(keys, (str,)), matches_text))
    values = {
        "number": (st.sampled_from(NUMBERS[:-1]).map(float), (int, float)),
        "text": (st.sampled_from(TEXTS), (str,)),
    }
    of = meta_at(keys, values[kind][1])
    return draw(compared(column, values[kind][0], of, nulls=()))


MOMENTS = st.integers(0, 3).map(lambda minutes: NOON + timedelta(minutes=minutes))
LABELS = st.sampled_from(TEXTS)


def label_of(version):
    return version.agent


def name_of(version):
    return version.path.rpartition("/")[2]


def stored(path):
    """Return a path in the order of which the index lists it."""
    return "".join(
        f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else one.replace("\\", "\\\\")
        for one in path
    )


def leaves(is_tagged):
    final = st.sampled_from(("final", "final = true", "final != false"))
    return st.one_of(
        compared("agent", LABELS, label_of),
        matched("agent", PATTERNS, label_of, matches_text),
        compared("size", st.integers(-1, 4), lambda version: version.size),
        compared("version", st.integers(0, 3), lambda version: version.version),
        compared("created", MOMENTS, lambda version: version.created_at),
        matched("name", (*PATTERNS, *ODD_PATTERNS), name_of, matches_text),
        matched("path", PATH_PATTERNS, lambda version: version.path, matches_path),
        compared("run", st.sampled_from(("r", "q", "s")), lambda version: version.run),
        compared("status", st.sampled_from(("failed", "running")), lambda _: "failed"),
        compared("path", st.sampled_from(NAMES), lambda version: stored(version.path), key=stored),
        compared(
            "name", st.sampled_from(NAMES), lambda version: stored(name_of(version)), key=stored
        ),
        final.map(lambda text: (text, lambda version: version.is_final_output)),
        st.sampled_from(("=", "!=")).map(
            lambda sign: (f"tag {sign} 'best'", lambda version: is_tagged(version) == (sign == "="))
        ),
        of_meta(),
        of_meta(),
    )


def joined(some):
    def both(word, rule):
        def join(parts):
            return (
                "(" + f" {word} ".join(text for text, _ in parts) + ")",
                lambda version: rule([says(version) for _, says in parts]),
            )

        return st.lists(some, min_size=2, max_size=3).map(join)

    return st.one_of(
        both("and", every),
        both("or", either),
        some.map(lambda one: (f"not ({one[0]})", lambda version: negated(one[1](version)))),
    )


def test_random_expressions_over_random_versions_agree_with_python(store, clock):
    """Expressions are evaluated in Python, by rules that are written once more."""
    store.session("s").run("q").put("fit.csv", b"1", agent="eng", meta={"a": 1})
    run = store.session("s").run("r")
    run.put("a", b"1")
    run.tag("best", path="a")
    for each in ("r", "q"):
        store.session("s").run(each).set_status("failed")
    store.session("theirs").run("r").put("a", b"1", agent="eng", meta={"a": 1})

    @given(
        st.lists(VERSIONS, min_size=1, max_size=3),
        st.lists(
            st.recursive(
                leaves(lambda v: (v.run, v.path, v.version) == ("r", "a", 1)), joined, max_leaves=5
            ),
            min_size=5,
            max_size=5,
        ),
    )
    def check(versions, expressions):
        for each in versions:
            clock.now = NOON + timedelta(minutes=each["minutes"])
            options = {"agent": each["label"], "meta": each["meta"]}
            final = {"is_final_output": each["final"]}
            run.put(each["path"], bytes(each["size"]), **options, **final)
        everything = [*store.session("s").find(all_versions=True)]
        for text, says in expressions:
            expected = [each for each in everything if says(each) is True]
            past = [*store.session("s").search(text, all_versions=True)]
            assert past == expected, f"{text}: not {[v.path for v in set(past) ^ set(expected)]}"
            current = [each for each in expected if each.end_snapshot is None]
            assert [*store.session("s").search(text)] == current, text

    check()
