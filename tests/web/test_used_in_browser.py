"""What people do with the pages in Chromium: log in, filter, go back, follow a run."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from browser import PHONE
from playwright.sync_api import expect
from served import served
from workflow import fill

from index import ArtifactStore
from index.web import Grant, Tokens, application

TOKEN = "the-owner-may-see-all"  # noqa: S105

PLACE = "/sessions/session-1/runs/run-1"

MANY = 250
"""Files of a directory that takes two pages."""


@pytest.fixture(scope="module")
def site(stores, tmp_path_factory):
    """A store with runs, served behind tokens, and for everybody."""
    folder = tmp_path_factory.mktemp("site")
    work = folder / "work"
    work.mkdir()
    place = stores.make("sqlite-local", folder / "place")
    tokens = Tokens({TOKEN: Grant()})
    with ArtifactStore.open(**place) as store:
        fill(store, work)
        many = store.session("session-1").run("many")
        many.put_many([(f"data/part-{number:03}.csv", b"1\n") for number in range(MANY)])
        with (
            served(application(store, authorize=lambda _request: Grant())) as url,
            served(application(store, authorize=tokens)) as guarded,
        ):
            yield SimpleNamespace(
                store=store, root=place["root"], url=url, guarded=guarded, tokens=tokens
            )


def rows(page):
    """Return what the first column of the results says."""
    return page.locator("#results tbody th").all_text_contents()


# To log in


def test_a_link_opens_the_pages_once_and_leaves_no_code_behind(open_window, site):
    link = f"{site.guarded}/login?code={site.tokens.make_code(TOKEN)}"
    with open_window() as window:
        window.visit(link)
        page = window.page
        assert page.url == f"{site.guarded}/"
        assert page.evaluate("document.cookie") == ""
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
        page.get_by_role("link", name="Storage").click()
        page.go_back()
        expect(page).to_have_url(f"{site.guarded}/")
        history = page.context.new_cdp_session(page).send("Page.getNavigationHistory")
        assert all("code" not in entry["url"] for entry in history["entries"])
    with open_window() as window:
        window.visit(link)
        expect(window.page.get_by_role("alert")).to_contain_text("This link was used before")
        (refused,) = window.take()
        assert "401" in refused.text


@pytest.mark.parametrize("scripts", [True, False])
def test_a_token_leads_to_the_page_that_was_asked_for(open_window, site, scripts):
    wanted = f"{site.guarded}{PLACE}/file?path=planning/plan.md&version=1"
    with open_window(scripts=scripts) as window:
        window.visit(wanted)
        page = window.page
        field = page.get_by_label("Token")
        field.fill("not-the-token-of-the-owner")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("This is not a token of this server.")
        assert [notice.text.count("401") for notice in window.take()] == [1]
        field.fill(TOKEN)
        field.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("plan.md")
        assert page.url == wanted


# To filter and to go back


def test_every_state_of_the_filters_has_a_url_and_back_leads_to_the_one_before(open_window, site):
    with open_window() as window:
        window.visit(f"{site.url}{PLACE}")
        page = window.page
        folders = rows(page)
        page.evaluate("window.stays = true")
        page.get_by_label("Agent").fill("engineer")
        page.get_by_role("button", name="Filter").click()
        expect(page).to_have_url(f"{site.url}{PLACE}?agent=engineer")
        expect(page.get_by_role("status")).to_have_text("Shown: 5")
        files = rows(page)
        assert "data/samples.csv" in files
        page.get_by_label("At snapshot or tag").fill("best")
        page.get_by_label("At snapshot or tag").press("Enter")
        expect(page).to_have_url(f"{site.url}{PLACE}?agent=engineer&at=best")
        expect(page.locator("#results")).to_contain_text("As of tag best")
        expect(page.locator("#command")).to_contain_text("--at best")
        assert "at=best" in page.get_by_role("link", name="zip").get_attribute("href")
        expect(page.get_by_role("button", name="Copy")).to_be_visible()
        assert page.evaluate("window.stays")
        at_tag = rows(page)
        page.reload()
        assert rows(page) == at_tag
        for url, shown, agent in (
            (f"{PLACE}?agent=engineer", files, "engineer"),
            (PLACE, folders, ""),
        ):
            page.go_back()
            expect(page).to_have_url(site.url + url)
            expect(page.locator("#results tbody th")).to_have_text(shown)
            expect(page.get_by_label("Agent")).to_have_value(agent)
            expect(page.get_by_label("At snapshot or tag")).to_have_value("")
        page.go_forward()
        expect(page.locator("#results tbody th")).to_have_text(files)


def test_a_search_without_a_result_says_so_to_eyes_and_ears(open_window, site):
    with open_window() as window:
        window.visit(site.url)
        page = window.page
        page.get_by_label("Name").fill("nothing")
        page.get_by_label("Name").press("Enter")
        expect(page.get_by_role("status")).to_contain_text("No run matches")
        expect(page.locator("#results .nothing")).to_be_visible()
        assert page.url == f"{site.url}/?matching=nothing"


def test_a_difference_is_read_when_it_is_opened(open_window, site):
    with open_window() as window:
        window.visit(f"{site.url}{PLACE}/compare?from=5&to=6")
        change = window.page.get_by_role("listitem").filter(has_text="planning/plan.md")
        expect(change.locator(".lines")).to_have_count(0)
        change.locator("summary").click()
        expect(change.locator(".lines .added")).to_have_text("+# Another plan")
        assert window.page.url.endswith("?from=5&to=6")


def test_the_command_is_copied(open_window, site):
    with open_window(permissions=["clipboard-read", "clipboard-write"]) as window:
        window.visit(f"{site.url}{PLACE}?path=data")
        window.page.get_by_role("button", name="Copy").click()
        expect(window.page.get_by_role("status")).to_have_text("The command is copied")
        copied = window.page.evaluate("navigator.clipboard.readText()")
        assert copied == "cas restore data --run run-1 --session session-1 --at 10"


def test_without_scripts_people_filter_page_look_and_compare(open_window, site):
    with open_window(scripts=False) as window:
        page = window.page
        window.visit(f"{site.url}{PLACE}")
        expect(page.get_by_role("button", name="Copy")).to_be_hidden()
        page.get_by_label("Agent").fill("planner")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("#results tbody th")).to_have_text(
            ["copies/plan.md", "planning/plan.json"]
        )
        page.get_by_role("link", name="planning/plan.json").click()
        expect(page.locator(".preview .tree")).to_contain_text("steps")
        window.visit(f"{site.url}{PLACE}/compare")
        page.get_by_label("From snapshot").fill("5")
        page.get_by_label("To snapshot").fill("6")
        page.get_by_role("button", name="Compare").click()
        change = page.get_by_role("listitem").filter(has_text="planning/plan.md")
        change.locator("summary").click()
        change.get_by_role("link", name="Show the difference").click()
        expect(page.locator(".lines .added")).to_have_text("+# Another plan")
        window.visit(f"{site.url}/sessions/session-1/runs/many?path=data")
        found = rows(page)
        page.get_by_role("link", name="Next page").click()
        expect(page.locator("#results tbody th")).to_have_count(MANY - len(found))
        assert len({*found, *rows(page)}) == MANY


@pytest.mark.parametrize("scripts", [True, False])
def test_people_go_from_a_run_to_what_is_out_of_date_and_what_it_was_made_from(
    open_window, site, scripts
):
    with open_window(size=PHONE, scripts=scripts) as window:
        page = window.page
        window.visit(f"{site.url}{PLACE}")
        if not scripts:
            page.get_by_role("link", name="Which files are out of date").click()
            assert page.url == f"{site.url}{PLACE}/inputs#stale"
        expect(page.get_by_role("heading", name="Out of date")).to_be_visible()
        page.get_by_role("link", name="plots/residuals.svg").last.click()
        page.get_by_role("link", name="What it was made from, step by step").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Lineage of residuals.svg")
        page.wait_for_load_state()  # the style sheet scrolls the graph to its end
        box = page.locator(".node.content rect").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE[0]
        found = page.locator("tbody tr").count()
        page.get_by_role("link", name="5 steps").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="5 steps")).to_have_attribute("aria-current", "page")
        assert page.locator("tbody tr").count() > found
        page.get_by_role("link", name="What was made from it").click()
        assert page.url.endswith("lineage?direction=down&depth=5")
        expect(page.locator(".nothing")).to_have_text("Nothing was noted.")


# With the keyboard alone


def focused(page):
    """Return what has the focus, after making sure that people see that."""
    page.wait_for_load_state()  # the style sheet draws the outline
    seen = page.evaluate(
        """() => {
            const element = document.activeElement, box = element.getBoundingClientRect();
            const style = getComputedStyle(element);
            return {
                text: element.labels?.[0]?.textContent || element.textContent.trim(),
                outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
                inside: box.width > 0 && box.top >= 0 && box.bottom <= innerHeight + 1,
            };
        }"""
    )
    assert seen["outline"] >= 2, seen
    assert seen["inside"], seen
    return seen["text"]


def test_the_keyboard_alone_reaches_the_filters_and_the_runs(open_window, site):
    with open_window(size=PHONE) as window:
        page = window.page
        window.visit(site.url)
        reached = []
        while "run-2" not in reached:
            page.keyboard.press("Tab")
            reached.append(focused(page))
        assert reached[0] == "Skip to the content"
        fields = ["Name", "Status", "Agent", "Session", "Filter", "Clear"]
        assert [each for each in reached if each in fields] == fields
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("run-2")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.id === 'main'")
        page.keyboard.press("Tab")
        assert focused(page) == "Runs"
        assert page.evaluate("document.activeElement.closest('main') !== null")


# To follow a run


def track(site, folder, run):
    """Record a directory as another process does."""
    command = [sys.executable, "-c", "from index.cli import main; main()", "--store", site.root]
    labels = ["--session", "session-1", "--run", run, "--agent", "writer"]
    subprocess.run([*command, "track", folder, *labels], check=True, capture_output=True)


MARK_LIVE_PARTS = """
addEventListener("DOMContentLoaded", () => {
  for (const each of document.querySelectorAll("[data-live]")) each.dataset.old = "";
});
"""


def follow(window, url):
    """Open a page, and wait until it follows changes.

    It then has replaced its live parts once: it reads them again when it is connected.
    """
    window.page.add_init_script(MARK_LIVE_PARTS)
    with window.page.expect_response("**/events"):
        window.visit(url)
    expect(window.page.locator("[data-live]")).not_to_have_count(0)
    expect(window.page.locator("[data-old]")).to_have_count(0)
    window.page.evaluate("window.stays = true")


def test_a_run_in_progress_shows_what_another_process_records(open_window, site, tmp_path):
    run = site.store.session("session-1").run("live")
    run.put_many([(f"part-{number:02}.csv", b"1\n") for number in range(40)])
    with open_window(size=PHONE) as window:
        page = window.page
        follow(window, f"{site.url}/sessions/session-1/runs/live")
        page.get_by_label("Path pattern").fill("half wri")
        link = page.get_by_role("link", name="part-20.csv")
        link.focus()
        page.evaluate("document.querySelector('#results .scroll').scrollLeft = 40")
        before = link.bounding_box()
        (tmp_path / "zz-new.csv").write_text("2\n")
        track(site, tmp_path, "live")
        expect(page.get_by_role("status")).to_have_text("live changed: snapshot 2")
        expect(page.get_by_role("link", name="zz-new.csv")).to_have_count(1)
        assert link.bounding_box() == pytest.approx(before, abs=1)
        assert page.evaluate("document.activeElement.textContent") == "part-20.csv"
        expect(page.get_by_label("Path pattern")).to_have_value("half wri")
        assert page.evaluate("window.stays")


def test_the_list_of_runs_shows_a_run_that_another_process_begins(open_window, site, tmp_path):
    with open_window() as window:
        page = window.page
        follow(window, f"{site.url}/?session=session-1")
        page.get_by_label("Agent").focus()
        (tmp_path / "a.txt").write_text("a\n")
        track(site, tmp_path, "begun")
        expect(page.locator("#results tbody th").first).to_have_text("begun")
        expect(page.get_by_role("status")).to_have_text("begun changed: snapshot 1")
        assert page.evaluate("document.activeElement.name") == "agent"
        assert page.evaluate("window.stays")


def test_a_change_while_a_filter_waits_for_its_answer_does_not_lose_the_answer(open_window, site):
    run = site.store.session("session-1").run("slow")
    run.put_many([("a.csv", b"1\n"), ("b.txt", b"1\n")])
    place = f"{site.url}/sessions/session-1/runs/slow"
    held = []
    with open_window() as window:
        page = window.page
        follow(window, place)
        page.route(f"{place}?*", lambda route: held.append(route), times=1)
        page.get_by_label("Path pattern").fill("**/*.csv")
        with page.expect_request(f"{place}?*"):
            page.get_by_label("Path pattern").press("Enter")
        with page.expect_response(place) as read_again:
            run.put("c.csv", b"2\n")
            expect(page.get_by_role("status")).to_have_text("slow changed: snapshot 2")
        assert read_again.value.finished() is None
        held[0].continue_()
        expect(page.get_by_role("status")).to_have_text("Shown: 2")
        expect(page.locator("#results tbody th")).to_have_text(["a.csv", "c.csv"])
        assert page.evaluate("window.stays")


def test_a_page_that_lost_its_connection_shows_what_it_missed(open_window, site):
    run = site.store.session("session-1").run("missed")
    run.put("a.txt", b"a\n")
    app = application(site.store, authorize=lambda _request: Grant())
    with served(app) as url, open_window() as window:
        follow(window, f"{url}/sessions/session-1/runs/missed")
        app.state.close()
        run.put("b.txt", b"b\n")
        expect(window.page.locator("#results tbody th")).to_have_text(["a.txt", "b.txt"])
        assert window.page.evaluate("window.stays")
