"""What the metadata of an RO-Crate says of a run."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from cas import __version__
from index.export.names import escaped, iri, is_iri, shown
from index.export.recorded_workflow import WORKFLOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from index import FileVersion
    from index.export.activities import Activity, RecordedRun, Used

__all__ = [
    "METADATA",
    "CrateAbout",
    "CrateFiles",
    "CrateProfile",
    "metadata_of",
]

CrateProfile: TypeAlias = Literal["process", "workflow", "provenance"]

METADATA: Final = "ro-crate-metadata.json"

_CONTEXT: Final = (
    "https://w3id.org/ro/crate/1.1/context",
    {
        "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
        "ProvAgent": "http://www.w3.org/ns/prov#Agent",
    },
)
"""``ProvAgent``: nobody said whether an agent of a run is a person or a program."""

_CRATE: Final = "https://w3id.org/ro/crate/1.1"
_WORKFLOW_CRATE: Final = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_PROFILES: Final[dict[CrateProfile, tuple[str, str]]] = {
    "process": ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate"),
    "workflow": ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate"),
    "provenance": ("https://w3id.org/ro/wfrun/provenance/0.5", "Provenance Run Crate"),
}
"""Each one includes those before it."""

_STATUS: Final = {
    "running": "ActiveActionStatus",
    "finished": "CompletedActionStatus",
    "failed": "FailedActionStatus",
    "cancelled": "FailedActionStatus",
}

_NO_LICENCE: Final = "No licence was given for these files."

Entity: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class CrateAbout:
    """What people say of a crate."""

    title: str | None = None
    description: str | None = None
    licence: str | None = None


class CrateFiles(NamedTuple):
    """What is known of the files in a crate, by their path in the run."""

    names: Mapping[str, str]
    """Names in the crate. Everything else is only described."""
    sha256: Mapping[str, str]
    links: Mapping[str, str | None]
    """Targets of the links of the run; None for one that is not shown."""


class CrateMetadata(NamedTuple):
    """The metadata of a crate."""

    document: dict[str, Any]
    has_workflow: bool
    """Whether it names the file `WORKFLOW`."""


def metadata_of(
    recorded: RecordedRun,
    about: CrateAbout,
    files: CrateFiles,
    profile: CrateProfile | None = None,
) -> CrateMetadata:
    """Return the metadata of a crate."""
    if profile is None:
        has_steps = any(each.node_id or each.step_id for each in recorded.activities)
        profile = "provenance" if has_steps else "process"
    if profile not in _PROFILES:
        raise ValueError(
            f"a profile is one of {', '.join(get_args(CrateProfile))}, not {profile!r}"
        )
    graph = _Graph(recorded, about, files, profile).write()
    return CrateMetadata({"@context": _CONTEXT, "@graph": graph}, profile != "process")


class _Graph:
    """Builds the entities of a crate."""

    def __init__(
        self,
        recorded: RecordedRun,
        about: CrateAbout,
        files: CrateFiles,
        profile: CrateProfile,
    ) -> None:
        self._recorded = recorded
        self._about = about
        self._files = files
        self._profile = profile
        self._run = shown(recorded.run)
        self._entities: dict[str, Entity] = {}
        self._parts: list[str] = []
        self._mentioned: list[str] = []
        self._ids: dict[str, str] = {}
        """Of each file, by the `cas://` URL of its version."""

    def write(self) -> list[Entity]:
        """Return all entities, the descriptor and the root first."""
        address_of = self._recorded.iri_of
        present = {address_of(version) for version in self._recorded.present}
        copies = {
            address_of(original): copy
            for copy, original in self._recorded.copies
            if address_of(copy) in present
        }
        for version in self._recorded.versions:
            address = address_of(version)
            if address not in copies:
                self._file(version, address, is_present=address in present)
        for address, copy in copies.items():  # the crate has its bytes under the same path
            self._ids[address] = self._ids[address_of(copy)]
        if self._profile != "process":
            self._workflow()
        if self._profile != "workflow":
            for activity in self._recorded.activities:
                self._mention(self._action(activity))
        return [self._descriptor(), self._root(), *self._entities.values()]

    def _descriptor(self) -> Entity:
        forms = [_CRATE] if self._profile == "process" else [_CRATE, _WORKFLOW_CRATE]
        about = {"about": {"@id": "./"}, "conformsTo": _one(_refs(forms))}
        return {"@id": METADATA, "@type": "CreativeWork", **about}

    def _root(self) -> Entity:
        session = shown(self._recorded.session)
        at = self._recorded.at
        written = f"Files of run {self._run} of session {session} at snapshot {at}, and who made"
        known = [*_PROFILES][: [*_PROFILES].index(self._profile) + 1]
        forms = [_PROFILES[name][0] for name in known]
        if self._profile != "process":
            forms.append(_WORKFLOW_CRATE)
        for form, label in [_PROFILES[name] for name in known]:
            self._add(form, "CreativeWork", name=label, version="0.5")
        if self._profile != "process":
            self._add(_WORKFLOW_CRATE, "CreativeWork", name="Workflow RO-Crate", version="1.0")
        root = {
            "@id": "./",
            "@type": "Dataset",
            "name": self._about.title or f"Run {self._run}",
            "description": self._about.description
            or f"{written} them, recorded by runcas {__version__}.",
            "datePublished": datetime.now(UTC).date().isoformat(),
            "license": self._licence(),
            "identifier": self._recorded.iri,
            "conformsTo": _one(_refs(forms)),
            "hasPart": _one(_refs(self._parts)),
            "mentions": _one(_refs(self._mentioned)),
        }
        if self._profile != "process":
            root["mainEntity"] = {"@id": WORKFLOW}
        return root

    def _licence(self) -> object:
        given = self._about.licence
        if given is None or not is_iri(given):
            return given or _NO_LICENCE
        return self._add(iri(given), "CreativeWork", name=given)

    def _add(self, entity_id: str, kind: str | list[str], **about: object) -> Entity:
        """Add an entity unless it is there; return a reference to it."""
        if entity_id not in self._entities:
            properties = {
                key: _one(each) for key, each in about.items() if each not in (None, [], "")
            }
            self._entities[entity_id] = {"@id": entity_id, "@type": kind, **properties}
        return {"@id": entity_id}

    def _mention(self, action: Entity) -> Entity:
        self._mentioned.append(action["@id"])
        return action

    def _file(self, version: FileVersion, address: str, *, is_present: bool) -> None:
        name = self._files.names.get(version.path) if is_present else None
        about: Entity = {}
        if name is not None:
            about["sha256"] = self._files.sha256[version.path]
            about["dateModified"] = _time(version.mtime_ns)
        elif is_present and version.loss is None:
            target = self._files.links[version.path]
            leads = "" if target is None else f" to {shown(target)}"
            about["description"] = f"Not in this crate: a symbolic link{leads}."
        else:
            about["description"] = f"Not in this crate: {shown(version.loss or 'it was replaced')}."
        kind, _ = mimetypes.guess_type(version.path, strict=False)
        blake3 = None if version.content is None else f"blake3:{version.content}"
        about["identifier"] = [each for each in (blake3, name and address) if each]
        self._ids[address] = escaped(name, kept="/") if name else address
        self._add_file(
            self._ids[address],
            name=shown(version.path),
            contentSize=None if version.content is None else str(version.size),
            encodingFormat=None if version.is_link else kind,
            version=str(version.version),
            **about,
        )

    def _add_file(self, entity_id: str, **about: object) -> None:
        self._add(entity_id, "File", **about)
        self._parts.append(entity_id)

    def _used(self, used: Used) -> str:
        """Return the id of something that was used."""
        if used.iri not in self._ids:
            self._ids[used.iri] = used.iri
            label = used.path or used.uri
            self._add_file(
                used.iri,
                name=used.iri if label is None else shown(label),
                identifier=None if used.digest is None else f"blake3:{used.digest}",
                contentSize=None if used.size is None else str(used.size),
                description="Not in this crate: it was only used.",
            )
        return self._ids[used.iri]

    def _agents(self, agents: Iterable[str]) -> list[Entity]:
        return [
            self._add(f"#agent/{escaped(each)}", "ProvAgent", name=shown(each)) for each in agents
        ]

    def _tools(self, activity: Activity) -> list[Entity]:
        """Return what did an activity, as far as somebody said so."""
        kind = "SoftwareApplication"
        if activity.node_id or activity.step_id:
            code = [shown(each) for each in activity.code_hashes]
            name = f"#tool/{activity.step_key}"
            return [self._add(name, kind, name=_step_name(activity), softwareVersion=code)]
        programs = dict.fromkeys(each.words[0] for each in activity.commands if each.words)
        if programs:
            return [self._add(f"#program/{escaped(shown(each))}", kind, name=shown(each))
                    for each in programs]  # fmt: skip
        about = "Nobody recorded which program made these files."
        return [self._add("#tool/not-recorded", kind, name="not recorded", description=about)]

    def _action(self, activity: Activity) -> Entity:
        about = [f"Phase {shown(each)}." for each in activity.phases]
        about += ["$ " + shown(" ".join(each.words)) for each in activity.commands if each.words]
        if activity.seen is not None:
            first, last = (at.isoformat() for at in activity.seen)
            about.append(f"Recorded from {first} to {last}.")
        status = None
        if activity.failed is not None:
            status = "FailedActionStatus" if activity.failed else "CompletedActionStatus"
        made = [self._ids[self._recorded.iri_of(version)] for version in activity.made]
        return self._add(
            f"#activity/{activity.key}",
            "CreateAction",
            name=shown(activity.name) or f"run {self._run}",
            description="\n".join(about),
            instrument=self._tools(activity),
            agent=self._agents(activity.agents),
            object=_refs(dict.fromkeys(map(self._used, activity.used))),
            result=_refs(made),
            startTime=_iso(activity.started_at),
            endTime=_iso(activity.ended_at),
            actionStatus=_status(status),
        )

    def _workflow(self) -> None:
        """Add the workflow, and the run as its execution; for the provenance profile, its steps."""
        recorded, has_steps = self._recorded, self._profile == "provenance"
        kinds = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
        language = "#recorded-steps"
        self._add(language, "ComputerLanguage", name="JSON: steps as runcas recorded them")
        steps = self._steps() if has_steps else []
        tools = [each for activity in recorded.activities for each in self._tools(activity)]
        parts = _refs(dict.fromkeys(each["@id"] for each in tools)) if has_steps else []
        self._parts.append(WORKFLOW)
        self._add(
            WORKFLOW,
            [*kinds, "HowTo"] if steps else kinds,
            name=f"Recorded steps of run {self._run}",
            description="No definition of a workflow was recorded. These are the steps that were.",
            encodingFormat="application/json",
            programmingLanguage={"@id": language},
            hasPart=parts,
            step=steps,
        )
        made = {recorded.iri_of(version) for version in recorded.versions}
        used = [each for activity in recorded.activities for each in activity.used]
        final = [each for each in recorded.present if each.is_final_output] or recorded.present
        self._mention(
            self._add(
                "#run",
                "CreateAction",
                name=f"Run {self._run}",
                instrument={"@id": WORKFLOW},
                agent=self._agents(dict.fromkeys(
                    agent for activity in recorded.activities for agent in activity.agents
                )),
                object=_refs(dict.fromkeys(
                    self._used(each) for each in used if each.iri not in made
                )),
                result=_refs(self._ids[recorded.iri_of(each)] for each in final),
                startTime=_iso(recorded.started_at),
                endTime=_iso(recorded.ended_at),
                actionStatus=_status(_STATUS.get(recorded.status or "")),
                error=shown(recorded.status_reason or "") if recorded.status == "failed" else None,
            )
        )  # fmt: skip

    def _steps(self) -> list[Entity]:
        """Add each step once, and a control action for each of its executions."""
        found: dict[str, Entity] = {}
        for activity in self._recorded.activities:
            if not (activity.node_id or activity.step_id):
                continue
            name = f"#step/{activity.step_key}"
            (tool,) = self._tools(activity)
            position = str(len(found) + 1)
            about = {"name": _step_name(activity), "position": position, "workExample": tool}
            found.setdefault(name, self._add(name, "HowToStep", **about))
            self._mention(
                self._add(
                    f"#control/{activity.key}",
                    "ControlAction",
                    name=f"execution of {shown(activity.name)}",
                    instrument={"@id": name},
                    object={"@id": f"#activity/{activity.key}"},
                )
            )
        return [*found.values()]


def _step_name(activity: Activity) -> str:
    return shown(" / ".join(filter(None, (activity.node_id, activity.step_id))))


def _refs(names: Iterable[str]) -> list[Entity]:
    return [{"@id": name} for name in names]


def _one(value: object) -> object:
    """Return the value of a list of one, as RO-Crate recommends it; everything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _status(name: str | None) -> Entity | None:
    return None if name is None else {"@id": f"http://schema.org/{name}"}


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(ns: int) -> str | None:
    """Return a time of a file; None for one that a date can't hold."""
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None
