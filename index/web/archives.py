"""Archives of a directory of a run, sent while they are made."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from index.web.downloads import disposition
from index.web.streaming import Streamed

if TYPE_CHECKING:
    from index.web.asked import Asked

__all__ = ["archive"]

_MEDIA_TYPES: Final = {"zip": "application/zip", "tar": "application/x-tar"}


def archive(asked: Asked) -> Response:
    """Return a directory of a run as it is, or was at a snapshot, as one zip or tar file.

    `Run.archive` says what it leaves out.
    """
    run, folder, kind = asked.run, asked["path"].strip("/"), asked["format"]
    made = run.archive(kind, folder=folder, at=asked["at"])
    name = f"{posixpath.basename(folder) or run.id}.{kind}"
    headers = {"Content-Type": _MEDIA_TYPES[kind], "Content-Disposition": disposition(name)}
    if asked.is_head:
        return Response(headers=headers)
    return Streamed(iter(made), headers=headers)
