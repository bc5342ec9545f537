"""The documentation is right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from forged import assert_sound, frame_of, name_of, pack_of
from places import packs_of
from trees import write

from cas.digest import Digest
from cas.packs.pack import read_footer
from index import ArtifactStore

ROOT = Path(__file__).parents[1]


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_readme_has_exactly_two_commands_for_a_fresh_machine():
    section = (ROOT / "README.md").read_text().split("## Start")[1].split("\n## ")[0]
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)
    (script,) = re.findall(r"examples/\w+\.sh", commands[0])
    assert "cas track" in (ROOT / script).read_text()
    assert "pytest" in commands[1]


def test_ci_runs_the_test_command_of_the_readme():
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "work", {"data/result.csv": b"1,2\n", "plan.md": b"plan"})
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    with ArtifactStore.open(tmp_path / "artifacts", create=False) as store:
        assert store.stats().runs == 1


def test_every_link_in_the_documents_leads_somewhere():
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_tests_that_the_architecture_names_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for row in page.splitlines():
        folder = ROOT
        for name, test in re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)?(?:::(\w+))?`", row):
            if name:
                folder = (ROOT / name).parent if "/" in name else folder
                path = folder / Path(name).name
                assert path.exists(), row
            if test:
                text = path.read_text()
                assert f"def {test}(" in text or f"class {test}" in text, row


def test_the_modules_that_pages_name_exist():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for name in re.findall(r"(?<![\w/.])(?:cas|index)/(?!test_)[\w/]+\.py\b", page.read_text()):
            assert (ROOT / name).is_file() or name == "index/migrations/env.py", f"{page}: {name}"


def test_every_decision_is_listed():
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    for decision in (ROOT / "docs" / "adr").glob("0*.md"):
        assert decision.name in listed


def test_the_numbers_in_the_code_cite_what_exists():
    for path in (*ROOT.glob("cas/**/*.py"), *ROOT.glob("index/**/*.py")):
        for cited in re.findall(r"\b((?:docs|benchmarks)/[\w./-]+\.\w+)", path.read_text()):
            assert (ROOT / cited).exists(), f"{path}: {cited}"


@pytest.fixture
def pack(objects, store, work, tmp_path):
    write(work, {"text": b"text " * 100, "raw": b"\x00\x01", "empty": b""})
    store.session("s").run("r").track(work)
    (name,) = packs_of(objects)
    found = tmp_path / "fetched.pack"
    found.write_bytes(objects.read(name))
    return found


def unpack(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "docs" / "unpack.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_pack_can_be_read_without_the_library(pack, tmp_path):
    source = (ROOT / "docs" / "unpack.py").read_text()
    assert "import cas" not in source
    assert "index" not in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)
    listed = unpack(pack)
    assert listed.returncode == 0
    assert str(Digest.of(b"text " * 100)) in listed.stdout
    assert unpack(pack, "--to", tmp_path / "out").returncode == 0
    (records,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    (record,) = [json.loads(path.read_text()) for path in records.glob("*.json")]
    assert sorted(record["files"]["paths"]) == ["empty", "raw", "text"]
    found = {
        path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()
    }
    assert found == {str(Digest.of(d)): d for d in (b"text " * 100, b"\x00\x01", b"")}


def test_a_damaged_pack_is_refused_without_the_library(pack, tmp_path):
    pack.write_bytes(pack.read_bytes()[:-1])
    outcome = unpack(pack)
    assert outcome.returncode != 0
    assert outcome.stderr.count("\n") == 1
    assert "Traceback" not in outcome.stderr


def test_packs_are_checked_without_the_library(pack, tmp_path):
    data = pack.read_bytes()
    sound = tmp_path / f"{name_of(data)}.pack"
    sound.write_bytes(data)
    outcome = unpack("--check", sound)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    entry = frame_of(data)[1][0][3]
    for number, at in enumerate((9, 20, 30, entry, len(data) - 60, len(data) - 1)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        broken = tmp_path / str(number) / sound.name
        broken.parent.mkdir()
        broken.write_bytes(damaged)
        outcome = unpack("--check", broken, sound)
        assert outcome.returncode == 1, at
        assert str(broken) in outcome.stderr.splitlines()[-1]
        assert f"{sound}:" not in outcome.stderr


def test_the_script_says_what_it_needs_to_check(pack, tmp_path):
    for missing, said in (("blake3", "pip install blake3"), ("zstandard", "pip install zstandard")):
        (tmp_path / missing).mkdir()
        (tmp_path / missing / f"{missing}.py").write_text("raise ImportError")
        code = (
            f"import runpy, sys; sys.path.insert(0, {str(tmp_path / missing)!r});"
            f"sys.argv = ['unpack.py', '--check', {str(pack)!r}];"
            f"runpy.run_path({str(ROOT / 'docs' / 'unpack.py')!r}, run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        has_it = missing == "zstandard" and sys.version_info >= (3, 14)
        assert (said in done.stderr) != has_it


def test_a_pack_that_holds_a_digest_twice_is_no_sound_one(tmp_path):
    record = (1, 0, blake3(b"hello").digest(), 32, 5, 5)
    data = pack_of([record, (*record[:3], 37, 5, 5)], body=b"hellohello")
    file = tmp_path / f"{name_of(data)}.pack"
    file.write_bytes(data)
    outcome = unpack("--check", file)
    assert (outcome.returncode, "twice" in outcome.stderr) == (1, True)


def test_the_format_documents_example_is_a_pack_that_is_read():
    text = (ROOT / "docs" / "format.md").read_text()
    lines = re.findall(r"^ +[0-9a-f]{8}: ((?:[0-9a-f]{2} ){1,16}) ", text, re.MULTILINE)
    data = bytes.fromhex("".join(lines))
    assert len(data) > 100
    assert_sound(name_of(data), data)
    assert name_of(data) in text
    assert read_footer("example", len(data), lambda start, size: data[start : start + size])


def test_no_document_or_module_names_a_place_of_this_machine():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in tracked:
        if name.endswith((".py", ".md", ".toml", ".json", ".txt", ".yml", ".yaml", "ci/run")):
            text = (ROOT / name).read_text()
            assert str(ROOT) + "/" not in text or str(ROOT) == "/", name
