"""docs/troubleshooting.md has every error, with its sentence, class and exit code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import cas.errors
import index.errors
from index.cli.advice import in_commands
from index.cli.entry_point import EXIT_CODES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
ENTRY = re.compile(r"^((?:>.*\n)+)\n((?:`\w+`(?:, | and )?)+), exit code (\d+)\.", re.MULTILINE)


def load_arguments():
    file = ROOT / "tests" / "cas" / "test_errors.py"
    spec = importlib.util.spec_from_file_location("arguments_of_errors", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ARGUMENTS


ARGUMENTS = load_arguments()
MADE = [
    getattr(module, name)(*ARGUMENTS[name])
    for module in (cas.errors, index.errors)
    for name in module.__all__
    if name in ARGUMENTS
] + [
    index.errors.IndexInterruptedError("subject", "reason", may_have_committed=True),
    index.errors.SchemaOutOfDateError("subject", "0002", "0001", newer=True),
    index.errors.BytesNotKeptError("subject", 2, "dropped on 2026-05-01: reason"),
]
"""An error of each class; two of those whose sentence depends on an option."""


def entries():
    """Return the page's sentences, each with the classes that it is for, and their exit code."""
    found = []
    for quoted, classes, code in ENTRY.findall(PAGE):
        sentence = " ".join(line.lstrip("> ") for line in quoted.splitlines())
        found.append((sentence, re.findall(r"`(\w+)`", classes), int(code)))
    return found


def says(sentence, error):
    """Whether an error is the sentence, with other words in place of each ellipsis."""
    words = ".+".join(re.escape(part) for part in sentence.split("…"))
    return re.fullmatch(words, in_commands(str(error))) is not None


def code_of(error):
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_the_page_has_the_sentence_of_every_error_with_class_and_exit_code(error):
    name = type(error).__name__
    told = [code for sentence, names, code in entries() if name in names and says(sentence, error)]
    assert told == [code_of(error)], in_commands(str(error))


def test_every_sentence_of_the_page_is_one_of_an_error():
    assert len(entries()) == PAGE.count(", exit code ")
    for sentence, names, _ in entries():
        for name in names:
            made = [error for error in MADE if type(error).__name__ == name]
            assert any(says(sentence, error) for error in made), sentence


def test_the_reasons_of_the_page_are_those_of_the_library():
    sources = [path.read_text() for path in (ROOT / "index").rglob("*.py")]
    table = PAGE.partition("| reason | what to do |")[2].partition("\n\n")[0]
    others = ("permission denied", "connection refused", "password auth", "file is not a database")
    reasons = re.findall(r"^\| (?!-)(.+?) \|", table, re.MULTILINE)
    assert len(reasons) > 10
    for reason in reasons:
        if not reason.startswith(others):  # of PostgreSQL and SQLite
            part = max(re.split(r"…| 60 s|, and ", reason), key=len).strip()
            assert any(part in source for source in sources), reason
