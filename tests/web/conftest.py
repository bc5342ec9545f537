"""Fixtures: an application on a store, and a client that asks it."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from index.web import Grant, application


@pytest.fixture
def client_of(store):
    """Makes clients whose requests have a grant."""
    opened = []

    def make(grant=None, **settings):
        app = application(store, authorize=lambda _request: grant or Grant(), **settings)
        opened.append(app)
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)

    yield make
    for app in opened:
        app.state.close()


@pytest.fixture
def client(client_of):
    """A client that may see everything."""
    return client_of()


@pytest.fixture
def api(client):
    """Returns the JSON answer of a path of the API, which must be a success."""

    def get(place, /, **query):
        answer = client.get(f"/api/v1{place}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return get
