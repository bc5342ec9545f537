"""Statements over many values at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from cas.digest import Digest
from index.db import tables
from index.db.bulk import filled, one_of, typed_columns
from index.db.queries import blobs

NOW = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def known(store):
    """Record a thousand blobs and more; return their digests."""
    with store.context.blobs.batch() as batch:
        digests = [batch.add(b"%d" % number) for number in range(1_030)]
        written = batch.finish()
    with store.context.database.writing() as connection:
        packs = blobs.make_packs_live(connection, written.packs)
        blobs.insert_blobs(connection, written, packs, NOW - timedelta(days=9))
    return digests


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 500, 512, 513, 999, 1_000, 1_001, 1_030])
def test_exactly_those_that_are_there_are_found_whatever_their_number(store, known, count):
    strange = [Digest.of(b"strange %d" % number) for number in range(count // 3)]
    asked = [digest for pair in zip(strange, known, strict=False) for digest in pair]
    asked += known[len(strange) : count]
    with store.context.database.reading() as connection:
        assert blobs.find_known(connection, asked) == set(known[:count])


@pytest.mark.parametrize("count", [0, 1, 3, 1_000, 1_030])
def test_exactly_those_that_are_asked_for_are_touched_and_only_if_it_is_long_ago(
    store, known, count
):
    def touched():
        rows = connection.execute(
            text("SELECT count(*), min(touched_at) FROM cas_blobs WHERE touched_at IS NOT NULL")
        )
        return tuple(rows.one())

    with store.context.database.writing() as connection:
        blobs.touch(connection, known[:count], NOW, timedelta(days=10))
        assert touched()[0] == 0  # they are only nine days old
        blobs.touch(connection, known[:count], NOW, timedelta(days=8))
        found, when = touched()
        assert found == count
        blobs.touch(connection, known[:count], NOW + timedelta(days=7), timedelta(days=8))
        assert touched() == (found, when)


def test_whatever_was_condemned_is_taken_back(store, known):
    with store.context.database.writing() as connection:
        connection.execute(text("UPDATE cas_blobs SET condemned_at = created_at"))
        blobs.touch(connection, known[:5], NOW, timedelta(days=1_000))
        left = connection.scalar(
            text("SELECT count(*) FROM cas_blobs WHERE condemned_at IS NOT NULL")
        )
    assert left == len(known) - 5


def test_whole_columns_have_the_values_of_the_rows(store):
    session = store.session("s")
    run = session.run("r")
    run.put("a", b"1", meta={"n": [1, 2.0, None]}, is_final_output=True)
    run.put("\\b é", b"2")
    run.put("a", b"3")
    statements = [
        select(tables.files).order_by(tables.files.c.path, tables.files.c.version),
        select(tables.snapshots.c.created_at, tables.snapshots.c.scope),
    ]
    with store.context.database.reading() as connection:
        for statement in statements:
            rows = connection.execute(statement).all()
            found = list(zip(*typed_columns(connection, statement), strict=True))
            assert found == [tuple(row) for row in rows]
            types = [[type(value) for value in row] for row in found]
            assert types == [[type(value) for value in row] for row in rows]
            assert typed_columns(connection, statement.where(text("1 = 0"))) == []


@pytest.mark.parametrize("count", [0, 1, 3, 1_000])
def test_a_condition_holds_for_exactly_the_values_of_its_parameter(store, known, count):
    asked = [Digest.of(b"strange"), *known[:count]]
    statement = select(tables.blobs.c.digest).where(one_of(tables.blobs.c.digest, "digests"))
    with store.context.database.reading() as connection:
        rows = connection.execute(statement, {"digests": filled(connection, asked[:1_000])}).all()
        assert {row[0] for row in rows} == set(known[: min(count, 999)])
        assert not connection.execute(statement, {"digests": []}).all()
