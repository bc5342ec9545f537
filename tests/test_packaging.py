"""The wheel is complete, and works outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("runcas-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_contains_the_packages_the_migrations_and_the_type_markers(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (*ROOT.glob("cas/**/*.py"), *ROOT.glob("index/**/*.py")):
        assert str(path.relative_to(ROOT)) in names
    assert {"cas/py.typed", "index/py.typed", "index/migrations/env.py"} <= names
    assert "index/migrations/versions/0001_create_tables.py" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cas", "index"}
    metadata = next(name for name in names if name.endswith("METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    """Unpack the wheel for an interpreter that has its dependencies, without the checkout."""
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "f").write_bytes(b"1")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import index.cli, cas;"
        "assert index.__file__.startswith(sys.path[0]), index.__file__;"
        "assert cas.__file__.startswith(sys.path[0]), cas.__file__;"
        "index.cli.main()"
    )
    for arguments in (["track", "work"], ["ls"], ["db", "check"]):
        outcome = subprocess.run(
            [sys.executable, "-c", code, target, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr
