"""Whether an API answers as its OpenAPI document says, on requests that Schemathesis draws.

Each answer must have a documented status, type and schema, and be no server error. A request
that breaks the document must be refused, and so must one without a valid token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis
from schemathesis import GenerationMode, openapi
from schemathesis.config import SchemathesisConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Api", "GenerationMode", "answers"]

_CONFIGURATION = {
    "seed": 0,
    # Constants in the sources of the application: every change of these would draw other requests.
    "analysis": {"constants": {"enabled": False}},
    # A parameter may be text that nothing can have, such as a path with "..".
    "checks": {"positive_data_acceptance": {"enabled": False}},
}
_HOST = "http://127.0.0.1"


@dataclass(frozen=True)
class Api:
    """An ASGI application with an OpenAPI document, and what a request needs to get something."""

    application: Any
    token: str
    document: str = "/api/v1/openapi.json"
    known: Mapping[str, Any] = field(default_factory=dict)
    """Path parameters of something that exists."""

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.token}"}

    def operations(self):
        """Return the operations that the document describes."""
        loaded = openapi.from_asgi(
            self.document,
            self.application,
            config=SchemathesisConfig.from_dict(_CONFIGURATION),
            headers={**self.headers, "Host": "127.0.0.1"},
        )
        return [found.ok() for found in loaded.get_all_operations()]


def answers(api, operation, mode=GenerationMode.POSITIVE, *, known=False):
    """Send requests of an operation, and check the answers; return their statuses.

    Requests are valid or not, by `mode`. With `known`, they are for something that exists. There
    are none if every request is valid, as for an operation whose one parameter is any name.
    """
    names = {parameter.name for parameter in operation.path_parameters}
    path = {name: value for name, value in api.known.items() if known and name in names}
    requests = operation.as_strategy(mode, headers=api.headers, path_parameters=path)
    statuses = set()

    @hypothesis.settings(
        max_examples=hypothesis.settings.default.max_examples // 5,
        suppress_health_check=[*hypothesis.HealthCheck],  # most strings are valid
    )
    @hypothesis.given(requests)
    def conforms(case):
        statuses.add(case.call_and_validate(base_url=_HOST).status_code)

    try:
        conforms()
    except hypothesis.errors.Unsatisfiable:
        if mode == GenerationMode.POSITIVE:
            raise
    return statuses
