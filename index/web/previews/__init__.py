"""Previews of file contents, for the page and for the JSON API.

`Previewer` returns a `Preview` of a file version: what kind of file it is, and a bounded part of it
as JSON types. Contents are hostile until shown otherwise, so all parsing runs in worker processes
with limits on memory, processor time and bytes read. Nothing in a file is ever executed.
"""

from __future__ import annotations

from index.web.previews.preview import Preview
from index.web.previews.previewer import Previewer

__all__ = ["Preview", "Previewer"]
