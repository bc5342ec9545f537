"""Which module may import which, checked in the code."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = __import__("sys").stdlib_module_names

RANK = [
    "cas", "errors", "domain", "decorators", "journal", "db", "context", "models", "scan", "commit",
    "reading", "transfer", "maintenance", "api", "__init__", "filesystem", "export",
    "imports", "web", "integrations", "cli",
]  # fmt: skip
"""The rooms, bottom up: none imports a later one."""

SINGLE_FILES = {"__init__", "context", "decorators", "models"}
"""Rooms of `index` that are one module."""

FACES = {"filesystem", "export", "imports", "web", "integrations"}
"""Rooms that import only public names, and not each other."""

STRANGERS = [{"scan", "reading"}, {"transfer", "maintenance"}]
"""Neighbours: neither room of a pair imports the other."""

RULES = [
    # files, what they must not import, except
    ("cas/**/*.py", {"index", "sqlalchemy", "alembic", "click", "rich"}, set()),
    (
        "cas/**/*.py",
        {"cas.backends.local", "cas.backends.memory", "cas.backends.fsspec"},
        {"cas/urls.py"},
    ),
    ("cas/**/*.py", {"cas.backends.remote", "cas.backends.traits"}, {"cas/backends/"}),
    (
        "cas/**/*.py",
        {"fsspec", "s3fs", "botocore"},
        {"cas/backends/fsspec.py", "cas/backends/remote.py"},
    ),
    ("cas/**/*.py", {"pytest", "cas.testing"}, {"cas/testing.py"}),
    ("index/**/*.py", {"pytest", "cas.testing"}, set()),
    ("index/**/*.py", {"cas.backends"}, set()),
    ("index/**/*.py", {"fsspec"}, {"index/filesystem/", "index/reading/references.py"}),
    ("index/**/*.py", {"alembic"}, {"index/db/schema.py"}),
    ("index/**/*.py", {"click", "rich"}, {"index/cli/"}),
    (
        "index/**/*.py",
        {"sqlalchemy"},
        {
            "index/db/", "index/commit/", "index/transfer/", "index/maintenance/",
            "index/api/", "index/cli/location.py",
            "index/models.py", "index/context.py",
        },
    ),
    ("index/db/queries/*.py", {"cas.store", "cas.writer", "cas.reader", "os", "pathlib"}, set()),
    ("index/domain/*.py", {"sqlalchemy", "pathlib", "cas.store", "cas.backend"}, set()),
    ("index/db/tables.py", {"sqlalchemy.orm"}, set()),
    (
        "index/**/*.py",
        {"sqlalchemy.orm"},
        {
            "index/models.py",
            "index/commit/caller_transaction.py",
            "index/api/file_repository.py",
        },
    ),
    ("index/**/*.py", {"index.models"}, {"index/models.py"}),
    ("migrations/**/*.py", {"index", "cas"}, set()),
]  # fmt: skip


def files(pattern):
    found = sorted(ROOT.glob(pattern))
    assert found, f"{pattern} matches no file"
    return found


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in (*files("cas/**/*.py"), *files("index/**/*.py"))}


def room_of(module):
    """Return the room that a module stands in."""
    package, *rest = module.split(".")
    if package == "cas":
        return package
    return rest[0] if rest else "__init__"


def imports(path, *, typing=True):
    """Yield the modules that a file imports; with `typing`, also those for type checkers."""
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


def edges():
    """Yield each import of one of our modules by another, also those inside functions.

    `from package import module` is an import of the module, not of the package.
    """
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{name.name}" for name in node.names}
                found = inner & MODULES.keys() or {node.module}
                found |= {node.module} if len(inner & MODULES.keys()) < len(inner) else set()
            else:
                continue
            yield from ((module, other) for other in found & MODULES.keys() if other != module)


def test_every_module_stands_in_a_room():
    unknown = {
        module
        for module, path in MODULES.items()
        if room_of(module) not in RANK
        or (path.parent == ROOT / "index" and path.stem not in SINGLE_FILES)
    }
    assert not unknown, f"give {unknown} a place in one of the rooms of RANK"


def test_a_room_imports_only_rooms_below_it():
    upward = {
        f"{module} imports {other}"
        for module, other in edges()
        if RANK.index(room_of(other)) > RANK.index(room_of(module))
    }
    assert not upward


def test_rooms_side_by_side_do_not_know_each_other():
    met = {
        f"{module} imports {other}"
        for module, other in edges()
        if {room_of(module), room_of(other)} in STRANGERS
        or (room_of(module) != room_of(other) and {room_of(module), room_of(other)} <= FACES)
    }
    assert met <= {
        # A lost index is rebuilt in a temporary place and moved at the end, like a restore.
        "index.maintenance.recover.recover imports index.reading.staging"
    }


def test_faces_use_public_names_only():
    public = {"cas", "cas.backend", "cas.errors", "cas.digest", "index", "index.models"}
    public |= {"cas.redaction", "index.api.location"}  # for all that open a store for others
    public |= {"cas.temporary"}  # what is said of a TMPDIR that is full or missing
    public |= {"cas.deflating"}  # what is compressed in a zip file, for all that write one
    public |= {"index.domain.units"}  # sizes and times as people write them
    for module, other in edges():
        if room_of(module) in FACES and room_of(other) != room_of(module):
            assert other in public or other.startswith("index.errors"), f"{module} imports {other}"


def test_no_imports_go_round_in_a_circle():
    imported = defaultdict(set)
    for module, other in edges():
        imported[module].add(other)
    left = dict(imported)
    while leaves := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in leaves}
    assert not left, f"a circle goes through some of {sorted(left)}"


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
            if name not in ("cas/urls.py", "cas/cache/cache.py", "cas/cache/files.py"):
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
            is_finding = path == ROOT / "index/api/location.py"  # as the command, for `index.open`
            names = calls(path) | {
                ast.unparse(node)
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Attribute)
            }
            forbidden = {"print", "exit", "sys.exit", "os.environ", "os.getenv"}
            assert names & forbidden <= ({"os.environ"} if is_finding else set()), path


def test_queries_neither_commit_nor_read_a_clock():
    for path in files("index/db/queries/*.py"):
        for call in calls(path):
            assert not call.endswith((".commit", ".rollback", ".begin", ".now", ".utcnow")), path


def test_modules_stay_small():
    for pattern in ("cas/**/*.py", "index/**/*.py", "migrations/**/*.py", "benchmarks/*.py"):
        for path in files(pattern):
            assert len(path.read_text().splitlines()) <= 400, path


def test_no_test_is_skipped():
    """A test that cannot hold on a combination of index and blobs says so with `places.on`."""
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
            assert "__all__" in names, path


def test_what_is_public_exists():
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"
