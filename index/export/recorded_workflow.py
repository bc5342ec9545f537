"""The steps of a run as a file, for crates that must have the file of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from index.export.names import shown

if TYPE_CHECKING:
    from index.export.activities import RecordedRun

__all__ = ["WORKFLOW", "workflow_of"]

WORKFLOW: Final = "recorded-workflow.json"
"""The steps as they were recorded, in a crate that must have the file of a workflow."""


def workflow_of(recorded: RecordedRun) -> dict[str, Any]:
    """Return the steps of a run as they were recorded."""
    return {
        "description": "Steps as they were recorded while they ran. This is not the definition"
        " that a workflow engine executed: none was recorded.",
        "run": shown(recorded.run),
        "steps": [
            {
                "node": each.node_id,
                "step": each.step_id,
                "event": each.event_id,
                "agents": each.agents,
                "phases": each.phases,
                "used": [shown(used.path or used.uri or used.iri) for used in each.used],
                "made": [shown(version.path) for version in each.made],
            }
            for each in recorded.activities
        ],
    }
