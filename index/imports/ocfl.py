"""Import of an OCFL object: one snapshot for each of its versions.

Source: Oxford Common File Layout Specification, versions 1.0 and 1.1.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from index.errors import ImportSourceError
from index.imports.inside import ListedFile, beside, read_inside
from index.imports.replay import replay
from index.imports.sources import Revision, label_of, run_name, text_of
from index.imports.stored import read_records, with_history
from index.imports.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cas.digest import Digest
    from index import ImportReport, Progress, Run, Session

__all__ = ["read_ocfl"]

_DECLARATIONS: Final = ("0=ocfl_object_1.0", "0=ocfl_object_1.1")
_ALGORITHMS: Final = ("sha512", "sha256")
"""What an inventory may use (section 3.5.1)."""

_INVENTORY: Final = "inventory.json"
_HISTORY: Final = "extensions/runcas-history/history.jsonl"


def read_ocfl(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Import the versions of an OCFL object as snapshots of a run.

    An object that `export_ocfl` wrote comes back as it was, with provenance, times, modes, links
    and tags. Of any other object, each version becomes a snapshot: its user is the agent, and its
    notes have the message and the time. Every content is checked against its digest. If the run has
    some of the versions already, the import goes on after them.

    Parameters
    ----------
    source
        The root directory of the object. It is only read, and no link in it is followed.
    run
        The id of the run; by default the one that it had, or the name of the directory.

    Raises
    ------
    ImportSourceError
        When it is no OCFL object, it is damaged, or the run holds something else.
    """
    found = _Object(Path(source))
    if os.path.lexists(found.root / _HISTORY):
        history = beside(found.root, _HISTORY, "sha512")
        return with_history(
            session,
            str(source),
            "ocfl",
            run,
            progress,
            records=read_records(history, str(source)),
            contents=found.contents,
            check=found.check,
        )
    tally = Tally(session.run(run or run_name(found.root)), "ocfl", str(source), progress)
    return replay(tally, found.ids, found.revisions, lambda: found.files(found.states[-1]))


class _Object:
    """An OCFL object, as its inventory lists it."""

    def __init__(self, root: Path) -> None:
        """Read the inventory. Raises ImportSourceError if it is none of an object."""
        self.root = root
        if not any((root / name).exists() for name in _DECLARATIONS):
            reason = "it is no OCFL object of version 1.0 or 1.1"
            if any(root.glob("0=ocfl_1.*")):
                reason = "it is an OCFL storage root; name the directory of one object in it"
            raise ImportSourceError(str(root), reason)
        algorithm = next(
            (each for each in _ALGORITHMS if (root / f"{_INVENTORY}.{each}").exists()), None
        )
        if algorithm is None:
            raise ImportSourceError(str(root), "it has no digest of its inventory")
        read_inside(root, _INVENTORY)  # which limits its size
        text = b"".join(beside(root, _INVENTORY, algorithm))
        try:
            inventory = json.loads(text)
            self._read(inventory, algorithm)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"its inventory is not valid: {type(error).__name__}: {error}"
            raise ImportSourceError(str(root), reason) from error

    def _read(self, inventory: dict[str, Any], algorithm: str) -> None:
        if inventory["digestAlgorithm"] != algorithm:
            raise ValueError(f"it uses {inventory['digestAlgorithm']!r} and not {algorithm}")
        self.contents = {
            digest.lower(): ListedFile(self.root, str(paths[0]), algorithm, digest)
            for digest, paths in inventory["manifest"].items()
        }
        """The contents by their digests."""
        numbered = sorted((int(name.removeprefix("v")), name) for name in inventory["versions"])
        if [number for number, _ in numbered] != [*range(1, len(numbered) + 1)] or not numbered:
            raise ValueError("its versions are not v1, v2 and so on")
        if inventory["head"] != numbered[-1][1]:
            raise ValueError(f"its head is {inventory['head']!r}, and not its last version")
        self._versions = [inventory["versions"][name] for _, name in numbered]
        self.states = [self._state(version["state"]) for version in self._versions]
        """Of each version, the digests by path."""
        self._times = [_nanoseconds(version["created"]) for version in self._versions]
        self.ids = [_id(f"v{n}", state) for n, state in enumerate(self.states, 1)]

    def _state(self, listed: Mapping[str, Any]) -> dict[str, str]:
        state: dict[str, str] = {}
        for digest, paths in listed.items():
            if digest.lower() not in self.contents:
                raise ValueError(f"it lacks the content {digest}")
            for path in paths:
                if path in state:
                    raise ValueError(f"it has {path!r} twice in one version")
                os.fsencode(path)  # raises if it is no text that can be a name
                state[path] = digest.lower()
        return state

    def files(self, state: Mapping[str, str]) -> dict[str, ListedFile]:
        """Return the files of a state, by path."""
        return {path: self.contents[digest] for path, digest in state.items()}

    def revisions(self, begin: int) -> Iterator[Revision]:
        """Yield what each version changes, from a number on."""
        for number in range(begin, len(self._versions)):
            before = self.states[number - 1] if number else {}
            now, version = self.states[number], self._versions[number]
            new = {path: digest for path, digest in now.items() if before.get(path) != digest}
            user = version.get("user")
            name = user.get("name") if isinstance(user, dict) else None
            yield Revision(
                self.ids[number],
                {**dict.fromkeys(before.keys() - now.keys()), **self.files(new)},
                self._times[number],
                {
                    "created": version["created"],
                    **({"message": text_of(str(m))} if (m := version.get("message")) else {}),
                },
                agent=label_of(str(name)) if name else None,
            )

    def check(self, run: Run, digests: Mapping[str, Digest]) -> None:
        """Raise ImportSourceError unless the object is what its history tells."""
        current = {version.path: version.digest for version in run.iter_files()}
        head = {path: digests[digest] for path, digest in self.states[-1].items()}
        # Names that are not UTF-8 are written otherwise in the inventory.
        plain = {path: digest for path, digest in current.items() if _is_utf8(path)}
        if (
            run.summary().snapshots != len(self.states)
            or not plain.items() <= head.items()
            or Counter(current.values()) != Counter(head.values())
        ):
            raise ImportSourceError(
                str(self.root),
                f"it has changed since it was exported, and {_HISTORY} has not; remove this file to"
                " import the versions alone",
            )


def _is_utf8(path: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in path)


def _nanoseconds(text: str) -> int:
    time = datetime.fromisoformat(text)
    seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return min(max(int(seconds) * 10**9, 0), 2**63 - 1)


def _id(name: str, state: Mapping[str, str]) -> str:
    text = json.dumps(state, sort_keys=True).encode()
    return f"{name} {hashlib.sha256(text).hexdigest()}"
