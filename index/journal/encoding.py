"""Encoding and decoding of journal records."""

from __future__ import annotations

import json
import uuid
from base64 import b64decode, b64encode
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cas.digest import DIGEST_SIZE, Digest
from index.domain.annotations import FileKind
from index.errors import DamagedRecordError
from index.journal.entries import (
    RECORD_VERSION,
    BackupEntry,
    CommitEntry,
    DeletionEntry,
    Entry,
    ForkEntry,
    HistoryEntry,
    HoldEntry,
    InputsEntry,
    NewFiles,
    PartEntry,
    QuotaEntry,
    RewindEntry,
    VersionsEntry,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas.digest import Buffer

__all__ = ["decode_record", "encode_record"]

_Kind: TypeAlias = type[Entry]

_KINDS: Final[Mapping[str, _Kind]] = {
    kind.op: kind
    for kind in (
        CommitEntry,
        PartEntry,
        RewindEntry,
        ForkEntry,
        HistoryEntry,
        VersionsEntry,
        InputsEntry,
        DeletionEntry,
        HoldEntry,
        QuotaEntry,
        BackupEntry,
    )
}


def decode_record(data: Buffer) -> Entry:
    """Return the record that `encode_record` encoded.

    Raises
    ------
    DamagedRecordError
        When the bytes are not a record that this release knows.
    """
    try:
        values = json.loads(bytes(data))
        version, op = values["version"], values["op"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedRecordError(f"it is not an object with an operation: {error}") from error
    kind = _KINDS.get(op) if version == RECORD_VERSION else None
    if kind is None:
        raise DamagedRecordError(f"this release doesn't know its operation {op!r}, {version!r}")
    try:
        return kind(**{each.name: _value(each.name, values[each.name]) for each in fields(kind)})
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecordError(f"a field of it is missing or wrong: {error}") from error


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if name in _DIGESTS:
        return None if value is None else Digest.parse(value)
    if name in _DIGEST_LISTS:
        return tuple(Digest.parse(text) for text in value)
    if name in _TIMES:
        return datetime.fromisoformat(value)
    if name == "files":
        return _files(value)
    if name == "revision" and type(value) is not int:
        raise ValueError(f"its revision is {value!r}")
    return value


_DIGESTS: Final = frozenset(("previous", "digest"))
_DIGEST_LISTS: Final = frozenset(("parts", "replaces"))
_TIMES: Final = frozenset(
    ("created_at", "session_created_at", "run_created_at", "owner_created_at", "said_at")
)


def _files(columns_by_name: Mapping[str, Any]) -> NewFiles:
    joined = b64decode(columns_by_name["digests"], validate=True)
    digests = [
        bytes.__new__(Digest, joined[at : at + DIGEST_SIZE])
        for at in range(0, len(joined), DIGEST_SIZE)
    ]
    files = NewFiles(**{**columns_by_name, "digests": digests})
    columns = (
        files.digests, files.sizes, files.modes, files.mtimes_ns, files.kind_of,
    )  # fmt: skip
    if any(len(column) != len(files) for column in columns) or len(joined) % DIGEST_SIZE:
        raise ValueError("its columns are of different lengths")
    if any(len(kind) != len(FileKind._fields) for kind in files.kinds):
        raise ValueError("its kinds are of different lengths")
    return files


def encode_record(entry: Entry) -> bytes:
    """Return the bytes of a record. A nonce makes them unique, so no file can equal them."""
    values: dict[str, Any] = {
        "version": RECORD_VERSION,
        "op": entry.op,
        "nonce": uuid.uuid4().hex,
    }
    for each in fields(entry):
        values[each.name] = _plain(getattr(entry, each.name))
    return json.dumps(values, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, NewFiles):
        columns = {each.name: getattr(value, each.name) for each in fields(value)}
        return columns | {"digests": b64encode(b"".join(value.digests)).decode()}
    if isinstance(value, tuple | list) and value and isinstance(value[0], Digest):
        return [str(digest) for digest in value]
    return value
