"""Import of a bag: a run with its history, or one snapshot.

Source: RFC 8493, The BagIt File Packaging Format (V1.0).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from index.errors import ImportSourceError, UnknownFileError
from index.imports.inside import ListedFile, read_inside
from index.imports.replay import replay
from index.imports.sources import Revision, run_name, text_of
from index.imports.stored import read_records, with_history
from index.imports.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cas.digest import Digest
    from index import ImportReport, Progress, Run, Session

__all__ = ["read_bagit"]

_ALGORITHMS: Final = ("sha512", "sha384", "sha256", "sha224", "sha1", "md5")
"""Those of RFC 8493, section 2.4, and others of their families, the best first."""

_DECODED: Final = {"%25": "%", "%0A": "\n", "%0D": "\r"}
_ENCODED: Final = re.compile("%25|%0A|%0D", re.IGNORECASE)

_LINE_END: Final = re.compile(b"\r\n|\n|\r")
_LISTED: Final = re.compile(rb"([^ \t]+)[ \t]+\*?(.+)", re.DOTALL)
"""A line of a manifest. Some programs write a ``*`` before the path, as ``md5sum`` does."""

_HISTORY: Final = "runcas/history.jsonl"


def read_bagit(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Import the payload of a bag as a snapshot of a run.

    A bag that `export_bagit` wrote with its history comes back as it was: all snapshots, with
    provenance, times, modes, links and tags. The payload of any other bag becomes one snapshot,
    whose notes have what ``bag-info.txt`` says. Every file is checked against the best manifest,
    and the bag must be complete.

    Parameters
    ----------
    source
        The directory of the bag. It is only read, and no link in it is followed.
    run
        The id of the run; by default the one that it had, or the name of the directory.

    Raises
    ------
    ImportSourceError
        When it is no bag, it is not complete or damaged, or the run holds something else.
    """
    bag = _Bag(Path(source))
    if os.path.lexists(bag.root / _HISTORY):
        return with_history(
            session,
            str(source),
            "bagit",
            run,
            progress,
            records=read_records(bag.history(), str(source)),
            contents=bag.payload,
            check=bag.check,
        )
    tally = Tally(session.run(run or run_name(bag.root)), "bagit", str(source), progress)
    revision = bag.revision()
    return replay(tally, [revision.id], lambda begin: [revision][begin:], lambda: bag.payload)


class _Bag:
    """A bag, as its manifests list it."""

    def __init__(self, root: Path) -> None:
        """Read the manifests. Raises ImportSourceError if it is no bag, or not complete."""
        self.root = root
        self._check_declaration()
        self._algorithm, self._listed = self._manifest("manifest")
        _, self._tags = self._manifest("tagmanifest", required=False)
        for path, (algorithm, digest) in self._tags.items():
            for _ in ListedFile(root, path, algorithm, digest):
                pass
        self.payload = {path.removeprefix("data/"): file for path, file in self._files()}
        """The files, by their path in ``data``."""

    def _check_declaration(self) -> None:
        if not (self.root / "bagit.txt").is_file():
            raise ImportSourceError(str(self.root), "it is no bag: it has no bagit.txt")
        said = _fields(read_inside(self.root, "bagit.txt").decode("utf-8-sig", "replace"))
        encoding = said.get("Tag-File-Character-Encoding", "")
        if "BagIt-Version" not in said or encoding.upper() != "UTF-8":
            reason = f"its bagit.txt has no version, or tag files in {encoding!r} and not in UTF-8"
            raise ImportSourceError(str(self.root), reason)

    def _manifest(
        self, kind: str, *, required: bool = True
    ) -> tuple[str, dict[str, tuple[str, str]]]:
        """Return the algorithm of the best manifest, and digests by path."""
        for algorithm in _ALGORITHMS:
            name = f"{kind}-{algorithm}.txt"
            if os.path.lexists(self.root / name):
                listed: dict[str, tuple[str, str]] = {}
                for line in _LINE_END.split(read_inside(self.root, name)):
                    if found := _LISTED.fullmatch(line):
                        digest, path = found.groups()
                        text = path.decode("utf-8", "surrogateescape")
                        file = self._name(text)
                        said = algorithm, digest.decode("ascii", "replace").lower()
                        if listed.setdefault(file, said) != said:
                            reason = f"its {name} lists {file!r} with two digests"
                            raise ImportSourceError(str(self.root), reason)
                return algorithm, listed
        if required:
            known = ", ".join(_ALGORITHMS)
            raise ImportSourceError(str(self.root), f"it has no manifest by one of {known}")
        return "", {}

    def _name(self, listed: str) -> str:
        """Return a path of a manifest, decoded unless its writer has not encoded it."""
        path = listed.removeprefix("./")
        decoded = _ENCODED.sub(lambda found: _DECODED[found[0].upper()], path)
        exists = os.path.lexists(self.root / decoded) or not os.path.lexists(self.root / path)
        return decoded if exists else path

    def _files(self) -> Iterator[tuple[str, ListedFile]]:
        """Yield the files of the payload. Raises ImportSourceError if some are not listed."""
        there = dict(self._walk())
        missing = sorted(self._listed.keys() - there.keys())
        if missing:
            more = "; fetch first what fetch.txt lists" * (self.root / "fetch.txt").exists()
            reason = f"it lacks {missing[0]!r}, which its manifest lists{more}"
            raise ImportSourceError(str(self.root), reason)
        for path, mode in there.items():
            if path not in self._listed:
                reason = f"its manifest does not list {path!r}"
                raise ImportSourceError(str(self.root), reason)
            yield path, ListedFile(self.root, path, *self._listed[path], mode)

    def _walk(self) -> Iterator[tuple[str, int]]:
        for folder, names, files in os.walk(self.root / "data"):
            names.sort()
            links = (name for name in names if Path(folder, name).is_symlink())
            for name in sorted((*files, *links)):
                file = Path(folder, name)
                mode = stat.S_IFREG | stat.S_IMODE(file.lstat().st_mode)
                yield file.relative_to(self.root).as_posix(), mode

    def history(self) -> ListedFile:
        """Return the file with the history."""
        listed = self._tags.get(_HISTORY)
        if listed is None:
            raise ImportSourceError(str(self.root), f"its tag manifest does not list {_HISTORY}")
        return ListedFile(self.root, _HISTORY, *listed)

    def check(self, run: Run, digests: Mapping[str, Digest]) -> None:
        """Raise ImportSourceError unless the payload is what the history tells."""
        for name, digest in digests.items():
            kind, _, path = name.partition("/")
            try:
                known = path if kind == "versions" else str(run.file(path).digest)
            except UnknownFileError:
                known = ""
            if known != str(digest):
                raise ImportSourceError(
                    str(self.root),
                    f"'data/{name}' has changed since the export, and {_HISTORY} has not; remove"
                    " this file, and its line of each tag manifest, to import the payload alone",
                )

    def revision(self) -> Revision:
        """Return the payload as a revision."""
        name = f"manifest-{self._algorithm}.txt"
        text = read_inside(self.root, name)
        info = {}
        if os.path.lexists(self.root / "bag-info.txt"):
            info = _fields(read_inside(self.root, "bag-info.txt").decode("utf-8", "replace"))
        try:
            made = datetime.fromisoformat(info.get("Bagging-Date", "")).replace(tzinfo=UTC)
            time_ns = int(made.timestamp()) * 10**9
        except ValueError:
            time_ns = (self.root / name).stat().st_mtime_ns
        return Revision(
            f"{self._algorithm} {hashlib.sha256(text).hexdigest()}",
            self.payload,
            min(max(time_ns, 0), 2**63 - 1),
            {"bag_info": {text_of(key): text_of(value) for key, value in info.items()}},
        )


def _fields(text: str) -> dict[str, str]:
    """Return the lines ``Label: value`` of a tag file. Those that are indented go on.

    If a label comes again, its values are lines.
    """
    joined = re.sub(r"\n[ \t]+", " ", re.sub(r"\r\n?", "\n", text))
    found: defaultdict[str, list[str]] = defaultdict(list)
    for label, colon, value in (line.partition(":") for line in joined.split("\n")):
        if colon:
            found[label.strip()].append(value.strip())
    return {label: "\n".join(values) for label, values in found.items()}
