"""Export of runs in the formats of others, on the public API.

    from index.export import export_zip

    report = export_zip(store.session("default").run("run-1"), "run-1.zip", at=3)

Each function writes one new file or directory, which appears when it is complete, and returns an
`index.ExportReport`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from index import ExportReport
    from index.export.anonymise import Pseudonyms
    from index.export.archives import export_tar, export_zip
    from index.export.bagit import export_bagit
    from index.export.bundle import export_bundle
    from index.export.ocfl import export_ocfl
    from index.export.openlineage import export_openlineage
    from index.export.prov import export_prov
    from index.export.rocrate import export_rocrate

__all__ = [
    "FORMATS",
    "Format",
    "Pseudonyms",
    "export_bagit",
    "export_bundle",
    "export_ocfl",
    "export_openlineage",
    "export_prov",
    "export_rocrate",
    "export_tar",
    "export_zip",
]


class Format(NamedTuple):
    """A format, and what its function takes."""

    module: str
    """The module of this package with the function ``export_…`` that writes it."""
    ending: str
    """What the name of a file or directory in this format ends with."""
    is_file: bool
    """Whether it is one file, which may also be a stream; otherwise a directory."""
    takes_at: bool
    """Whether it can hold the state at one snapshot."""
    options: frozenset[str] = frozenset()
    """What else its function takes."""

    def exporter(self, name: str) -> Callable[..., ExportReport]:
        """Return the function that writes it."""
        found: Callable[..., ExportReport]
        found = getattr(import_module(f"{__name__}.{self.module}"), f"export_{name}")
        return found


FORMATS: Final[Mapping[str, Format]] = {
    "zip": Format("archives", ".zip", is_file=True, takes_at=True),
    "tar": Format("archives", ".tar", is_file=True, takes_at=True),
    "bundle": Format("bundle", ".bundle", is_file=True, takes_at=False),
    "ocfl": Format("ocfl", ".ocfl", is_file=False, takes_at=False),
    "bagit": Format("bagit", ".bag", is_file=False, takes_at=True),
    "rocrate": Format(
        "rocrate", ".crate.zip", is_file=True, takes_at=True,
        options=frozenset(("profile", "title", "description", "licence", "pseudonyms")),
    ),
    "prov": Format(
        "prov", ".prov.json", is_file=True, takes_at=True,
        options=frozenset(("syntax", "pseudonyms")),
    ),
    "openlineage": Format(
        "openlineage", ".openlineage.jsonl", is_file=True, takes_at=True,
        options=frozenset(("pseudonyms",)),
    ),
}  # fmt: skip
"""The formats by name."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute
    if name == "Pseudonyms":
        from index.export.anonymise import Pseudonyms

        return Pseudonyms
    found = FORMATS.get(name.removeprefix("export_"))
    if found is None or not name.startswith("export_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found.exporter(name.removeprefix("export_"))
