"""Export of a run's provenance as a W3C PROV document."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from index import ExportReport
from index.errors import MissingPackageError
from index.export.activities import read_run
from index.export.anonymise import anonymised
from index.export.names import escaped, run_iri, shown
from index.export.targets import new_file, shown_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from prov.identifier import QualifiedName
    from prov.model import ProvDocument

    from index import FileVersion, Progress, Run, Snapshot
    from index.export.activities import Activity, RecordedRun, Used
    from index.export.anonymise import Pseudonyms
    from index.export.targets import FileTarget

__all__ = ["MAX_DERIVATIONS", "ProvSyntax", "export_prov", "prov_document"]

ProvSyntax: TypeAlias = Literal["json", "provn", "jsonld", "xml"]

_ENDINGS: Final[dict[str, ProvSyntax]] = {".provn": "provn", ".jsonld": "jsonld", ".xml": "xml"}
"""Other names have PROV-JSON."""

_EXTRA: Final = "runcas[prov]"

MAX_DERIVATIONS: Final = 10_000
"""Derivations of an activity that has more of them are left out: ``used`` and ``wasGeneratedBy``
say as much as is known of them. A thousand files from a thousand inputs would be a million."""

_MAX_IN_ALL: Final = 100_000
"""Derivations of a document, which takes about 0.2 GiB of memory for them."""


def export_prov(
    run: Run,
    target: FileTarget,
    *,
    at: int | str | Snapshot | None = None,
    syntax: ProvSyntax | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write who made which version of a run, from what, into a new file as W3C PROV.

    `prov_document` says what it holds. It needs the extra ``prov``.

    Parameters
    ----------
    target
        The path of the new file, or a binary stream to write to.
    at
        The last snapshot to describe; None for the newest.
    syntax
        None for the one that the name of the target ends with: ``.provn``, ``.jsonld`` or ``.xml``.
        Anything else is PROV-JSON.
    pseudonyms
        What replaces ids, agents and hosts.

    Raises
    ------
    ExportFailedError
        When the file exists or can't be written. There is no part of it.
    MissingPackageError
        When the library is not installed.
    """
    ending = PurePath(shown_target(target)).suffix.lower()
    chosen = _ENDINGS.get(ending, "json") if syntax is None else syntax
    if chosen not in get_args(ProvSyntax):
        raise ValueError(f"a syntax is one of {', '.join(get_args(ProvSyntax))}, not {chosen!r}")
    if chosen == "xml" and find_spec("lxml") is None:
        raise MissingPackageError("an export as PROV in XML", "lxml", _EXTRA)
    recorded = anonymised(read_run(run, at=at), pseudonyms)
    document = prov_document(recorded)
    with new_file(target) as opened:
        document.serialize(opened, chosen)
        recorded.report_to(progress)
    counts = (recorded.at, 0, 0)
    return ExportReport(recorded.session, recorded.run, "prov", shown_target(target), *counts)


def prov_document(recorded: RecordedRun) -> ProvDocument:
    """Return a run as a document of the library ``prov``.

    Versions of files are entities, with digest, size and path, and specialise the entity of their
    file. Activities generated them and used others, agents were associated with both. A version
    was derived from what its activity had used before it was recorded.
    """
    try:
        from prov.model import ProvDocument
    except ImportError as error:
        raise MissingPackageError("an export as PROV", "prov", _EXTRA) from error
    return _Writer(ProvDocument(), recorded).write()


class _Writer:
    """Writes a run into an empty document."""

    def __init__(self, document: ProvDocument, recorded: RecordedRun) -> None:
        self._document = document
        self._recorded = recorded
        session = recorded.session
        root = run_iri(session, "x")[:-1]
        self._names = document.add_namespace("cas", root)
        self._bytes = document.add_namespace("sha", "cas://sha/")
        self._acts = document.add_namespace("act", f"{recorded.iri}#")
        self._agents = document.add_namespace("agent", f"{root[:-1]}#agent/")
        self._outside = document.add_namespace("ext", "urn:runcas:reference:")
        self._terms = document.add_namespace("runcas", "urn:runcas:term:")
        self._known: set[QualifiedName] = set()
        self._derivations = _MAX_IN_ALL

    def write(self) -> ProvDocument:
        """Write everything."""
        for version in self._recorded.versions:
            self._version(version)
        for copy, original in self._recorded.copies:
            self._document.alternateOf(self._of(copy), self._of(original))
        for activity in self._recorded.activities:
            self._activity(activity)
        run = self._names[escaped(self._recorded.run)]
        self._document.collection(run, {"prov:label": shown(self._recorded.run)})
        for version in self._recorded.present:
            self._document.hadMember(run, self._of(version))
        return self._document

    def _of(self, version: FileVersion) -> QualifiedName:
        return self._named(self._recorded.iri_of(version))

    def _named(self, address: str) -> QualifiedName:
        for space in (self._bytes, self._names):
            if address.startswith(space.uri):
                return space[address.removeprefix(space.uri)]
        return self._outside[escaped(address)]

    def _entity(self, name: QualifiedName, kind: str, about: dict[Any, Any]) -> None:
        if name not in self._known:
            self._known.add(name)
            attributes = {key: value for key, value in about.items() if value is not None}
            self._document.entity(name, {"prov:type": self._terms[kind], **attributes})

    def _version(self, version: FileVersion) -> None:
        name = self._of(version)
        size = None if version.content is None else version.size
        self._entity(
            name,
            "Link" if version.is_link else "FileVersion",
            {
                "prov:label": f"{shown(version.path)} (version {version.version})",
                "prov:location": shown(version.path),
                self._terms["blake3"]: _text(version.content),
                self._terms["size"]: size,
                self._terms["loss"]: version.loss and shown(version.loss),
                self._terms["version"]: version.version,
                self._terms["snapshot"]: version.first_snapshot,
            },
        )
        path = escaped(version.path, kept="/")
        file = self._names[f"{escaped(version.run)}/{path}"]
        self._entity(file, "File", {"prov:label": shown(version.path)})
        self._document.specializationOf(name, file)
        if version.agent is not None:
            self._document.wasAttributedTo(name, self._agent(version.agent))

    def _agent(self, agent: str) -> QualifiedName:
        name = self._agents[escaped(agent)]
        if name not in self._known:
            self._known.add(name)
            self._document.agent(name, {"prov:label": shown(agent)})
        return name

    def _activity(self, activity: Activity) -> None:
        document = self._document
        name = self._acts[activity.key]
        attributes: list[tuple[Any, Any]] = [
            ("prov:label", shown(activity.name or f"run {self._recorded.run}"))
        ]
        attributes += [(self._terms["phase"], shown(each)) for each in activity.phases]
        attributes += [(self._terms["code"], shown(each)) for each in activity.code_hashes]
        attributes += [
            (self._terms["command"], shown(" ".join(each.words)))
            for each in activity.commands
            if each.words
        ]
        derivations = sum(map(len, activity.sources))
        are_listed = derivations <= min(MAX_DERIVATIONS, self._derivations)
        if not are_listed:
            attributes.append((self._terms["derivations"], "left out, because they are too many"))
        document.activity(name, activity.started_at, activity.ended_at, attributes)
        for agent in activity.agents:
            document.wasAssociatedWith(name, self._agent(agent))
        for used in activity.used:
            document.used(name, self._used(used), used.at)
        for version in activity.made:
            document.wasGeneratedBy(self._of(version), name, version.created_at)
        if are_listed:
            self._derivations -= derivations
            for version, sources in zip(activity.made, activity.sources, strict=True):
                for used in sources:
                    document.wasDerivedFrom(self._of(version), self._named(used.iri), name)

    def _used(self, used: Used) -> QualifiedName:
        name = self._named(used.iri)
        label = used.path if used.uri is None else used.uri
        self._entity(
            name,
            "FileVersion" if used.version is not None else "Reference",
            {
                "prov:label": None if label is None else shown(label),
                "prov:location": used.iri if used.uri else None,
                self._terms["blake3"]: _text(used.digest),
                self._terms["size"]: used.size,
            },
        )
        return name


def _text(value: object) -> str | None:
    return None if value is None else str(value)
