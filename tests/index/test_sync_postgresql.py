"""Syncing to an index on a server that is killed, restarted or cut off loses nothing."""

from __future__ import annotations

import os
import threading

import pytest
from events import on_statement
from histories import histories, productions
from postgres import PostgresServer
from relay import Relay
from sqlalchemy import make_url
from trees import write

from index import ArtifactStore, SyncOutcome


@pytest.fixture(scope="module")
def server():
    """A server of this module's own, because tests kill it."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def url(server):
    return server.create_database()


@pytest.fixture
def source(store_root, work):
    with ArtifactStore.open(store_root) as opened:
        write(work, {f"d/{n}": os.urandom(50) for n in range(50)})
        run = opened.session("s").run("r")
        run.track(work)
        run.fork("f").put("a", b"1")
        run.rewind(0)
        yield opened


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT cas_runs.id",
        "SELECT digest",
        "INSERT INTO cas_packs",
        "INSERT INTO cas_blobs",
        "INSERT INTO cas_sessions",
        "INSERT INTO cas_runs",
        "INSERT INTO cas_files",
    ],
)
def test_a_server_killed_during_a_sync_and_started_again(server, source, url, tmp_path, statement):
    with ArtifactStore.open(index=url, blobs=tmp_path / "blobs") as destination:

        def kill():
            server.kill()
            threading.Timer(0.5, server.start).start()

        acted = on_statement(destination, statement, kill)
        report = source.sync_to(destination)
        assert acted
        assert len(report.of(SyncOutcome.COPIED)) == 2
        assert histories(destination) == histories(source)
        assert productions(destination) == productions(source)


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("statement", ["INSERT INTO cas_files", "INSERT INTO cas_blobs"])
def test_a_commit_whose_answer_is_lost(server, source, url, tmp_path, arrived, statement):
    with Relay(server.port) as relay:
        near = make_url(url).set(port=relay.port).update_query_dict({"sslmode": "disable"})
        with ArtifactStore.open(index=near, blobs=tmp_path / "blobs") as destination:
            on_statement(destination, statement, lambda: relay.cut_at(b"COMMIT", deliver=arrived))
            report = source.sync_to(destination)
            assert relay.cuts == 1
            assert len(report.of(SyncOutcome.COPIED)) == 2
            assert report.versions == 101
            assert histories(destination) == histories(source)
            assert productions(destination) == productions(source)
