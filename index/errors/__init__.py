"""Errors of the index.

    ArtifactIndexError
    ├── InvalidNameError (ValueError)       a session, run or other id that can't be one
    ├── InvalidMetaError (ValueError)       notes that JSON can't hold
    ├── UnsafePathError (ValueError)        a path that would leave the run or the destination
    ├── UnknownSessionError (LookupError)
    ├── UnknownRunError (LookupError)
    ├── UnknownRunNameError (LookupError)   no session has such a run
    ├── SameStoreError (ValueError)         a store can't be synced with itself
    ├── RunExistsError                      a fork can't have the id of a run that is there
    ├── UnknownSnapshotError (LookupError)
    ├── UnknownFileError (LookupError)      no such path, version or file id in the run
    ├── UnknownFileIdError (LookupError)
    ├── UnknownDigestError (LookupError)    no file of the session has these bytes
    ├── WorkDirectoryError                  what should be tracked is missing or no directory
    ├── RestoreConflictError                different content is in the way
    ├── RestoreFailedError                  the destination could not be written
    ├── UnsettledScanError                  others kept taking away what a scan relied on
    ├── DanglingFileError                   a file version whose bytes are gone
    ├── DamagedFileError                    one whose bytes are damaged; a `DigestMismatchError` too
    ├── BytesNotKeptError (LookupError)     a record whose bytes were never stored
    ├── DamagedRecordError                  a commit's record in storage can't be understood
    ├── LegacyTableError                    the old table to adopt from can't be read
    ├── StoreMismatchError                  the index belongs to other storage
    ├── IndexPresentError                   recovering finds an index where it should make one
    ├── IndexLostError                      storage holds packs, but its index is gone
    ├── StoreNotFoundError (LookupError)    nothing was ever created there
    ├── IndexUnavailableError               the database can't be reached, is full or locked
    │   └── IndexInterruptedError           it went away, or two transactions were in conflict
    └── SchemaOutOfDateError                names the current and the head revision

As in `cas.errors`, an error takes the values that its class annotates, and ``__str__`` builds one
sentence that ends with what to do next.
"""

from __future__ import annotations

from index.errors import requests, storage
from index.errors.requests import *  # noqa: F403
from index.errors.storage import *  # noqa: F403

__all__ = []
__all__ += requests.__all__
__all__ += storage.__all__
