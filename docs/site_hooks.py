"""What the documentation site needs besides `mkdocs.yml`.

**Files outside `docs/`.** The site is the repository with `docs/` merged into its root: `README.md`
is the home page, `docs/format.md` is `format.md`, and `benchmarks/results/bench_gc.md` keeps its
place. Files that a page links to are added, and links are rewritten. So one text works in the
repository and in the site, and a link to a missing file is an error in both.

**The command line.** The help of every command takes the place of a marker.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
HOME: Final = "README.md"
PAGES: Final = (HOME, "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")
COMMANDS: Final = "<!-- commands -->"
LINK: Final = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
"""The target of a link, without its anchor."""


def place_of(path: str) -> str:
    """Return where a file of the repository is in the site."""
    return "index.md" if path == HOME else path.removeprefix("docs/")


def path_of(place: str) -> str:
    """Return which file of the repository is at a place of the site."""
    if place == "index.md":
        return HOME
    inside = f"docs/{place}"
    return inside if (ROOT / inside).exists() else place


def targets_of(path: str) -> set[str]:
    """Return the files of the repository that a page links to."""
    folder = posixpath.dirname(path)
    found = LINK.findall((ROOT / path).read_text())
    joined = {posixpath.normpath(posixpath.join(folder, link)) for link in found if ":" not in link}
    return {target for target in joined if (ROOT / target).is_file()}


@cache
def help_of(*command: str) -> str:
    """Return what ``--help`` of a command prints."""
    (cas,) = entry_points(group="console_scripts", name="cas")
    os.environ["COLUMNS"] = "80"
    # Bytes below, as standard output has.
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")) as printed:
        try:
            cas.load()([*command, "--help"])
        except SystemExit as ended:
            if ended.code:
                raise PluginError(f"cas {' '.join(command)} --help failed") from ended
        printed.seek(0)
        return printed.read()


def sections_of(*command: str) -> list[str]:
    """Return a section for a command, and for each of its commands."""
    text = help_of(*command)
    sections = [f"## {' '.join(('cas', *command))}\n\n```text\n{text.rstrip()}\n```\n"]
    listed = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
    for name in re.findall(r"^  (\w+)", listed, re.MULTILINE):
        sections += sections_of(*command, name)
    return sections


def expanded(entry: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Return an entry of the navigation with directories replaced by the pages in them."""
    if isinstance(entry, list):
        return [expanded(one) for one in entry]
    if isinstance(entry, dict):
        return {title: expanded(one) for title, one in entry.items()}
    if not entry.endswith("/"):
        return entry
    pages = {path.name for path in (ROOT / path_of(entry)).glob("*.md")}
    first = pages & {"README.md"}
    return [f"{entry}{name}" for name in (*first, *sorted(pages - first))]


def on_config(config: MkDocsConfig) -> None:
    """List the pages of a directory where the navigation names one."""
    config.nav = expanded(config.nav)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what those link to in turn."""
    results = (ROOT / "benchmarks" / "results").glob("*.md")
    waiting = [
        *PAGES,
        *(f"benchmarks/results/{path.name}" for path in results),
        *(f"docs/{file.src_uri}" for file in files.documentation_pages()),
    ]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        place = place_of(path)
        if files.get_file_from_path(place) is None:
            content = (ROOT / path).read_bytes()
            files.append(File.generated(config, place, content=content))
        if path.endswith(".md"):
            new = targets_of(path) - seen
            seen |= new
            waiting += new
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to where their files are in the site."""
    place = page.file.src_uri
    folder = posixpath.dirname(path_of(place))
    here = posixpath.dirname(place) or "."

    def rewritten(match: re.Match[str]) -> str:
        if ":" in match[1]:
            return match[1]
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        if not (ROOT / target).is_file():
            return match[1]  # strict mode tells
        return posixpath.relpath(place_of(target), here)

    markdown = LINK.sub(rewritten, markdown)
    if COMMANDS in markdown:
        return markdown.replace(COMMANDS, "\n".join(sections_of()))
    return markdown
