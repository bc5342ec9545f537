"""What an import reads: files by path, in revisions; and names as the store takes them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from index.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from index import Skipped

__all__ = [
    "Revision",
    "SourceFile",
    "UnreadableFileError",
    "label_of",
    "load_yaml",
    "run_name",
    "shown",
    "text_of",
    "why_unsafe",
]

_MAX_PATH: Final = 4096
_MAX_LABEL: Final = 255


class UnreadableFileError(Exception):
    """The source does not have the content of a file, or has other bytes than it says."""


class SourceFile(Protocol):
    """A file as the source lists it."""

    @property
    def key(self) -> str:
        """The digest by which the source knows the content. Equal keys are equal bytes."""
        ...

    @property
    def mode(self) -> int:
        """Its `stat` mode: a regular file or a symbolic link."""
        ...

    @property
    def remark(self) -> str | None:
        """What there is to say of the content, once it was read."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the content. Raises UnreadableFileError."""
        ...

    def agrees(self, pieces: Iterable[bytes], size: int) -> bool:
        """Whether these bytes have the source's digest."""
        ...


@dataclass(frozen=True, slots=True)
class Revision:
    """What one revision of a source changes, and what is known of it."""

    id: str
    files: Mapping[str, SourceFile | None]
    """By path; None for a path that is gone."""
    time_ns: int
    """When it was made. Its files get this time."""
    notes: Mapping[str, Any]
    agent: str | None = None
    event_id: str | None = None
    node_id: str | None = None
    skipped: Sequence[Skipped] = ()
    inputs: Sequence[tuple[str, Mapping[str, SourceFile] | None]] = ()
    """What was read to make it: a file or directory, and its files by path. None where only the
    directory is known: then it is all that the run has there."""


def text_of(data: bytes | str) -> str:
    """Return text that JSON and every database can hold."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def label_of(text: str) -> str | None:
    """Return a text as a label; None if nothing is left of it."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(shown.split())[:_MAX_LABEL].strip() or None


def run_name(source: Path) -> str:
    """Return the id of a run that is named after a source."""
    name = label_of(source.absolute().name.removesuffix(".git")) or "import"
    return name.replace("..", "-")


def load_yaml(data: bytes, purpose: str) -> Any:  # noqa: ANN401 - any document
    """Return what a YAML file of another tool holds.

    Raises
    ------
    ValueError, RecursionError
        When it is not valid, or has aliases. No tool writes any, and a few of them can stand for
        gigabytes.
    MissingPackageError
        When PyYAML is missing. `purpose` says what needs it.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError(purpose, "pyyaml", "imports") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(data, loader)):
            raise ValueError("it has aliases")
        return yaml.load(data, loader)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        raise ValueError("it is not valid YAML") from error


def why_unsafe(path: str) -> str | None:
    """Return why a path of a source is not recorded; None if it is."""
    if path.startswith("/"):
        return "its path is absolute"
    parts = path.split("/")
    if ".." in parts or "." in parts or "" in parts or "\0" in path:
        return "its path is none in a directory"
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:  # half of a character, which JSON can hold
        return "its path is no text"
    return f"its path has more than {_MAX_PATH} bytes" if size > _MAX_PATH else None


def shown(path: str) -> str:
    """Return a path as JSON and every database can hold it."""
    return path.encode("utf-8", "backslashreplace").decode()
