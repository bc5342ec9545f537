"""What a page is: its path and its parameters, and how it asks the API for what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from index.web.endpoints import ENDPOINTS
from index.web.parameters import LABELLED, Kind, Parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.web.asked import Asked

__all__ = ["LABEL_FIELDS", "Page", "ask", "field", "position"]


class Page(NamedTuple):
    """A page, which is read with GET."""

    path: str
    """Below the mount of the application."""
    context: Callable[[Asked], dict[str, Any]]
    """Returns the variables of the template. All of them come from the API."""
    parameters: tuple[Parameter, ...]
    template: str
    """The name of a file in the directory of templates."""

    @property
    def name(self) -> str:
        """The name of the route."""
        return f"page_{self.context.__name__}"


def field(name: str, kind: Kind, description: str = "") -> Parameter:
    """Return a parameter that a form may leave empty. An empty field counts as not given."""
    return Parameter(
        name, Kind(kind.schema, lambda text: kind.read(text) if text else None), description
    )


LABEL_FIELDS: Final = tuple(
    field(each.name, each.kind, each.description) for each in LABELLED if each.name != "event_id"
)
"""Fields for phase, agent, node and step."""

_DEFAULTS: Final = {
    each.answer: {parameter.name: parameter.default for parameter in each.parameters}
    for each in ENDPOINTS
}


def ask(
    asked: Asked,
    answer: Callable[[Asked], dict[str, Any]],
    path: dict[str, object] | None = None,
    /,
    **values: object,
) -> dict[str, Any]:
    """Return an answer of the API.

    Parameters
    ----------
    answer
        A function of `index.web.api`.
    path
        Parameters in the path that the page does not have in its own.
    **values
        Parameters of the query. Those that are None have the default of the endpoint.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return answer(asked.asking({**_DEFAULTS[answer], **given}, **(path or {})))


def position(answer: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - of any JSON type
    """Return a field of the last item of a page, where the next page begins; None if none does."""
    return answer["items"][-1][name] if answer["next"] is not None else None
