"""`cas://`: an fsspec filesystem over runs, on the public API.

fsspec finds it by the entry point of the package. Nothing else imports it.
"""

from __future__ import annotations

from index.filesystem.filesystem import CasFileSystem

__all__ = ["CasFileSystem"]
