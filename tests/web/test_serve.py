"""`cas serve` as a process: its link, its token, its end."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.request
from functools import partial

import pytest
from cas_server import cas_server
from places import places

from index import ArtifactStore

place = places(["sqlite-local"])  # what a store answers, and how it is followed, is tested on each

PATIENCE_S = 60

STAYS = "what-readers-know"


@pytest.fixture
def serve(place, tmp_path):
    """Runs `cas serve` with arguments for a block."""
    return partial(cas_server, place, cwd=tmp_path)


@pytest.fixture
def recorded(store):
    store.session("session-1").run("run-1").put("a.txt", b"hello", agent="me")
    store.session("theirs").run("run-2").put("b.txt", b"theirs")


def test_the_link_opens_the_page_once_and_the_token_the_api(serve, recorded):
    with serve() as server:
        assert [*server.links] == ["all runs"]
        status, page = server.get(server.links["all runs"])
        assert status == 200
        assert b"run-1" in page
        assert b"run-2" in page
        assert server.get(server.links["all runs"])[0] == 401
        assert server.get("/api/v1/runs")[0] == 401
        (token,) = server.tokens
        runs = json.loads(server.get("/api/v1/runs", token)[1])["items"]
        assert {each["run"] for each in runs} == {"run-1", "run-2"}


def test_each_session_has_a_link_of_its_own(serve, recorded):
    with serve("--session", "session-1", "--session", "theirs") as server:
        assert [*server.links] == ["session session-1", "session theirs"]
        shown = [
            [each["run"] for each in json.loads(server.get("/api/v1/runs", token)[1])["items"]]
            for token in server.tokens
        ]
        assert shown == [["run-1"], ["run-2"]]
        _, page = server.get(server.links["session theirs"])
        assert b"run-1" not in page


def test_a_token_of_the_environment_stays(serve, recorded):
    with serve("--session", "session-1", CAS_TOKEN=STAYS) as server:
        assert server.tokens == [STAYS]
        assert server.get("/api/v1/runs", STAYS)[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_its_readers_of_events(serve, recorded, number):
    with serve() as server:
        (token,) = server.tokens
        request = urllib.request.Request(
            f"{server.address}/api/v1/events", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as events:
            assert events.readline() == b"retry: 2000\n"
            server.process.send_signal(number)
            assert server.process.wait(PATIENCE_S) == 0
        assert b"Traceback" not in server.process.stdout.read()


def test_events_tell_of_what_other_processes_record(serve, place, recorded):
    with serve() as server:
        (token,) = server.tokens
        request = urllib.request.Request(
            f"{server.address}/api/v1/sessions/session-1/runs/run-1/events",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as events:
            while not events.readline().startswith(b": connected"):
                pass
            with ArtifactStore.open(**place) as other:
                other.session("theirs").run("run-2").put("c.txt", b"not for this reader")
                other.session("session-1").run("run-1").put("c.txt", b"new")
            lines = iter(events.readline, b"")
            assert next(line for line in lines if line.startswith(b"event")) == b"event: change\n"
            change = json.loads(next(lines).removeprefix(b"data: "))
            assert (change["session"], change["run"], change["snapshot"]) == (
                "session-1", "run-1", 2,
            )  # fmt: skip


class TestWhatIsRefused:
    def test_a_port_that_is_taken(self, cas, store_root):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            code, _, err = cas("--store", store_root, "serve", "--port", port)
        assert code == 2
        assert f"127.0.0.1 port {port} can't be listened on: Address already in use" in err

    def test_a_session_that_is_not_there(self, cas, store_root):
        with ArtifactStore.open(store_root) as store:
            store.session("task-12").run("r").put("x", b"x")
        code, _, err = cas("--store", store_root, "serve", "--session", "task-13")
        assert code == 4
        assert "there is no session 'task-13' in this store; the closest is 'task-12'" in err

    def test_a_store_that_is_not_there(self, cas):
        assert cas("--store", "nowhere", "serve")[0] == 4

    def test_one_token_for_two_sessions(self, cas):
        code, _, err = cas("serve", "--token", "x" * 20, "--session", "a", "--session", "b")
        assert code == 2
        assert "--token goes with one session" in err

    def test_a_token_that_is_easy_to_guess(self, cas, store_root):
        code, _, err = cas("--store", store_root, "serve", "--token", "short")
        assert code == 2
        assert "a token is at least 16 printable ASCII characters" in err

    def test_a_missing_package_is_named(self, cas, store_root, monkeypatch):
        monkeypatch.setitem(sys.modules, "index.web", None)
        code, _, err = cas("--store", store_root, "serve")
        assert code == 1
        assert "run `pip install 'runcas[web]'`" in err
