"""Traits of each kind of remote storage: the differences between them, as data.

`cas.backends.remote` uses only these traits to tell storages apart. A protocol that is not listed
gets `OTHER`, which assumes the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OTHER", "Traits", "traits_of"]


@dataclass(frozen=True, slots=True)
class Traits:
    """The behaviour of one kind of storage through its fsspec filesystem."""

    package: str | None = None
    """The package to install; None if fsspec alone is enough, or the package is unknown."""

    whole_objects: bool = False
    """Whether an upload is atomic, and names need no directories.

    Otherwise an object is uploaded below ``tmp/`` and renamed, and is as atomic as the rename."""

    create_options: Mapping[str, Any] | None = None
    """Options of ``pipe_file`` for a conditional write, which fails if the name exists.

    Without them, two processes that create one name at the same moment may both believe that they
    were first. Only the bytes of one of them stay."""

    serial: bool = True
    """Whether only one thread at a time may call the filesystem."""

    uploads_at_once: int = 1
    """Number of packs of one batch that are sent at the same time. Each has a spool file on disk,
    and so has the pack being written."""

    options: Mapping[str, Any] | None = None
    """Default options of the filesystem. Those of the caller take precedence."""

    checksums: bool = False
    """Whether the client sends checksums with writes, which services of that kind may refuse."""

    attempts: int | None = None
    """The value of the filesystem's ``retries``. Only `cas.backends.retrying` retries."""


_SEVERAL: Final = 4
"""Round trips limit a single connection. Four connections saturate most networks, and with packs of
64 MiB they need at most 320 MiB of temporary files."""

OTHER: Final = Traits()
"""Files in directories: sftp, smb, ftp, hdfs, webdav and all other filesystems of fsspec."""

_S3: Final = Traits(
    package="runcas[s3]",
    whole_objects=True,
    create_options={"mode": "create"},  # If-None-Match: *
    serial=False,
    uploads_at_once=_SEVERAL,
    # botocore would retry each of s3fs's attempts, and s3fs each of ours.
    options={"config_kwargs": {"retries": {"max_attempts": 0}}},
    checksums=True,
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
    """Return the traits of a protocol."""
    return _TRAITS.get(protocol, OTHER)
