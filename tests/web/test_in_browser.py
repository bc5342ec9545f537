"""How each page looks in Chromium, to people and to axe: on a screen in light, on a dark phone."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from browser import DESKTOP, PHONE, overflows
from samples import samples
from served import served
from workflow import fill

from index import ArtifactStore
from index.web import Grant, Tokens, application

SAMPLES = samples()

RUN = "/sessions/session-1/runs/run-1"

PAGES = {
    "runs": "/",
    "run": RUN,
    "filtered": f"{RUN}?agent=engineer&order_by=-size",
    "names": "/sessions/session-1/runs/run-2?path=names",
    "timeline": f"{RUN}/timeline",
    "snapshot": f"{RUN}/snapshots/6",
    "file": f"{RUN}/file?path=data/samples.csv",
    "compare": f"{RUN}/compare?from=5&to=7&by=agent",
    "difference": "/sessions/session-1/difference?before={first}&after={second}",
    "images": "/sessions/session-1/difference?before={image}&after={image}",
    "blob": "/sessions/session-1/blobs/{digest}",
    "lineage": "/sessions/session-1/files/{made}/lineage?depth=5",
    "sources": "/sessions/session-1/files/{made}/lineage?direction=up&depth=1",
    "inputs": f"{RUN}/inputs",
    "outside": "/sessions/session-1/runs/run-2/inputs",
    "find": "/sessions/session-1/find?pattern=*.csv&all_versions=true",
    "storage": "/storage",
    "link": "/sessions/session-1/runs/links/file?path=link.txt",
    **{name: f"/sessions/session-1/runs/kinds/file?path={name}" for name in SAMPLES},
}

LOOKS = {"screen": {"size": DESKTOP}, "phone": {"size": PHONE, "dark": True}}

looks = pytest.mark.parametrize("look", LOOKS)


@pytest.fixture(scope="module")
def site(stores, tmp_path_factory):
    """The URLs of pages by name. They show runs, and a file of each kind."""
    folder = tmp_path_factory.mktemp("site")
    work, links = folder / "work", folder / "links"
    work.mkdir()
    links.mkdir()
    (links / "link.txt").symlink_to("elsewhere.txt")
    with ArtifactStore.open(**stores.make("sqlite-local", folder / "place")) as store:
        fill(store, work)
        session = store.session("session-1")
        session.run("kinds").put_many(SAMPLES.items(), agent="collector", phase="control")
        session.run("links").track(links)
        first, second = session.run("run-1").history("data/samples.csv")
        named = {
            "first": first.id,
            "second": second.id,
            "image": session.run("kinds").file("image.png").id,
            "made": session.run("run-1").file("plots/residuals.svg").id,
            "digest": session.run("run-1").file("copies/plan.md").digest,
        }
        with served(application(store, authorize=lambda _request: Grant())) as url:
            pages = {name: url + place.format(**named) for name, place in PAGES.items()}
            yield SimpleNamespace(store=store, url=url, pages=pages)


def look_at(window, name):
    """Draw the page if somebody keeps drawings; it must not need scrolling sideways."""
    if "CAS_KEEP_SCREENSHOTS" in os.environ:
        window.screenshot(name)
    assert not overflows(window.page), name


@looks
@pytest.mark.parametrize("part", range(4))
def test_a_page_fits_its_window_and_axe_finds_nothing_serious(open_window, site, look, part):
    with open_window(**LOOKS[look]) as window:
        for number, name in [*enumerate(PAGES)][part::4]:
            is_read = look == [*LOOKS][number // 4 % 2]  # in one of the two, for axe takes long
            if look == "screen" and not (is_read or "CAS_KEEP_SCREENSHOTS" in os.environ):
                continue  # what fits a phone fits a screen
            assert window.visit(site.pages[name]).ok
            if name == "compare":
                opened = window.page.locator("details")
                for each in opened.all():
                    each.locator("summary").click()
                window.page.locator(".lines .added").first.wait_for()
            if name in SAMPLES:
                kind = window.page.locator(f".preview-{name.partition('.')[0]}")
                assert kind.count() == 1, name
            look_at(window, name)
            if is_read:
                assert not window.serious(), name


@looks
def test_failures_and_the_login_fit_and_axe_finds_nothing_serious(open_window, site, look):
    tokens = Tokens({"the-owner-may-see-all": Grant()})
    with (
        served(application(site.store, authorize=tokens)) as guarded,
        open_window(**LOOKS[look]) as window,
    ):
        for name, url in {
            "failure": f"{site.url}{RUN}/file?path=none.txt",
            "login": f"{guarded}{RUN}",
            "refused-login": f"{guarded}/login?code=used",
        }.items():
            window.visit(url)
            look_at(window, name)
            assert look == "phone" or not window.serious(), name
        texts = [notice.text for notice in window.take()]
        assert ["404" in texts[0], "401" in texts[1], len(texts)] == [True, True, 2], texts
