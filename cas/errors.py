"""Errors of the byte layer.

    CasError
    ├── InvalidDigestError (ValueError)   text or bytes that cannot be a digest
    ├── BlobNotFoundError (LookupError)   a digest is unknown, or its pack is missing
    ├── DigestMismatchError               the bytes of a blob do not hash to its digest
    ├── CorruptPackError                  a pack's structure is invalid
    ├── UnsupportedFormatError            written by a newer version of the format
    ├── StoreClosedError                  the store was closed before this call
    └── BackendError                      a backend could not perform an operation
        ├── ObjectNotFoundError (LookupError)
        ├── UnreadableObjectError         the medium can't read some bytes of an object
        ├── StorageFullError
        ├── BucketNotFoundError           the bucket of the URL does not exist
        ├── CacheUnavailableError         the directory of the cache can't be used
        ├── StorageAccessError            credentials or permissions are wrong
        └── TransientBackendError         the only one after which a retry may help

An error takes the values that its class annotates, in that order, and pickles across processes;
``__str__`` builds the sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas.digest import CasError, InvalidDigestError

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "BackendError",
    "BlobNotFoundError",
    "BucketNotFoundError",
    "CacheUnavailableError",
    "CasError",
    "CorruptPackError",
    "DigestMismatchError",
    "InvalidDigestError",
    "ObjectNotFoundError",
    "StorageAccessError",
    "StorageFullError",
    "StoreClosedError",
    "TransientBackendError",
    "UnreadableObjectError",
    "UnsupportedFormatError",
]


class BlobNotFoundError(CasError, LookupError):
    """The catalog does not know a digest, or the pack of the blob is missing."""

    digest: Digest

    def __str__(self) -> str:
        return f"blob {self.digest} is not in the store"


class DigestMismatchError(CasError):
    """The bytes of a blob do not hash to its digest.

    Raised on read (bit rot, truncation). Never retried: the bytes are wrong, not the transport.
    """

    expected: Digest
    actual: Digest | None
    """The digest of the bytes; None if they could not be read or decoded."""
    where: str

    def __str__(self) -> str:
        found = "cannot be read" if self.actual is None else f"hash to {self.actual}"
        return (
            f"blob {self.expected} is damaged: its bytes in {self.where} {found}; "
            "mend it with `store.repair(DIR)`, a directory or store that has these bytes"
        )


class CorruptPackError(CasError):
    """A pack whose header, footer or trailer is invalid."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"pack {self.name} is corrupt: {self.reason}; `store.verify()` tells what that harms"


class UnsupportedFormatError(CasError):
    """Storage written by a version of the format that this release does not know."""

    subject: str
    found: object
    supported: object

    def __str__(self) -> str:
        return (
            f"{self.subject} has format {self.found!r}, but this release of runcas reads "
            f"{self.supported!r}; upgrade with `pip install --upgrade runcas`"
        )


class StoreClosedError(CasError):
    """A call on a store after it was closed, or on a stream of it."""

    subject: str

    def __str__(self) -> str:
        return f"the store with {self.subject} was closed; open it again"


class BackendError(CasError):
    """A backend could not perform an operation; the original error is the ``__cause__``."""

    subject: str
    reason: str

    def __str__(self) -> str:
        return f"storage failed at {self.subject}: {self.reason}"


class ObjectNotFoundError(BackendError, LookupError):
    """The backend has no object of that name."""

    def __init__(self, subject: str) -> None:
        super().__init__(subject, "no such object")
        self.args = (subject,)

    def __str__(self) -> str:
        return f"object {self.subject} is missing from storage"


class UnreadableObjectError(BackendError):
    """The medium can't read some bytes of an existing object: a bad sector, a wrong checksum."""

    def __str__(self) -> str:
        return (
            f"some of {self.subject} can't be read: {self.reason}; "
            "`store.verify()` tells what that harms"
        )


class StorageFullError(BackendError):
    """No space is left where blobs are written; nothing incomplete was recorded."""

    def __init__(self, subject: str) -> None:
        super().__init__(subject, "no space left")
        self.args = (subject,)

    def __str__(self) -> str:
        return (
            f"no space is left for {self.subject}; free some and repeat the call, "
            "nothing incomplete was recorded"
        )


class BucketNotFoundError(BackendError):
    """The bucket or container of a URL does not exist. runcas never creates one."""

    def __init__(self, subject: str) -> None:
        super().__init__(subject, "no such bucket")
        self.args = (subject,)

    def __str__(self) -> str:
        return f"there is no bucket {self.subject}; create it, or correct the URL of the blobs"


class StorageAccessError(BackendError):
    """Storage refused the credentials, or they lack a permission. A retry does not help."""

    def __str__(self) -> str:
        return f"storage refused {self.subject}: {self.reason}"


class CacheUnavailableError(BackendError):
    """The directory of a cache of remote blobs can't be used. Raised when the store is opened."""

    def __str__(self) -> str:
        return (
            f"the cache in {self.subject} can't be used: {self.reason}; "
            "give a new directory that you may write to, or do without a cache"
        )


class TransientBackendError(BackendError):
    """A failure after which a retry may succeed (time-out, reset, throttling)."""
