"""Programs of others that judge exported documents, kept from the network."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

from jsonschema import Draft202012Validator
from ocfl.validator import Validator
from referencing import Registry, Resource
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import services
from rocrate_validator.models import Severity
from urllib3 import HTTPResponse

DATA = Path(__file__).parents[1] / "export" / "data"
FACETS = Path(__file__).parents[2] / "index" / "export"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"

RUN_CRATES = {name: f"{name}-run-crate" for name in ("process", "workflow", "provenance")}
"""The validator's names of the profiles. Each includes the checks of the base specification."""


class _FromData(HTTPAdapter):
    """Answers every request with the context of RO-Crate."""

    def send(self, request, **_):
        body = io.BytesIO((DATA / "ro-crate-1.1-context.json").read_bytes())
        kind = {"Content-Type": "application/ld+json"}
        return self.build_response(request, HTTPResponse(body, kind, 200, preload_content=False))


def crate_issues(crate, profile, folder):
    """Return what the required checks of a profile find wrong with a crate."""
    cache = folder / "http"
    with CachedSession(str(cache), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", _FromData())
        accepted = "application/ld+json, application/json, */*;q=0.1"  # a part of the cache's key
        session.get(CONTEXT, headers={"Accept": accepted})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it uses older names of rdflib
        result = services.validate(
            services.ValidationSettings(
                rocrate_uri=str(crate),
                profile_identifier=RUN_CRATES[profile],
                requirement_severity=Severity.REQUIRED,
                offline=True,
                cache_path=cache,
            )
        )
    assert len(result.executed_checks) > 40
    assert not result.skipped_checks
    return [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]


def judged_by_ocfl(root):
    """Return whether the validator of ocfl-py accepts an object, and the codes of its remarks."""
    validator = Validator()
    passed = validator.validate_object(str(root))
    return passed, {line[1:5] for line in str(validator.log).splitlines() if line[:1] == "["}


def _registry():
    schemas = [*(DATA / "openlineage").glob("*.json"), *FACETS.glob("*Facet.json")]
    contents = [json.loads(path.read_bytes()) for path in schemas]
    return Registry().with_resources(
        (content["$id"], Resource.from_contents(content)) for content in contents
    )


REGISTRY = _registry()


def _check(value, schema):
    Draft202012Validator(
        {"$ref": schema}, registry=REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).validate(value)


def check_event(event):
    """Raise ValidationError unless an event and all its facets are valid by their own schemas."""
    _check(event, event["schemaURL"])
    datasets = [*event["inputs"], *event["outputs"]]
    for holder in (event["run"], event["job"], *datasets):
        for kind in ("facets", "inputFacets", "outputFacets"):
            for facet in holder.get(kind, {}).values():
                _check(facet, facet["_schemaURL"])
