"""The JSON API answers as its OpenAPI document says."""

from __future__ import annotations

import pytest
from api_conformance import Api, GenerationMode, answers
from places import places
from sample_api import sample
from schemathesis.core.failures import FailureGroup

from index import Reference
from index.web import Grant, Tokens, application
from index.web.endpoints import ENDPOINTS

place = places(["sqlite-local"])  # what a store answers is tested on each elsewhere

NEEDS_A_PATH = ("/file", "/versions", "/compare")

TOKEN = "what-the-owner-knows"  # noqa: S105 - of a store that the test makes


@pytest.fixture
def described(store):
    """The API of a store with two runs. Streams of events, which never end, are left out."""
    session = store.session("session-1")
    run = session.run("run-1")
    version = run.put("plan.md", b"# A plan", agent="planner", meta={"pages": 1})
    run.put("data/a.csv", b"n\n1\n", agent="engineer", phase="control")
    run.use("plan.md", Reference("s3://bucket/raw.csv", digest=version.digest), node_id="fit")
    run.put("fit.csv", b"n\n2\n", node_id="fit")
    run.put("plan.md", b"# A better plan")
    run.tag("best")
    session.run("run-2").put("plan.md", b"# Another plan")
    known = {"session": "session-1", "run": "run-1", "file_id": version.id, "number": 1}
    app = application(store, authorize=Tokens({TOKEN: Grant()}))
    yield Api(app, TOKEN, known={**known, "digest": str(version.digest)})
    app.state.close()


def operations(api):
    found = [each for each in api.operations() if not each.path.endswith("/events")]
    assert len(found) == len(ENDPOINTS)
    return found


@pytest.mark.slow
def test_answers_about_what_exists_are_as_documented(described):
    for operation in operations(described):
        found = answers(described, operation, known=True)
        assert found <= {200, 400, 404}, operation.label
        # Without the right path nothing is there, and other parameters are drawn as well.
        assert 200 in found or operation.path.endswith(NEEDS_A_PATH), operation.label


@pytest.mark.slow
def test_answers_about_anything_are_as_documented(described):
    for operation in operations(described):
        assert answers(described, operation) <= {200, 400, 404}, operation.label


@pytest.mark.slow
def test_requests_that_are_not_as_documented_are_refused(described):
    refused = [
        answers(described, operation, GenerationMode.NEGATIVE)
        for operation in operations(described)
    ]
    assert {400} <= set().union(*refused) <= {400, 404}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("crashes", "Server error"),
        ("undocumented status", "Undocumented status code"),
        ("wrong type", "Undocumented Content-Type"),
        ("wrong body", "Response violates schema"),
        ("lenient", "Schema-violating request accepted"),
        ("open to all", "API accepts requests without authentication"),
    ],
)
def test_an_api_that_breaks_its_document_is_noticed(fault, said):
    api = Api(sample(TOKEN, fault), TOKEN)
    listing, _one = api.operations()
    mode = GenerationMode.NEGATIVE if fault == "lenient" else GenerationMode.POSITIVE
    with pytest.raises(FailureGroup) as failed:
        answers(api, listing, mode)
    assert said in [failure.title for failure in failed.value.exceptions]
