"""Errors of the index.

    ArtifactIndexError
    ├── InvalidNameError (ValueError)       an id or label that is not allowed
    ├── InvalidExpressionError (ValueError)  what to search by can't be read
    ├── InvalidMetaError (ValueError)       notes that JSON can't hold
    ├── UnsafePathError (ValueError)        a path that would leave the run or the destination
    ├── UnknownSessionError (LookupError)
    ├── UnknownRunError (LookupError)
    ├── UnknownRunNameError (LookupError)   no session has such a run
    ├── SameStoreError (ValueError)         a store can't be synced with itself
    ├── RunExistsError                      the id of a new run is taken
    ├── TaggedRunError                      a run to delete that a tag of its session keeps
    ├── ParentCycleError (ValueError)       a run can't be a part of itself
    ├── UnknownSnapshotError (LookupError)
    ├── UnknownTagError (LookupError)       no such tag, or one of something else
    ├── UnknownFileError (LookupError)      no such path or version in the run
    ├── VersionConflictError                another version is current than the expected one
    ├── UnknownFileIdError (LookupError)
    ├── UnknownDigestError (LookupError)    no file of the session has these bytes
    ├── UnknownNameError (LookupError)      a word that means nothing in the session
    ├── AmbiguousNameError (ValueError)     a word that may mean several things
    ├── CommandNotStartedError              a command that can't be started
    │   └── CommandNotFoundError (LookupError)  its program does not exist
    ├── WorkDirectoryError                  the path to track is missing or not a directory
    ├── OtherDirectoryError                 a run by that name holds another directory
    ├── MissingPackageError (ImportError)   a call needs an extra that is not installed
    ├── ReferenceUnreachableError (OSError) bytes outside of the store can't be read
    ├── PastIsReadOnlyError (PermissionError)  a write to a snapshot, version or digest
    ├── ConfigError (ValueError)            a cas.toml that can't be used
    ├── RestoreConflictError                different content is in the way
    ├── NameClashError                      a destination takes two paths for one name
    ├── NoDestinationError (LookupError)    a restore in place, without a known directory
    ├── RestoreFailedError                  the destination could not be written
    ├── ExportFailedError                   an export that can't be written, or can't hold the run
    ├── ImportSourceError                   what is to be imported can't be read, or does not fit
    ├── ImportMismatchError                 an import ended, and the run is not what was listed
    ├── UnsettledScanError                  blobs or the run were removed at every attempt
    ├── DanglingFileError                   the bytes of a file version are missing
    ├── DamagedFileError                    its bytes are damaged; also a `DigestMismatchError`
    ├── BytesNotKeptError (LookupError)     a version without bytes: dropped, or adopted so
    ├── HeldError                           a deletion of what is held
    ├── VersionKeptError                    a version whose bytes can't be dropped
    ├── QuotaExceededError                  more bytes than the session may hold
    ├── DamagedRecordError                  a journal record in storage can't be decoded
    ├── LegacyTableError                    the table to adopt can't be read
    ├── StoreMismatchError                  the index belongs to other storage
    ├── StorageClaimedError                 the storage belongs to another index
    ├── IndexPresentError                   recovery does not replace an existing index
    ├── IndexLostError                      storage holds packs, but its index is gone
    ├── StoreNotFoundError (LookupError)    there is no store at this place
    ├── IndexUnavailableError               the database can't be reached, is full or locked
    │   └── IndexInterruptedError           the connection broke, or transactions conflicted
    └── SchemaOutOfDateError                names the current and the head revision

`StoreClosedError` is that of `cas.errors`. As there, an error takes the values that its class
annotates, and ``__str__`` builds one sentence that ends with what to do next.
"""

from __future__ import annotations

from cas.errors import StoreClosedError as StoreClosedError
from index.errors import keeping, requests, storage, unknown
from index.errors.keeping import *  # noqa: F403
from index.errors.requests import *  # noqa: F403
from index.errors.storage import *  # noqa: F403
from index.errors.unknown import *  # noqa: F403

__all__ = ["StoreClosedError"]
__all__ += keeping.__all__
__all__ += requests.__all__
__all__ += storage.__all__
__all__ += unknown.__all__
