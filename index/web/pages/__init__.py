"""The pages on which people look at runs. All that they show comes from `index.web.api`."""

from __future__ import annotations

from typing import Final

from index.web.pages.compare import COMPARE
from index.web.pages.files import BLOB, DIFFERENCE, FILE
from index.web.pages.lineage import LINEAGE
from index.web.pages.page import Page
from index.web.pages.rendering import login_url, render, render_failure, render_login
from index.web.pages.run import INPUTS, RUN, SNAPSHOT_PAGE, TIMELINE
from index.web.pages.runs import FIND, RUNS, STORAGE

__all__ = ["PAGES", "Page", "login_url", "render", "render_failure", "render_login"]

PAGES: Final = (
    *(RUNS, FIND, STORAGE, RUN, TIMELINE, INPUTS, SNAPSHOT_PAGE),
    *(FILE, COMPARE, DIFFERENCE, BLOB, LINEAGE),
)
