"""Every error of both packages pickles, and says one sentence with its subject."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

import cas.errors
import index.errors
from cas.digest import Digest
from cas.errors import CasError
from index.cli.advice import COMMANDS, in_commands
from index.errors import ArtifactIndexError

DIGEST = Digest.of(b"x")
ARGUMENTS = {
    "AmbiguousNameError": ("subject", ("one", "another")),
    "BackendError": ("subject", "reason"),
    "BlobNotFoundError": (DIGEST,),
    "BucketNotFoundError": ("subject",),
    "BytesNotKeptError": ("subject", 2),
    "CacheUnavailableError": ("subject", "reason"),
    "CorruptPackError": ("subject", "reason"),
    "DamagedRecordError": ("subject",),
    "DamagedFileError": ("subject", DIGEST, None, "subject"),
    "OtherDirectoryError": ("subject", "before", "now"),
    "ParentCycleError": ("subject", "another"),
    "ReferenceUnreachableError": ("subject", "there is no such bucket"),
    "PastIsReadOnlyError": ("subject",),
    "CommandNotFoundError": ("subject", "reason"),
    "CommandNotStartedError": ("subject", "reason"),
    "ConfigError": ("subject", "reason"),
    "ExportFailedError": ("subject", "reason"),
    "DanglingFileError": ("subject", DIGEST),
    "HeldError": ("session", "subject", "reason", "2026-05-01"),
    "QuotaExceededError": ("subject", 900, 1000),
    "VersionKeptError": ("subject", 2, "reason"),
    "DigestMismatchError": (DIGEST, None, "subject"),
    "IndexPresentError": ("subject",),
    "IndexLostError": ("subject", "blobs"),
    "IndexInterruptedError": ("subject", "reason"),
    "IndexUnavailableError": ("subject", "reason"),
    "InvalidDigestError": ("subject",),
    "InvalidExpressionError": ("subject", 1, "reason"),
    "InvalidMetaError": ("meta", "subject"),
    "InvalidNameError": ("run", "subject", "reason"),
    "LegacyTableError": ("subject", "reason"),
    "MissingPackageError": ("subject", "package", "wanted"),
    "NameClashError": ("subject", "Subject"),
    "NoDestinationError": ("subject", None),
    "ObjectNotFoundError": ("subject",),
    "RestoreConflictError": ("subject", 2),
    "RestoreFailedError": ("subject", "reason"),
    "RunExistsError": ("subject",),
    "SameStoreError": ("subject",),
    "TaggedRunError": ("subject", ("best",)),
    "SchemaOutOfDateError": ("subject", "0000", "0001"),
    "StorageAccessError": ("subject", "reason"),
    "StorageClaimedError": ("subject", "blobs"),
    "StorageFullError": ("subject",),
    "StoreClosedError": ("subject",),
    "StoreMismatchError": ("subject", "blobs"),
    "StoreNotFoundError": ("subject",),
    "TransientBackendError": ("subject", "reason"),
    "UnknownDigestError": ("subject", DIGEST),
    "UnknownFileError": ("run", "subject", 3),
    "UnknownFileIdError": ("subject", 7),
    "UnknownNameError": ("session", "subject"),
    "UnknownRunError": ("session", "subject"),
    "UnknownRunNameError": ("subject",),
    "UnknownSessionError": ("subject",),
    "UnknownSnapshotError": ("subject", 7, 3),
    "UnknownTagError": ("run", "subject"),
    "UnreadableObjectError": ("subject", "reason"),
    "UnsafePathError": ("subject", "reason"),
    "UnsettledScanError": ("subject",),
    "ImportSourceError": ("subject", "reason"),
    "ImportMismatchError": ("subject", "run", ("a difference", "another")),
    "UnsupportedFormatError": ("subject", 2, 1),
    "VersionConflictError": ("run", "subject", 1, 2),
    "WorkDirectoryError": ("subject", "reason"),
}
CLASSES = [
    getattr(module, name)
    for module in (cas.errors, index.errors)
    for name in module.__all__
    if name not in ("CasError", "ArtifactIndexError")
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_says_one_sentence_and_pickles(kind):
    error = kind(*ARGUMENTS[kind.__name__])
    text = str(error)
    assert "subject" in text or str(DIGEST) in text
    assert "\n" not in text
    assert not text.endswith(".")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, text)


def test_an_error_names_calls_and_the_command_line_commands():
    texts = [str(kind(*ARGUMENTS[kind.__name__])) for kind in CLASSES]
    for text in texts:
        assert "`cas " not in text.replace("`cas --index", "")  # only the command upgrades
        for call in ("store.", "session.", "run.", "index.", "ArtifactStore"):
            assert f"`{call}" not in in_commands(text)


@pytest.mark.parametrize("call", COMMANDS)
def test_each_call_that_has_a_command_is_in_a_text_of_the_library(call):
    packages = [Path(cas.__file__).parent, Path(index.__file__).parent]
    files = [file for package in packages for file in package.rglob("*.py")]
    assert any(call in file.read_text() for file in files if file.name != "advice.py")


def test_the_tree_in_the_docstring_names_every_error():
    for module in (cas.errors, index.errors):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__:
                assert name in module.__doc__


def test_a_newer_schema_asks_for_a_newer_release():
    error = index.errors.SchemaOutOfDateError("url", "9999", "0001", newer=True)
    assert "pip install --upgrade runcas" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_error_takes_what_its_class_annotates():
    kind = index.errors.UnknownFileError
    assert kind("run", path="a").args == ("run", "a", None, (), 0)
    for args, named in [((), {}), (("run", "a", 1, (), 2, 3), {}), (("run", "a"), {"path": "a"})]:
        with pytest.raises(TypeError):
            kind(*args, **named)
    with pytest.raises(TypeError):
        index.errors.SchemaOutOfDateError("url", "9999", "0001", "newer")
    lost = index.errors.IndexInterruptedError("url", "reason", may_have_committed=True)
    assert lost.args == ("url", "reason")
    assert pickle.loads(pickle.dumps(lost)).may_have_committed


@pytest.mark.parametrize("base", [CasError, ArtifactIndexError])
def test_an_error_of_another_package_may_just_have_a_message(base):
    class OtherError(base):
        pass

    assert str(OtherError("the tape is full")) == "the tape is full"
    assert str(base("the tape is full")) == "the tape is full"
