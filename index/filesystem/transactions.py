"""Transactions: all files that are written in one are recorded as one snapshot, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsspec.transaction import Transaction

from index import NewFile, carried
from index.filesystem.errors import as_os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from index import Run
    from index.filesystem.listing import ListingFileSystem
    from index.filesystem.writing import Given, WrittenFile

__all__ = ["RunTransaction", "record"]


class RunTransaction(Transaction):  # type: ignore[misc]  # fsspec has no types
    """What is written in it is recorded when it ends, with the provenance of its beginning.

    It is of one run. If a file can't be recorded, none is, and the filesystem is as if the
    transaction had not been. Files that are removed or moved don't wait for its end.
    """

    fs: ListingFileSystem | None

    def __init__(self, fs: ListingFileSystem) -> None:
        super().__init__(fs)
        with fs.scope():
            self._record = carried(record)

    def start(self) -> None:
        """Begin it. Raises ValueError inside another one: what that one holds would be lost."""
        if self.fs is None or self.fs.is_in_transaction:
            raise ValueError("a transaction is open already; end it before the next one")
        super().start()

    def complete(self, commit: bool = True) -> None:
        """Record what was written, or forget it."""
        pending: Sequence[Given | WrittenFile] = [*self.files]
        self.files.clear()
        fs, self.fs = self.fs, None
        try:
            runs = {(each.address.session, each.address.run) for each in pending}
            if commit and len(runs) > 1:
                names = " and ".join(f"cas://{'/'.join(run)}" for run in sorted(runs)[:2])
                raise ValueError(
                    f"a transaction is of one run, and this one wrote to {names}; use one for each"
                )
            if commit:
                self._record(pending)
        finally:
            if fs is not None:
                fs.end_of_transaction()
            for each in pending:
                each.discard()


def record(pending: Iterable[Given | WrittenFile]) -> None:
    """Record files, those of one run in one snapshot. The last one of a path counts."""
    by_run: dict[Run, dict[str, Given | WrittenFile]] = {}
    for each in pending:
        if not each.is_dropped:
            by_run.setdefault(each.run, {})[each.address.path] = each
    for run, files in by_run.items():
        new = [
            NewFile(path, each.content(), expected_version=each.expected_version)
            for path, each in files.items()
        ]
        with as_os_errors(str(next(iter(files.values())).address)):
            run.put_many(new)
