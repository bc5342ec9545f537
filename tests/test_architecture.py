"""Which module may know what: read from the code's own imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = __import__("sys").stdlib_module_names

RULES = [
    # files, what they may not import, except
    ("cas/**/*.py", {"index", "sqlalchemy", "alembic", "click", "rich"}, set()),
    (
        "cas/**/*.py",
        {"cas.backends.local", "cas.backends.memory", "cas.backends.fsspec"},
        {"cas/urls.py"},
    ),
    (
        "cas/**/*.py",
        {"cas.backends.remote", "cas.backends.traits"},
        {"cas/backends/fsspec.py", "cas/backends/remote.py"},
    ),
    (
        "cas/**/*.py",
        {"fsspec", "s3fs", "botocore"},
        {"cas/backends/fsspec.py", "cas/backends/remote.py"},
    ),
    (
        "index/**/*.py",
        {
            "cas.backends.local",
            "cas.backends.memory",
            "cas.backends.posix",
            "cas.backends.fsspec",
            "cas.backends.remote",
            "fsspec",
        },
        set(),
    ),
    ("index/**/*.py", {"alembic"}, {"index/schema.py"}),
    ("index/**/*.py", {"click", "rich", "index.cli"}, {"index/cli/"}),
    ("index/repository/*.py", {"cas.store", "cas.writer", "cas.reader", "os", "pathlib"}, set()),
    ("index/delta.py", {"sqlalchemy", "os", "index.repository", "index.database"}, set()),
    ("index/tables.py", {"sqlalchemy.orm", "index.repository", "index.records"}, set()),
    (
        "index/**/*.py",
        {"sqlalchemy.orm"},
        {"index/models.py", "index/callers_transaction.py", "index/file_repository.py"},
    ),
    ("index/**/*.py", {"index.models"}, {"index/models.py"}),
    ("migrations/**/*.py", {"index", "cas"}, set()),
]


def files(pattern):
    found = sorted(ROOT.glob(pattern))
    assert found, f"{pattern} matches no file"
    return found


def imports(path, *, typing=True):
    """Yield the modules that a file imports; with `typing` those for type checkers as well."""
    tree = ast.parse(path.read_text())
    skipped = set()
    if not typing:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize(("pattern", "forbidden", "exempt"), RULES)
def test_no_module_knows_what_it_should_not(pattern, forbidden, exempt):
    for path in files(pattern):
        relative = str(path.relative_to(ROOT))
        if any(relative.startswith(prefix) for prefix in exempt):
            continue
        known = {
            name
            for name in imports(path)
            for bad in forbidden
            if name == bad or name.startswith(f"{bad}.")
        }
        assert not known, f"{relative} imports {known}"


def test_the_cache_is_loaded_by_nobody_but_who_opens_one():
    parts = {"cas.cache.cache", "cas.cache.size", "cas.cache.extents"}
    for pattern in ("cas/**/*.py", "index/**/*.py"):
        for path in files(pattern):
            name = str(path.relative_to(ROOT))
            if name not in ("cas/urls.py", "cas/cache/cache.py"):
                assert not parts & set(imports(path, typing=False)), name


@pytest.mark.parametrize("name", ["backend", "errors", "digest"])
def test_the_contract_needs_nothing_but_the_standard_library_and_blake3(name):
    (path,) = files(f"cas/{name}.py")
    for module in imports(path):
        top = module.split(".")[0]
        assert top in STDLIB or top in ("blake3", "cas"), module


def calls(path):
    return {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }


def test_only_the_command_prints_exits_and_reads_the_environment():
    for pattern in ("cas/**/*.py", "index/**/*.py"):
        for path in files(pattern):
            if "cli" in path.parts:
                continue
            names = calls(path) | {
                ast.unparse(node)
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Attribute)
            }
            assert not names & {"print", "exit", "sys.exit", "os.environ", "os.getenv"}, path


def test_repositories_neither_commit_nor_read_a_clock():
    for path in files("index/repository/*.py"):
        for call in calls(path):
            assert not call.endswith((".commit", ".rollback", ".begin", ".now", ".utcnow")), path


def test_modules_stay_small():
    for pattern in ("cas/**/*.py", "index/**/*.py", "migrations/*.py"):
        for path in files(pattern):
            assert len(path.read_text().splitlines()) <= 400, path


def test_no_test_is_skipped():
    """One that can't hold on a combination of index and blobs says so by `places.on`."""
    for path in files("tests/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pytest."):
                assert node.attr not in {"skip", "skipif", "importorskip", "xfail"}, path


def test_every_module_says_what_it_is_and_what_of_it_is_public():
    for pattern in ("cas/**/*.py", "index/**/*.py"):
        for path in files(pattern):
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), path
            names = {
                ast.unparse(target)
                for node in tree.body
                if isinstance(node, ast.Assign)
                for target in node.targets
            }
            if path.parent.name != "repository" or path.name != "__init__.py":
                assert "__all__" in names, path


def test_what_is_public_exists():
    import importlib

    for package in ("cas", "index"):
        for path in files(f"{package}/**/*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            module = importlib.import_module(name)
            for public in getattr(module, "__all__", ()):
                assert hasattr(module, public), f"{name}.{public}"
