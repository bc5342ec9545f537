"""Rendering of pages: templates, and how names, sizes and times are written."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from index.domain.units import human_size
from index.web.asked import url_of
from index.web.previews.visible import visible

if TYPE_CHECKING:
    from starlette.responses import Response

    from index.web.asked import Asked
    from index.web.failures import Failure
    from index.web.pages.page import Page

__all__ = ["login_url", "render", "render_failure", "render_login"]

_JSON: Final = 4_000
"""Characters of notes and of meta data that a page shows."""

_HEADING: Final = re.compile(r"(</?h)([1-6])\b")

_TITLES: Final = {
    400: "This can't be shown",
    401: "A token is needed",
    404: "Not found",
    410: "The bytes are not kept",
    503: "Not available now",
}


def render(page: Page, asked: Asked, context: dict[str, Any]) -> Response:
    """Return a page with the variables of its template."""
    return HTMLResponse(
        _rendered(
            page.template,
            asked.root,
            here=asked.next_page,
            is_owner=asked.grant.is_owner,
            **context,
        )
    )


def render_failure(failure: Failure, root: str) -> str:
    """Return the page of an answer that there is not."""
    title = _TITLES.get(failure.status, "This failed")
    return _rendered("failure.html", root, failure=failure, title=title).decode()


def render_login(root: str, wanted: str, refused: str | None) -> str:
    """Return the page that asks for a token.

    Parameters
    ----------
    wanted
        The URL of the page to go on to.
    refused
        Why the token was not taken; None if none was given.
    """
    action = login_url(root, wanted) if wanted else f"{root}/login"
    return _rendered("login.html", root, action=action, refused=refused).decode()


def login_url(root: str, wanted: str) -> str:
    """Return the URL of the page that asks for a token, and then goes on to another page."""
    return root + url_of("/login", next=wanted)


def _rendered(template: str, root: str, **context: object) -> bytes:
    variables = {"is_owner": False, "url": partial(_url, root), **context}
    text = _ENVIRONMENT.get_template(template).render(variables)
    # Names are shown by `visible`. This is for what is shown otherwise, such as in a form.
    return text.encode("utf-8", "replace")


def _url(root: str, *parts: object, **query: object) -> str:
    place = "/".join(quote(str(part), safe="") for part in parts)
    return root + url_of(f"/{place}", **query)


def _shown(value: object) -> object:
    """Return what a template writes of a value: without characters that hide or reorder text."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _name(text: str) -> str:
    """Return a name in one line. In contents, line ends and tabs stay as they are."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _below_headings(html: Markup) -> Markup:
    """Return HTML whose headings are two levels lower: below the heading of a page's section."""
    lower = _HEADING.sub(lambda found: f"{found[1]}{min(int(found[2]) + 2, 6)}", html)
    return Markup(lower)  # noqa: S704 - as safe as before: only digits of tags differ


def _when(text: str) -> Markup:
    """Return a time of ISO 8601: how long ago it was if that is less than a day, or its date."""
    moment = datetime.fromisoformat(text).astimezone(UTC)
    age = (datetime.now(UTC) - moment).total_seconds()
    if age < 0 or age >= 24 * 3600:
        shown = f"{moment:%Y-%m-%d}"
    elif age < 60:
        shown = "just now"
    elif age < 3600:
        shown = f"{_counted(int(age // 60), 'minute')} ago"
    else:
        shown = f"{_counted(int(age // 3600), 'hour')} ago"
    full = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    # Nothing here is the text of others: it was read as a time, and is written as one.
    return Markup(f'<time datetime="{moment.isoformat()}" title="{full}">{shown}</time>')  # noqa: S704


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _json_text(value: object) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=True)
    return text if len(text) <= _JSON else f"{text[:_JSON]}…"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("index.web"),
    autoescape=True,
    finalize=_shown,
    lstrip_blocks=True,
    trim_blocks=True,
    undefined=StrictUndefined,
)
_ENVIRONMENT.filters |= {
    "counted": _counted,
    "as_given": escape,  # what a form sends back must not be changed by `visible`
    "below_headings": _below_headings,
    "json": _json_text,
    "name": _name,
    "size": human_size,
    "visible": visible,
    "when": _when,
}
