"""A run as OpenLineage events. It needs the client of OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, uuid5

import attr
from openlineage.client import event_v2, facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, RunEvent, RunState
from openlineage.client.generated.base import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
)

from cas import __version__
from index.export.datasets import grouped, state_of_used, state_of_version
from index.export.names import escaped, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from index.export.activities import Activity, RecordedRun
    from index.export.datasets import DataSet

__all__ = ["RuncasVersionsDatasetFacet", "events_of"]

_PRODUCER: Final = f"urn:runcas:producer:{__version__}"

_LISTED: Final = 20
"""Files of a data set that its facet lists."""

_ENDS: Final = {
    "running": RunState.RUNNING, "failed": RunState.FAIL, "cancelled": RunState.ABORT
}  # fmt: skip
"""Events that end a run, by its status. Any other run has ended well, as far as is known."""


@attr.define
class RuncasVersionsDatasetFacet(DatasetFacet):
    """The versions of files in a data set; its schema is beside this module."""

    files: int
    size: int
    blake3: str | None
    versions: list[dict[str, Any]]

    @staticmethod
    def _get_schema() -> str:
        name = "RuncasVersionsDatasetFacet"
        return f"urn:runcas:schema:1-0-0:{name}.json#/$defs/{name}"


def events_of(recorded: RecordedRun, *, limit: int) -> Iterator[RunEvent]:
    """Yield the events of a run in the order of their times, as far as the parent allows it."""
    whole = next((each for each in recorded.activities if each.ids == (None, None, None)), None)
    begun = [recorded.started_at, whole and whole.started_at]
    seen = [each.seen for each in recorded.activities if each.seen]
    start = min([recorded.created_at, *(at for at in begun if at), *(first for first, _ in seen)])
    end = max([recorded.ended_at or recorded.recorded_at, *(last for _, last in seen)])
    made = _Events(recorded, limit)
    yield made.event(RunState.START, start, whole)
    for activity in recorded.activities:
        if activity is not whole and activity.seen is not None:
            first, last = activity.seen
            yield made.event(RunState.START, first, activity)
            state = RunState.FAIL if activity.failed else RunState.COMPLETE
            yield made.event(state, last, activity, is_end=True)
    how = _ENDS.get(recorded.status or "", RunState.COMPLETE)
    yield made.event(how if recorded.is_whole else RunState.RUNNING, end, whole, is_end=True)


class _Events:
    """Makes the events of a run."""

    def __init__(self, recorded: RecordedRun, limit: int) -> None:
        self._recorded = recorded
        self._limit = limit
        self._namespace = recorded.iri.rpartition("/")[0]
        self._job = f"run/{escaped(recorded.run)}"
        self._made_at = recorded.created_at.isoformat()

    def event(
        self, state: RunState, at: datetime, activity: Activity | None, *, is_end: bool = False
    ) -> RunEvent:
        """Return an event of an activity; of the run if that is None, or all of the run."""
        is_whole = activity is None or activity.ids == (None, None, None)
        job = self._job if activity is None or is_whole else activity.step_key
        kind = facet_v2.job_type_job.JobTypeJobFacet(
            "BATCH", "RUNCAS", "RUN" if is_whole else "STEP", producer=_PRODUCER
        )
        facets: dict[str, Any] = {} if is_whole else {"parent": self._parent()}
        reason = self._recorded.status_reason
        if state is RunState.FAIL and is_whole and reason:
            facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(
                shown(reason), "none", producer=_PRODUCER
            )
        key = "" if activity is None or is_whole else activity.key
        return RunEvent(
            eventTime=at.isoformat(),
            eventType=state,
            producer=_PRODUCER,
            run=event_v2.Run(self._id(key), facets),
            job=Job(self._namespace, job, {"jobType": kind}),
            inputs=self._inputs(activity) if activity else [],
            outputs=self._outputs(activity) if activity and is_end else [],
        )

    def _id(self, key: str) -> str:
        """Return the same id at each export of the run, and another one for a run made later."""
        return str(uuid5(NAMESPACE_URL, f"{self._recorded.iri}#{self._made_at}/{key}"))

    def _parent(self) -> facet_v2.parent_run.ParentRunFacet:
        parent = facet_v2.parent_run
        return parent.ParentRunFacet(
            parent.Run(self._id("")), parent.Job(self._namespace, self._job), producer=_PRODUCER
        )

    def _inputs(self, activity: Activity) -> list[InputDataset]:
        session = self._recorded.session
        made = []
        states = (state_of_used(each, session) for each in activity.used)
        for each in grouped(states, limit=self._limit):
            statistics = facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                size=each.size, fileCount=len(each.files), producer=_PRODUCER
            )
            facets: dict[str, InputDatasetFacet] = {"inputStatistics": statistics}
            made.append(InputDataset(*_name(each), facets, facets=_facets(each)))
        return made

    def _outputs(self, activity: Activity) -> list[OutputDataset]:
        made = []
        for each in grouped(map(state_of_version, activity.made), limit=self._limit):
            written = facet_v2.output_statistics_output_dataset
            statistics = written.OutputStatisticsOutputDatasetFacet(
                size=each.size, fileCount=len(each.files), producer=_PRODUCER
            )
            facets: dict[str, OutputDatasetFacet] = {"outputStatistics": statistics}
            made.append(OutputDataset(*_name(each), facets, facets=_facets(each)))
        return made


def _name(data: DataSet) -> tuple[str, str]:
    """Return the namespace and name of a data set. A run is a part of the name."""
    scheme, _, rest = data.place.partition("://")
    authority, _, folder = rest.partition("/")
    return f"{scheme}://{authority}", f"{folder}/{data.pattern}" if folder else data.pattern


def _facets(data: DataSet) -> dict[str, Any]:
    digest = None if data.digest is None else str(data.digest)
    listed = [
        {
            "path": each.path,
            "version": each.version,
            "blake3": each.digest and str(each.digest),
            **({} if each.loss is None else {"loss": shown(each.loss)}),
        }
        for each in data.files[:_LISTED]
    ]
    facets: dict[str, Any] = {
        "runcas_versions": RuncasVersionsDatasetFacet(
            len(data.files), data.size, digest, listed, producer=_PRODUCER
        )
    }
    if digest is not None:
        version = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet
        facets["version"] = version(f"blake3:{digest}", producer=_PRODUCER)
    return facets
