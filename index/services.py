"""What the handles of one open store share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cas.store import BlobStore
    from index.classification import Classifier
    from index.database import Database
    from index.state import StateCache
    from index.tracking import TrackingService

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """Sessions and runs are ids and one of these."""

    database: Database
    blobs: BlobStore
    tracking: TrackingService
    states: StateCache
    clock: Callable[[], datetime]
    classifier: Classifier
