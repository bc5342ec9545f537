"""Migrations are what is tested here, so each is run by Alembic."""

from __future__ import annotations

import pytest

from index.db import schema


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.setattr(schema, "_migrate", schema._migrate.alone)
