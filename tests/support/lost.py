"""Lose the index of a store, below the API."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import MetaData, create_engine


def lose_index(place):
    """Remove the index of a store that nobody has open."""
    url = str(place.get("index", ""))
    if url.startswith("postgresql"):
        engine = create_engine(url)
        found = MetaData()
        found.reflect(engine)
        found.drop_all(engine)
        engine.dispose()
        return
    file = Path(url.removeprefix("sqlite:///")) if url else Path(place["root"], "index.db")
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(f"{file}{suffix}"):
            os.unlink(f"{file}{suffix}")
