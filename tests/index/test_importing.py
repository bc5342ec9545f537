"""What a command doesn't use isn't loaded; whoever uses it all the same finds no difference."""

from __future__ import annotations

import subprocess
import sys

import pytest
from trees import write

SPARED = ("asyncio", "importlib.metadata")


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_a_track_loads_neither_asyncio_nor_what_plugins_are_found_with(tmp_path):
    write(tmp_path / "work", {"a": b"1"})
    call = ["--store", str(tmp_path / "store"), "track", str(tmp_path / "work"), "--run", "r"]
    code = (
        "import atexit, sys\n"
        "from index.cli import main\n"
        f"atexit.register(lambda: print([n for n in {SPARED} if n in sys.modules]))\n"
        f"main({call})"
    )
    python(code)  # makes the store: migrations take more
    assert python(code)[-1] == "[]"


@pytest.mark.parametrize("before", ["", "import asyncio, importlib.metadata\n"])
def test_what_was_spared_is_there_for_whoever_asks_for_it(before):
    code = (
        f"{before}"
        "from index.cli.importing import sparing_imports\n"
        "with sparing_imports():\n"
        "    import asyncio as within\n"
        "    from importlib import metadata\n"
        "    import sqlalchemy.util.concurrency as concurrency\n"
        "async def one(): return 1\n"
        "waiting = one()\n"
        "print(concurrency.iscoroutine(waiting), concurrency.iscoroutine(1))\n"
        "print(within.run(waiting), metadata.version('runcas') != '')\n"
        "import asyncio, asyncio.queues, importlib.metadata, sys\n"
        "print(sys.modules['asyncio'].__spec__ is not None, asyncio is sys.modules['asyncio'])\n"
        "print(asyncio.Queue is within.Queue, importlib.metadata.version is metadata.version)\n"
    )
    assert python(code) == ["True False", "1 True", "True True", "True True"]


def test_a_module_that_is_used_while_it_is_spared_is_loaded():
    code = (
        "from index.cli.importing import sparing_imports\n"
        "with sparing_imports():\n"
        "    import asyncio\n"
        "    print(asyncio.Queue.__module__)\n"
        "    from asyncio import queues\n"
        "import sys\n"
        "print(sys.modules['asyncio'].Queue is queues.Queue)\n"
    )
    assert python(code) == ["asyncio.queues", "True"]
