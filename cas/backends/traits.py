"""What is known of each kind of remote storage: the differences between them, as data.

`cas.backends.remote` reads these and asks no other question about the storage that it talks to. A
protocol that is not listed gets `OTHER`, which assumes the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OTHER", "Traits", "traits_of"]


@dataclass(frozen=True, slots=True)
class Traits:
    """How one kind of storage behaves through its fsspec filesystem."""

    package: str | None = None
    """What ``pip install`` is asked for; None where fsspec alone is enough, or it isn't known."""

    whole_objects: bool = False
    """Whether an upload shows whole or not at all, under a name that needs no directories.

    Elsewhere an object is uploaded below ``tmp/`` and renamed, and is as atomic as that rename."""

    create_options: Mapping[str, Any] | None = None
    """Options of ``pipe_file`` that make the service refuse a name that is taken, in one request.

    Elsewhere two processes that create one name within the same moment may both believe that they
    were first; only the bytes of one of them stay."""

    serial: bool = True
    """Whether its filesystem must be called by one thread at a time."""

    uploads_at_once: int = 1
    """Packs of one batch that are sent at the same time; as many spool files lie on disk, and the
    one that is being written."""

    options: Mapping[str, Any] | None = None
    """Options that its filesystem is given unless the caller gives others."""

    attempts: int | None = None
    """The value of the filesystem's ``retries``: `cas.backends.retrying` does the retrying."""


_SEVERAL: Final = 4
"""One connection is bound by its round trips. Four carry more than most networks do, and with packs
of 64 MiB there are 320 MiB of temporary files at most."""

OTHER: Final = Traits()
"""Files in directories: sftp, smb, ftp, hdfs, webdav and whatever fsspec learns to speak."""

_S3: Final = Traits(
    package="runcas[s3]",
    whole_objects=True,
    create_options={"mode": "create"},  # If-None-Match: *
    serial=False,
    uploads_at_once=_SEVERAL,
    # botocore would retry each of s3fs's attempts, and s3fs each of ours.
    options={"config_kwargs": {"retries": {"max_attempts": 0}}},
    attempts=1,
)
_GCS: Final = Traits(
    package="gcsfs",
    whole_objects=True,
    create_options={"mode": "create"},  # ifGenerationMatch=0
    serial=False,
    uploads_at_once=_SEVERAL,
)
_AZURE: Final = Traits(
    package="adlfs",
    whole_objects=True,
    create_options={"overwrite": False},  # If-None-Match: *
    serial=False,
    uploads_at_once=_SEVERAL,
)
_MEMORY: Final = Traits(whole_objects=True, create_options={"mode": "create"})
_SFTP: Final = Traits(package="paramiko")
_SMB: Final = Traits(package="smbprotocol")

_TRAITS: Final[Mapping[str, Traits]] = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GCS,
    "gcs": _GCS,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "memory": _MEMORY,
    "sftp": _SFTP,
    "ssh": _SFTP,
    "smb": _SMB,
}


def traits_of(protocol: str) -> Traits:
    """Return what is known of a protocol."""
    return _TRAITS.get(protocol, OTHER)
