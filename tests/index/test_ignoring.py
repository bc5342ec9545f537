"""What a scan leaves out: hidden files, ignore patterns, ignore files. Git is the measure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from places import on_one
from trees import write

from index.context import OwnFiles
from index.errors import InvalidNameError
from index.scan.coverage import Coverage
from index.scan.scanner import Scan

on_one_place = on_one(because="what a scan passes over reaches neither index nor storage")

NAMES = ("a", "b", "ab", "a.csv", "b.csv", ".h", "é", "a b", "[a]", "#a", "!a", "a\\", "é.csv", "-")
PIECES = (
    *("a", "b", "ab", ".csv", "*.csv", "é", ".h", "#a", "-", " ", "\t", "\\", "\\ ", "\\*", "\\!"),
    *("*", "*", "**", "**/", "/**", "/**/", "/", "/", "!", "?", "??", "[ab]", "[!a]", "[^b]"),
    *("[a-b]", "[]a]", "[[:alpha:]]", "[![:punct:]]", "[[:none:]]", "[", "]", "[\\]]", "[a-]"),
)
LINES = st.builds(
    lambda sign, pieces: sign + "".join(pieces),
    st.sampled_from(("", "", "!")),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5),
)
PATTERNS = st.lists(LINES, min_size=1, max_size=5)
PATHS = st.builds("/".join, st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    """The files of a directory that git would add, with patterns that are in no file of it."""
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", folder], check=True)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = [*("git", "-c", f"core.excludesFile={os.devnull}", "-c", "core.ignoreCase=false")]
    command += ["ls-files", "-z", "--others", "--exclude-standard"]

    def list_files(work, patterns=()):
        lines = "".join(f"{pattern}\n" for pattern in patterns)
        (folder / ".git/info/exclude").write_text(lines, encoding="utf-8")
        told = subprocess.run(
            command,
            cwd=work,
            env={**environment, "GIT_DIR": str(folder / ".git"), "GIT_WORK_TREE": str(work)},
            check=True,
            capture_output=True,
        )
        return sorted(filter(None, map(os.fsdecode, told.stdout.split(b"\0"))))

    return list_files


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Make directories with some files each; where a file is in the way of one, it is left out."""

    def make(files):
        work = tmp_path_factory.mktemp("tree")
        for path, data in files.items():
            try:
                write(work, {path: data})
            except OSError:
                continue
        return work

    return make


def scanned(work, **options):
    coverage = Coverage(hidden=True, default_ignores=False, **options)
    scan = Scan(str(work), {}, coverage, own=OwnFiles.of(()))
    return sorted(file.path for file in scan)


def is_valid(pattern):
    try:
        Coverage(ignore=[pattern])
    except InvalidNameError:
        return False
    return True


class TestGit:
    @settings(max_examples=max(150, settings.default.max_examples))
    @given(st.lists(PATHS, min_size=1, max_size=12), PATTERNS)
    @example(["data/keep.csv", "data/x.csv", "data/sub/z"], ["data/**", "!data/keep.csv"])
    @example(["a.csv", "a", "b/a.csv", "b/ab"], ["*", "!*/", "!*.csv"])
    @example(["data/a", "data/b/a"], ["data/**/"])
    @example(["a/b", "ab", "axb"], ["a**/b"])
    @example(["a/ab/b", "a/b/ab"], ["**/a*b"])
    @example(["a /b", "a b", "a"], ["a\\ ", "b "])
    def test_patterns_leave_out_what_they_leave_out_in_git(self, git, trees, paths, patterns):
        work = trees(dict.fromkeys(paths, b"x"))
        kept = git(work, patterns)
        assert scanned(work, ignore=filter(is_valid, patterns)) == kept

    @settings(max_examples=max(100, settings.default.max_examples))
    @given(
        st.lists(PATHS, min_size=1, max_size=12),
        st.dictionaries(st.sampled_from(("", "a/", "a/b/", "b/")), PATTERNS, min_size=1),
    )
    def test_ignore_files_leave_out_what_they_leave_out_in_git(self, git, trees, paths, files):
        lines = {
            f"{folder}.gitignore": "".join(f"{line}\r\n" for line in patterns).encode()
            for folder, patterns in files.items()
        }
        work = trees({**dict.fromkeys(paths, b"x"), **lines})
        kept = git(work)
        assert scanned(work, gitignore=True) == kept
        for path in lines:
            if (work / path).exists():
                (work / path).rename((work / path).with_name(".casignore"))
        kept = [path.replace(".gitignore", ".casignore") for path in kept]
        without = [path for path in scanned(work) if not path.endswith(".casignore")]
        assert without == [path for path in kept if not path.endswith(".casignore")]

    def test_what_a_repository_excludes_beside_its_ignore_files(self, work):
        write(work, {"a": b"", "b": b"", "c": b"", ".git/info/exclude": b"a\nb\n"})
        write(work, {".gitignore": b"!b\n"})
        inside = [path for path in scanned(work, gitignore=True) if not path.startswith(".git/")]
        assert inside == [".gitignore", "b", "c"]
        assert "a" in scanned(work)

    def test_a_directory_is_matched_as_one_and_a_link_to_it_is_not(self, work):
        write(work, {"d/f": b""})
        (work / "link").symlink_to("d")
        assert scanned(work, ignore=["d/", "link/"]) == ["link"]

    def test_a_hostile_pattern_ends(self, work):
        name = "a" * 200
        write(work, {f"{name}/{name}/{name}": b""})
        stars, directories = "*a" * 60 + "b", "**/a*/" * 60 + "b"
        found = scanned(work, ignore=[stars, directories, f"x/{stars}", "?*" * 90 + "b"])
        assert found == [f"{name}/{name}/{name}"]


@on_one_place
class TestPatterns:
    @pytest.mark.parametrize(
        "pattern", ["!", "/", "[ab", "x\\", "[[:none:]]", b"x", None, "\ud800"]
    )
    def test_a_pattern_that_can_match_nothing_is_refused(self, run, work, pattern):
        with pytest.raises(InvalidNameError, match="can't be the pattern"):
            run.track(work, ignore=[pattern])
        with pytest.raises(InvalidNameError, match="can't be the pattern"):
            run.track(work, final=[pattern])

    @pytest.mark.parametrize("name", ["scope", "ignore", "final"])
    def test_what_is_no_pattern_or_path_is_named(self, run, work, name):
        for wrong in ("a", work, b"a"):
            with pytest.raises(TypeError, match=f"{name} takes a sequence"):
                run.track(work, **{name: wrong})
        with pytest.raises((TypeError, InvalidNameError), match="None"):
            run.track(work, **{name: [None]})

    def test_such_a_line_of_an_ignore_file_says_nothing(self, run, work):
        write(work, {".casignore": b"!\n[ab\n\n# a comment\nb\n", "a": b"", "b": b""})
        assert [v.path for v in run.track(work).added] == ["a"]


class TestManyNames:
    """A scan asks once which names of a directory a pattern may concern."""

    @given(
        names=st.lists(st.sampled_from((*NAMES, "a\n", "\n")), unique=True),
        patterns=PATTERNS,
        hidden=st.booleans(),
    )
    @example(names=["a", "b", "c"], patterns=["**"], hidden=True)
    @example(names=["a", "ab", "b"], patterns=["a*b"], hidden=True)
    def test_about_all_others_the_patterns_say_nothing(self, names, patterns, hidden):
        coverage = Coverage(ignore=[p for p in patterns if is_valid(p)], hidden=hidden)
        asked = coverage.which("d", names)
        assert set(asked) <= {*names, ""}
        for name in {*names} - {*asked}:
            path = f"d/{name}"
            assert coverage.excludes(path, is_directory=False) is None
            assert coverage.passes_over(path, name, is_directory=False) is None

    @pytest.mark.parametrize(("ignore", "asked"), [((), 2), (("*.log",), 2), (("a/*.log",), 12)])
    def test_only_directories_and_names_like_a_pattern_are_matched_alone(
        self, run, work, monkeypatch, ignore, asked
    ):
        files = {f"{folder}/f{n}.txt": b"%d" % n for folder in "ab" for n in range(5)}
        write(work, files)
        matched = []
        excludes = Coverage.excludes
        monkeypatch.setattr(
            Coverage,
            "excludes",
            lambda self, path, **told: matched.append(path) or excludes(self, path, **told),
        )
        assert added(run, work, ignore=ignore) == sorted(files)
        assert len(matched) == asked


def added(run, work, **options):
    return [version.path for version in run.track(work, **options).added]


HIDDEN = {".log": b"1", ".hydra/config.yaml": b"2", ".hydra/.x": b"3", "a/.b": b"4", "c": b"5"}


@on_one_place
class TestHiddenFiles:
    def test_they_are_passed_over_and_counted(self, run, work):
        write(work, HIDDEN)
        snapshot = run.track(work)
        assert [v.path for v in snapshot.added] == ["c"]
        assert (snapshot.hidden, snapshot.ignored, snapshot.skipped) == (3, 0, ())
        assert run.track(work).hidden == 3

    def test_they_are_recorded_if_asked_for(self, run, work):
        write(work, HIDDEN)
        snapshot = run.track(work, hidden=True)
        assert [v.path for v in snapshot.added] == sorted(HIDDEN)
        assert snapshot.hidden == 0

    @pytest.mark.parametrize(
        ("patterns", "found"),
        [
            ([".*", "!.log"], [".log", "c"]),
            (["!.*"], sorted([*HIDDEN, ".e/f/g/h", ".e/i"])),
            (["!.hydra/"], [".hydra/config.yaml", "c"]),
            (["!.hydra/.x"], [".hydra/.x", "c"]),
            (["!.hydra/.x", "!/.hydra/config.yaml"], [".hydra/.x", ".hydra/config.yaml", "c"]),
            (["!a/.b"], ["a/.b", "c"]),
            (["!**/.hydra/*.yaml"], [".hydra/config.yaml", "c"]),
            (["!.e/f/g/h"], [".e/f/g/h", "c"]),
            (["!.e/*/g/h"], [".e/f/g/h", "c"]),
            (["!.e/**/h"], [".e/f/g/h", "c"]),
            (["!.e", "!.e/f/x"], [".e/f/g/h", ".e/i", "c"]),
            (["!**/h", "!*/f/g/h", "!h"], ["c"]),
        ],
    )
    @pytest.mark.parametrize("in_file", [False, True])
    def test_a_pattern_that_names_one_brings_it_in(self, run, work, patterns, found, in_file):
        write(work, HIDDEN | {".e/f/g/h": b"6", ".e/i": b"7"})
        if in_file:
            write(work, {".casignore": "\n".join([*patterns, ".casignore"]).encode()})
        assert added(run, work, ignore=() if in_file else patterns) == found

    def test_one_of_the_run_is_looked_at_beside_such_a_pattern(self, run, work):
        write(work, HIDDEN)
        run.track(work, hidden=True)
        write(work, {".hydra/.x": b"new"})
        (work / ".hydra/config.yaml").unlink()
        snapshot = run.track(work, ignore=["!.hydra/more.yaml"])
        assert [v.path for v in snapshot.changed] == [".hydra/.x"]
        assert [v.path for v in snapshot.removed] == [".hydra/config.yaml"]

    def test_one_that_was_put_is_looked_at_by_later_scans(self, run, work):
        write(work, HIDDEN)
        run.put(".hydra/config.yaml", b"2")
        run.put(".log", b"1")
        snapshot = run.track(work)
        assert ([v.path for v in snapshot.added], snapshot.unchanged) == (["c"], 2)
        assert snapshot.hidden == 2  # .hydra/.x and a/.b
        write(work, {".hydra/config.yaml": b"new", ".log": b"new"})
        assert [v.path for v in run.track(work).changed] == [".hydra/config.yaml", ".log"]
        (work / ".log").unlink()
        (work / ".hydra/config.yaml").unlink()
        assert [v.path for v in run.track(work).removed] == [".hydra/config.yaml", ".log"]

    def test_a_scan_that_passes_them_over_takes_none_for_removed(self, run, work):
        write(work, HIDDEN)
        run.track(work, hidden=True)
        snapshot = run.track(work)
        assert (snapshot.removed, snapshot.unchanged) == ((), 5)


UNWANTED = {
    "node_modules/x/index.js": b"1",
    "lib/__pycache__/x.pyc": b"2",
    "x.tmp": b"3",
    "x~": b"4",
    "#x#": b"5",
    ".x.swp": b"6",
    ".git/HEAD": b"7",
    ".venv/pyvenv.cfg": b"8",
    ".ipynb_checkpoints/x.ipynb": b"9",
    "x": b"10",
}


@on_one_place
class TestDefaultPatterns:
    def test_what_hardly_anyone_wants_is_passed_over_and_counted(self, run, work):
        write(work, UNWANTED)
        snapshot = run.track(work, hidden=True)
        assert [v.path for v in snapshot.added] == ["x"]
        assert (snapshot.hidden, snapshot.ignored) == (0, 9)

    def test_they_can_be_switched_off(self, run, work):
        write(work, UNWANTED)
        assert added(run, work, hidden=True, default_ignores=False) == sorted(UNWANTED)

    def test_a_pattern_brings_back_what_they_leave_out(self, run, work):
        write(work, UNWANTED)
        assert added(run, work, ignore=["!*.tmp"]) == ["x", "x.tmp"]

    def test_a_pattern_reaches_into_what_they_leave_out(self, run, work):
        write(work, UNWANTED)
        patterns = ["!node_modules/x/*.js", "!lib/__pycache__/x.pyc", "!.venv/pyvenv.cfg"]
        assert added(run, work, ignore=patterns) == [
            ".venv/pyvenv.cfg",
            "lib/__pycache__/x.pyc",
            "node_modules/x/index.js",
            "x",
        ]

    def test_a_file_that_was_put_is_looked_at_all_the_same(self, run, work):
        write(work, {"x.tmp": b"1", "node_modules/a": b"1", "node_modules/b": b"1"})
        run.put("x.tmp", b"0")
        run.put("node_modules/a", b"0")
        snapshot = run.track(work)
        assert [v.path for v in snapshot.changed] == ["node_modules/a", "x.tmp"]
        assert (snapshot.added, snapshot.ignored) == ((), 1)

    def test_an_array_of_zarr_is_recorded_whole(self, run, work):
        files = {"a/.zarray": b"{}", "a/.zattrs": b"{}", "a/0.0": b"x", ".zgroup": b"{}"}
        write(work, files)
        assert added(run, work) == sorted(files)


@on_one_place
class TestIgnoreFiles:
    def test_they_hold_where_they_are_and_below(self, run, work):
        write(work, {".casignore": b"*.log\n/top\n", "d/.casignore": b"!a.log\n/sub/x\n"})
        write(work, {"a.log": b"", "top": b"", "d/a.log": b"", "d/b.log": b"", "d/top": b""})
        write(work, {"d/sub/x": b"", "d/sub/y": b"", "d/sub/sub/x": b""})
        snapshot = run.track(work)
        assert [v.path for v in snapshot.added] == ["d/a.log", "d/sub/sub/x", "d/sub/y", "d/top"]
        assert (snapshot.hidden, snapshot.ignored) == (2, 4)

    def test_those_of_git_hold_only_if_asked_for_and_ours_come_first(self, run, work):
        write(work, {".gitignore": b"a\nb\n", ".casignore": b"!b\nc\n", "d/.gitignore": b"!c\n"})
        write(work, {"a": b"", "b": b"", "c": b"", "d/c": b""})
        assert added(run, work) == ["a", "b"]
        other = run.fork("other", at=0)
        assert added(other, work, gitignore=True) == ["b", "d/c"]

    def test_the_callers_patterns_come_before_them(self, run, work):
        write(work, {".casignore": b"a\n!b\n", "a": b"", "b": b"", "c": b""})
        assert added(run, work, ignore=["!a", "b"]) == ["a", "c"]

    def test_those_above_a_scope_hold_in_it_but_not_for_itself(self, run, work):
        write(work, {".casignore": b"d\n*.log\n", "d/.casignore": b"x\n"})
        write(work, {"d/e/a": b"", "d/e/a.log": b"", "d/e/x": b"", "d/e/d/a": b""})
        assert added(run, work, scope=["d/e"]) == ["d/e/a"]

    def test_what_they_leave_out_is_not_taken_for_removed(self, run, work):
        write(work, {"a.log": b"1", "d/a": b"1", "d/b": b"1"})
        run.track(work)
        write(work, {".casignore": b"*.log\n", "d/.casignore": b"a\n"})
        for path in ("a.log", "d/a", "d/b"):
            (work / path).unlink()
        assert [v.path for v in run.track(work).removed] == ["d/b"]

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda path: path.symlink_to("/etc/passwd"), "symbolic link, which is not followed"),
            (lambda path: path.write_bytes(b"x" * (1 << 20) + b"\n"), "at most 1 MiB"),
        ],
    )
    def test_one_that_cannot_be_used_is_reported(self, run, work, make, reason):
        write(work, {"d/x": b""})
        make(work / "d/.casignore")
        snapshot = run.track(work)
        assert [v.path for v in snapshot.added] == ["d/x"]
        (skipped,) = snapshot.skipped
        assert skipped.path == "d/.casignore"
        assert reason in skipped.reason

    def test_what_is_no_file_is_no_ignore_file(self, run, work):
        write(work, {".casignore/x": b"", "x": b""})
        os.mkfifo(work / ".gitignore")
        snapshot = run.track(work, gitignore=True)
        assert ([v.path for v in snapshot.added], snapshot.skipped) == (["x"], ())


COMMANDED = {".log": b"1", "x.tmp": b"2", "y": b"3", ".gitignore": b"y\n", "z": b"4"}


class TestTheCommand:
    def listed(self, cas, tmp_path, *options):
        write(tmp_path / "work", COMMANDED)
        code, out, err = cas("track", "work", *options)
        assert code == 0, err
        paths = [line.split()[-1] for line in cas("ls", "-R")[1].splitlines()]
        return sorted(paths), out

    def test_it_says_how_much_it_passed_over(self, cas, tmp_path):
        paths, out = self.listed(cas, tmp_path)
        assert paths == ["y", "z"]
        assert "0 skipped, 2 hidden, 1 ignored;" in out

    def test_options_record_more_or_less(self, cas, tmp_path):
        options = ("--hidden", "--no-default-ignores", "--gitignore", "--ignore", "!.gitignore")
        paths, out = self.listed(cas, tmp_path, *options)
        assert paths == [".gitignore", ".log", "x.tmp", "z"]
        assert "0 skipped, 1 ignored;" in out

    def test_a_table_in_the_configuration_sets_them(self, cas, tmp_path):
        (tmp_path / "cas.toml").write_text(
            '[track]\nhidden = true\ndefault_ignores = false\ngitignore = true\nignore = [".log"]\n'
        )
        paths, _ = self.listed(cas, tmp_path)
        assert paths == [".gitignore", "x.tmp", "z"]
        assert (tmp_path / ".cas/cas.json").is_file()

    def test_options_come_before_the_configuration(self, cas, tmp_path):
        (tmp_path / "cas.toml").write_text('[track]\nhidden = true\nignore = ["z"]\n')
        paths, _ = self.listed(cas, tmp_path, "--no-hidden", "--ignore", "!z")
        assert paths == ["y", "z"]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("track = 1", "no table"),
            ("[track]\nhiden = true", "no setting 'hiden'; it has ignore, hidden"),
            ('[track]\nhidden = "yes"', "hidden in [track] is true or false"),
            ('[track]\nignore = "*.log"', "a list of patterns"),
        ],
    )
    def test_a_setting_that_is_none_is_refused(self, cas, tmp_path, text, says):
        Path(tmp_path, "cas.toml").write_text(f"{text}\n")
        write(tmp_path / "work", {"x": b""})
        code, _, err = cas("track", "work")
        assert code == 2
        assert says in err
        assert not (tmp_path / ".cas").exists()

    def test_a_configuration_without_a_store_is_not_overwritten(self, cas, tmp_path):
        Path(tmp_path, "cas.toml").write_text("[track]\nhidden = true\n")
        code, _, err = cas("init", "--index", "sqlite:///x.db", "--blobs", "blobs")
        assert code == 2
        assert 'add index = "sqlite:///x.db"' in err
