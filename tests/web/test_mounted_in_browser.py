"""The example of an application with its own users: who sees what, and the pages below a path."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect
from workflow import PNG, fill

from index import ArtifactStore

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def site(stores, tmp_path_factory):
    """The address of the example, which runs with a store in the current directory."""
    folder = tmp_path_factory.mktemp("site")
    work = folder / "work"
    work.mkdir()
    root = stores.make("sqlite-local", folder)["root"]
    Path(root).rename(folder / ".cas")
    with ArtifactStore.open(folder / ".cas") as store:
        fill(store, work)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", EXAMPLES, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--timeout-graceful-shutdown", "1", "serve_in_fastapi:app"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        while not (found := re.search(r"running on (http://[\d.:]+)", "".join(lines))):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        yield found[1]
    finally:
        process.terminate()
        process.communicate()


def ask(site, path, user=None):
    """Return status and body of an answer."""
    headers = {} if user is None else {"X-User": user}
    try:
        with urllib.request.urlopen(urllib.request.Request(site + path, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_users_see_their_sessions_and_strangers_see_nothing(site):
    def sessions(user):
        status, body = ask(site, "/runs/api/v1/runs", user)
        assert status == 200
        return {each["session"] for each in json.loads(body)["items"]}

    assert sessions("ada") == {"session-1"}
    assert sessions("root") == {"session-1", "session-2"}
    for path in ("/runs/", "/runs/api/v1/runs", "/runs/sessions/session-1/runs/run-1"):
        assert ask(site, path, "mallory")[0] == ask(site, path)[0] == 401
    assert ask(site, "/runs/sessions/session-2/runs/run-1", "ada")[0] == 404
    assert ask(site, "/runs/sessions/session-2/runs/run-1", "root")[0] == 200
    assert ask(site, "/runs/storage", "ada")[0] == 404


def test_pages_styles_changes_and_downloads_work_below_a_mount(open_window, site):
    with open_window(extra_http_headers={"X-User": "ada"}) as window:
        page = window.page
        window.visit(f"{site}/runs")
        assert page.url == f"{site}/runs/"
        page.get_by_role("link", name="run-1", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("run-1")
        expect(page.get_by_role("banner")).to_have_css("display", "flex")
        with page.expect_response("**/runs/api/v1/sessions/session-1/runs/run-1/events") as feed:
            page.reload()
        assert feed.value.status == 200
        page.get_by_label("Path pattern").fill("**/*.png")
        page.get_by_role("button", name="Filter").click()
        expect(page).to_have_url(f"{site}/runs/sessions/session-1/runs/run-1?glob=**%2F*.png")
        expect(page.get_by_role("status")).to_have_text("Shown: 1")
        page.get_by_role("link", name="plots/dot.png").click()
        image = page.get_by_role("img", name="The image itself")
        assert image.evaluate("each => each.decode().then(() => each.naturalWidth)") == 1
        links = [page.get_by_role("link", name="Download").get_attribute("href")]
        page.go_back()
        links.append(page.get_by_role("link", name="zip").get_attribute("href"))
    # Chromium's downloads do not have the header that stands for a login here.
    content, archive = (ask(site, link, "ada") for link in links)
    assert content == (200, PNG)
    assert zipfile.ZipFile(io.BytesIO(archive[1])).read("plots/dot.png") == PNG
